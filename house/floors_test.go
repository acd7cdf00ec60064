// Package house holds the tests that guard how the house is built: who may
// import whom, that every package says what it is, that files stay readable.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floor is a part of the tree and what it may import of ours. An import only
// goes down.
type floor struct {
	part string
	may  []string // "" is anything of ours
}

// floors, the more special part first.
var floors = []floor{
	{"cmd", []string{""}},
	{"e2e", []string{""}},
	{"bench", []string{"bench"}},
	{"house", nil},
	{"k8s", []string{""}},
	{"handlers", []string{"handlers", "server", "wire", "rules", "store", "measure", "trace"}},
	{"client", []string{"client", "wire", "rules"}},
	{"server", []string{"server", "store", "wire", "rules", "measure", "trace"}},
	{"store", []string{"store", "rules", "measure", "trace"}},
	{"migrations", []string{"migrations", "store", "rules"}},
	{"measure", nil},
	{"trace", nil},
	{"rules", []string{"rules"}},
	{"wire", []string{"wire"}},
	{"internal", []string{""}}, // helpers of tests
}

// tenants are libraries that have their place: nobody else imports them.
var tenants = map[string][]string{
	"github.com/redis/go-redis":            {"store", "migrations", "cmd", "e2e", "internal"},
	"github.com/lxzan/gws":                 {"handlers", "client", "e2e", "bench/floor"},
	"github.com/HdrHistogram":              {"bench/load"},
	"github.com/kelseyhightower/envconfig": {"cmd"},
	"github.com/spf13/cobra":               {"cmd"},
	"github.com/go-chi/chi":                {"handlers", "cmd"},
	"github.com/danielgtaylor/huma":        {"handlers"},
	"github.com/alicebob/miniredis":        {"store", "internal"},
	"github.com/golang-jwt/jwt":            {"server/auth", "cmd", "e2e"},
	"github.com/go-json-experiment/json":   {"wire", "client", "server", "store", "handlers", "cmd", "e2e"},
	"github.com/MicahParks":                {"server/auth"},
	"github.com/prometheus":                {"handlers/metrics"},
	"go.opentelemetry.io":                  {"handlers/traces"},
	"google.golang.org/protobuf":           {"handlers/traces"},
	"github.com/rs/xid":                    {"server", "cmd"},
	"golang.org/x/sync":                    {"server", "client", "e2e", "cmd"},
}

const module = "godwit/"

// complaint says what is wrong with an import of a file, or "".
func complaint(file, imported string, test bool) string {
	i := slices.IndexFunc(floors, func(f floor) bool { return under(file, f.part) })
	if i < 0 {
		return "stands on no floor: name it in floors"
	}
	f := floors[i]
	if ours, ok := strings.CutPrefix(imported, module); ok {
		if test { // a test may stand on test helpers and look at its neighbours
			return ""
		}
		if !slices.ContainsFunc(f.may, func(p string) bool { return p == "" || under(ours+"/", p) }) {
			return fmt.Sprintf("%s may not import %s: an import only goes down", f.part, imported)
		}
		return ""
	}
	if f.part == "rules" && !test && strings.Contains(imported, ".") {
		return "rules are pure: the standard library only"
	}
	for lib, homes := range tenants {
		if test || imported != lib && !strings.HasPrefix(imported, lib+"/") {
			continue
		}
		if !slices.ContainsFunc(homes, func(h string) bool { return under(file, h) }) {
			return fmt.Sprintf("%s stands only in %v", lib, homes)
		}
	}
	return ""
}

func under(path, part string) bool { return strings.HasPrefix(path, part+"/") }

