package e2e

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"godwit/e2e/fleet"
)

var (
	long = flag.Bool("story", false, "run the stories in their long form")
	seed = flag.Uint64("seed", 0, "repeat the choices of a run; 0 takes new ones")
	runs = flag.Int("runs", 1, "how many seeds of chaos")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(fleet.Main(m))
}

// choices are a test's random choices, by a seed that is printed.
func choices(t *testing.T) (*rand.Rand, uint64) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("choices are those of -seed=%d", s)
	return rand.New(rand.NewPCG(s, 0)), s
}
