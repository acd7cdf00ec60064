package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"godwit/internal/redisset"
)

// needRedis runs scripts/need-redis where the only programs are those given, by
// name and by what they do.
func needRedis(t *testing.T, programs map[string]string, env ...string) (code int, said string) {
	t.Helper()
	// Read here, so that the test runs anew when the script has changed.
	script, err := os.ReadFile("../../scripts/need-redis")
	if err != nil {
		t.Fatal(err)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, does := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!"+bash+"\n"+does+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), bash, "-c", string(script))
	cmd.Dir, cmd.Env = dir, append(env, "PATH="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestNeedRedis_NeverPassesWithoutIt(t *testing.T) {
	chmod, err := exec.LookPath("chmod")
	if err != nil {
		t.Fatal(err)
	}
	const (
		nobody  = "echo 1000"
		root    = "echo 0"
		refused = "echo ran >&2; exit 1" // a package manager that must not be asked
		nothing = "exit 0"
		mute    = `[ "$*" = "install -y redis" ]` // says that it installed, and did not
	)
	works := `[ "$*" = "install -y redis" ] && : >redis-server && ` + chmod + ` +x redis-server`
	for _, c := range []struct {
		name     string
		programs map[string]string
		passes   bool
		want     string // all that is said
	}{
		{"it is there", map[string]string{"redis-server": nothing, "id": nobody, "apt-get": refused}, true, ""},
		{
			"missing, with apt-get, not root",
			map[string]string{"id": nobody, "apt-get": refused, "dnf": refused},
			false, "redis-server is missing, and the tests need it. Type: sudo apt-get install -y redis-server\n",
		},
		{
			"missing, with dnf, not root",
			map[string]string{"id": nobody, "dnf": refused},
			false, "redis-server is missing, and the tests need it. Type: sudo dnf install -y redis\n",
		},
		{
			"missing, with apk, not root",
			map[string]string{"id": nobody, "apk": refused},
			false, "redis-server is missing, and the tests need it. Type: sudo apk add redis\n",
		},
		{
			"missing, with brew, which wants no root",
			map[string]string{"id": nobody, "brew": refused},
			false, "redis-server is missing, and the tests need it. Type: brew install redis\n",
		},
		{
			"missing, with nothing to install it",
			map[string]string{"id": nobody},
			false, "redis-server is missing, and no package manager that this script knows is here: install Redis 6.2 or newer.\n",
		},
		{
			"missing, root, installed",
			map[string]string{"id": root, "dnf": works},
			true, "installing redis-server: dnf install -y redis\n",
		},
		{
			"missing, root, still missing after that",
			map[string]string{"id": root, "dnf": mute},
			false, "installing redis-server: dnf install -y redis\n",
		},
		{
			"missing, root, cannot be installed",
			map[string]string{"id": root, "dnf": "exit 1"},
			false, "installing redis-server: dnf install -y redis\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, said := needRedis(t, c.programs)
			if (code == 0) != c.passes || said != c.want {
				t.Errorf("exit %d, said %q; want it to pass: %v, and %q", code, said, c.passes, c.want)
			}
			if n := strings.Count(said, "\n"); n > 1 {
				t.Errorf("%d lines, want the one to type", n)
			}
		})
	}
}

func TestNeedRedis_TakesTheProgramThatIsNamed(t *testing.T) {
	there := map[string]string{"redis-server": "exit 0", "valkey-server": "exit 0"}
	for name, want := range map[string]string{
		"valkey-server": "",
		"keydb-server":  "GODWIT_TEST_REDIS_SERVER: no program keydb-server is here.\n",
	} {
		code, said := needRedis(t, there, redisset.Program+"="+name)
		if (code == 0) != (want == "") || said != want {
			t.Errorf("%s: exit %d, said %q, want %q", name, code, said, want)
		}
	}
}