// sources calls f with every Go file of the project, its path from the root.
func sources(t *testing.T, f func(path string, file *ast.File, lines int)) {
	t.Helper()
	const root = ".."
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools" || name == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, b, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		n++
		f(filepath.ToSlash(rel), file, strings.Count(string(b), "\n"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Fatalf("only %d files seen: the walk is wrong", n)
	}
}

func TestFloors_AnImportOnlyGoesDown(t *testing.T) {
	sources(t, func(path string, file *ast.File, _ int) {
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why := complaint(path, imported, strings.HasSuffix(path, "_test.go")); why != "" {
				t.Errorf("%s imports %s: %s", path, imported, why)
			}
		}
	})
}

func TestFloors_FindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		bad            bool
	}{
		{"rules/order/order.go", "godwit/store", true},
		{"rules/order/order.go", "time", false},
		{"rules/order/order.go", "golang.org/x/sync/errgroup", true},
		{"store/room.go", "godwit/wire", true},
		{"store/room.go", "github.com/redis/go-redis/v9", false},
		{"server/node.go", "github.com/redis/go-redis/v9", true},
		{"server/node.go", "godwit/handlers/socket", true},
		{"server/relay/relay.go", "godwit/store", false},
		{"server/node.go", "github.com/lxzan/gws", true},
		{"handlers/socket/conn.go", "github.com/lxzan/gws", false},
		{"handlers/admin/x.go", "github.com/kelseyhightower/envconfig", true},
		{"cmd/godwit/drain.go", "github.com/danielgtaylor/huma/v2", true},
		{"client/conn.go", "godwit/server", true},
		{"client/conn.go", "godwit/wire", false},
		{"client/redirect.go", "godwit/rules/redirect", false},
		{"client/redirect.go", "godwit/store", true},
		{"wire/frame.go", "godwit/rules/order", true},
		{"bench/load/crowd.go", "godwit/wire", true},
		{"bench/load/crowd.go", "github.com/lxzan/gws", true},
		{"wire/chatd/chatd.go", "godwit/wire/command", false},
		{"cmd/godwit/serve.go", "godwit/store", false},
		{"store/stats.go", "godwit/measure", false},
		{"store/stats.go", "github.com/prometheus/client_golang/prometheus", true},
		{"rules/order/order.go", "godwit/measure", true},
		{"measure/measure.go", "godwit/rules/order", true},
		{"handlers/admin/api.go", "github.com/prometheus/client_golang/prometheus", true},
		{"handlers/metrics/metrics.go", "github.com/prometheus/client_golang/prometheus", false},
		{"store/lanes.go", "godwit/trace", false},
		{"rules/order/order.go", "godwit/trace", true},
		{"trace/trace.go", "godwit/store", true},
		{"server/relay/timed.go", "go.opentelemetry.io/proto/otlp/trace/v1", true},
		{"handlers/traces/post.go", "go.opentelemetry.io/proto/otlp/trace/v1", false},
		{"attic/x.go", "fmt", true},
	} {
		if why := complaint(c.file, c.imported, false); (why != "") != c.bad {
			t.Errorf("%s importing %s: %q", c.file, c.imported, why)
		}
	}
}

func TestPackages_SayWhatTheyAre(t *testing.T) {
	docs := map[string]string{}
	sources(t, func(path string, file *ast.File, _ int) {
		dir := filepath.Dir(path)
		if strings.HasSuffix(path, "_test.go") && dir != "house" {
			return
		}
		docs[dir] += file.Doc.Text()
	})
	for dir, doc := range docs {
		if len(strings.Fields(doc)) < 8 {
			t.Errorf("package %s has no doc that says what it decides or owns", dir)
		}
	}
}

// longest is how many lines a file may have and still be read in a sitting.
const longest = 450

func TestFiles_CanBeReadInASitting(t *testing.T) {
	sources(t, func(path string, _ *ast.File, lines int) {
		if lines > longest && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines, at most %d: split it by subject", path, lines, longest)
		}
	})
}

func TestTests_WaitForTheThing(t *testing.T) {
	sources(t, func(path string, file *ast.File, _ int) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && !strings.Contains(path, "synctest") {
				t.Errorf("%s sleeps: wait for the thing", path)
			}
			return true
		})
	})
}
