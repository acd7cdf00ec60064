package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"godwit/internal/redisset"
)

// binary is built once in a test process.
var binary struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// godwit is the path of the program under test.
func godwit(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		binary.dir, binary.err = os.MkdirTemp("", "godwit-e2e-")
		if binary.err != nil {
			return
		}
		binary.path = filepath.Join(binary.dir, "godwit")
		args := []string{"build", "-o", binary.path}
		if raceFlag != "" {
			args = append(args, raceFlag)
		}
		cmd := exec.Command("go", append(args, "godwit/cmd/godwit")...)
		_, file, _, _ := runtime.Caller(0)
		cmd.Dir = filepath.Dir(file)
		if out, err := cmd.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("build the node: %w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// Main runs a package's tests and removes what was built for them.
func Main(m *testing.M) int {
	code := m.Run()
	if binary.dir != "" {
		os.RemoveAll(binary.dir)
	}
	return code
}

// redisServer is the path of redis-server, without which nothing here runs.
func redisServer(t testing.TB) string {
	t.Helper()
	path, err := redisset.Path()
	if err != nil {
		t.Fatalf("%v; on Debian and Ubuntu type: sudo apt-get install -y redis-server", err)
	}
	return path
}
