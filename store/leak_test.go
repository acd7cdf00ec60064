package store

import (
	"testing"

	"go.uber.org/goleak"

	"godwit/internal/redistest"
)

// No test of this package leaves a goroutine.
func TestMain(m *testing.M) {
	// The library's last dial to a primary that died ends by itself, a second after
	// its pool was closed.
	goleak.VerifyTestMain(ends{m}, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// ends ends the sets that the tests have shared.
type ends struct{ *testing.M }

func (e ends) Run() int {
	defer redistest.EndSets()
	return e.M.Run()
}
