package metrics

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"godwit/handlers/socket"
	"godwit/handlers/traces"
	"godwit/internal/golden"
	"godwit/measure"
	"godwit/server"
	"godwit/server/presence"
	"godwit/server/relay"
	"godwit/server/session"
	"godwit/server/watch"
	"godwit/store"
)

// planter gives everything that is counted a value of its own.
type planter struct {
	last  int
	paths map[string]string // by value, as the page has it
}

func (p *planter) next(path string) int {
	p.last++
	p.paths[strconv.Itoa(p.last)] = path
	return p.last
}

// plant walks what v leads to: of numbers that count seconds, these.
func (p *planter) plant(v reflect.Value, path string) {
	if v.Kind() == reflect.Pointer && v.IsNil() || !v.CanInterface() {
		return
	}
	switch x := v.Interface().(type) {
	case *measure.Set:
		x.Read(func(word string, _ uint64) {
			for range p.next(path + " " + word) {
				x.Add(word)
			}
		})
		return
	case *measure.Histogram:
		x.Observe(time.Duration(p.next(path)) * time.Second)
		return
	case *atomic.Uint64:
		x.Store(uint64(p.next(path)))
		return
	case *atomic.Int64:
		x.Store(int64(p.next(path)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p.plant(v.Elem(), path)
	case reflect.Map:
		for _, key := range slices.SortedFunc(maps.Keys(keys(v)), strings.Compare) {
			p.plant(v.MapIndex(reflect.ValueOf(key)), path+" "+key)
		}
	case reflect.Array:
		for i := range v.Len() {
			p.plant(v.Index(i).Addr(), path+" "+strconv.Itoa(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				at := path + "." + f.Name
				if f.Anonymous {
					at = path
				}
				p.plant(v.Field(i).Addr(), at)
			}
		}
	case reflect.Int, reflect.Int64:
		n := int64(p.next(path))
		if v.Type() == reflect.TypeFor[time.Duration]() {
			n *= int64(time.Second)
		}
		v.SetInt(n)
	case reflect.Uint32:
		v.SetUint(uint64(p.next(path)))
	}
}

func keys(v reflect.Value) map[string]bool {
	out := make(map[string]bool)
	for _, k := range v.MapKeys() {
		out[k.String()] = true
	}
	return out
}

// still is a moment that lasts.
type still struct{ now *moment }

// elsewhere are the families that no number of a moment is behind.
var elsewhere = []string{
	"godwit_build_info", "godwit_ready", "godwit_not_ready", "godwit_drain_running",
	"godwit_redis_clock_ahead_seconds", "godwit_redis_script_seconds", "godwit_redis_script_failures_total",
}

func (s still) Describe(out chan<- *prometheus.Desc) {
	for _, f := range families {
		out <- f.desc
	}
}

func (s still) Collect(out chan<- prometheus.Metric) {
	for _, f := range families {
		if !slices.Contains(elsewhere, f.name) {
			f.read(s.now, sink{f, out})
		}
	}
}

// Each number on the page is the one that its name says: testdata/planted.txt has
// what is behind each, and was read by somebody.
func TestPage_EachNumberIsTheOneThatItsNameSays(t *testing.T) {
	now := &moment{
		Stats: server.Stats{
			Sessions: session.NewStats(), Relay: new(relay.Stats), Presence: new(presence.Stats), Ear: new(store.EarStats),
			Sweep: new(watch.Sweep), Calls: new(watch.Calls), Moves: map[string]*measure.Set{"drain": measure.NewSet("committed")},
			Refused: measure.NewSet("full"), Drains: measure.NewSet("done"), Drain: store.Drain{State: store.DrainRunning},
		},
		sockets: new(socket.Stats), cfg: &Config{Traces: traces.NewStats()},
	}
	p := &planter{paths: make(map[string]string)}
	for _, part := range []struct {
		name string
		of   any
	}{
		{"stats", &now.Stats},
		{"sockets", now.sockets},
		{"waiting", &now.waiting},
		{"pool", &now.pool},
		{"traces", now.cfg.Traces},
	} {
		p.plant(reflect.ValueOf(part.of), part.name)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(still{now})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || strings.Contains(series, "_bucket{") || strings.HasSuffix(strings.SplitN(series, "{", 2)[0], "seconds_count") {
			continue
		}
		path, known := p.paths[value]
		if !known {
			t.Errorf("%s is %s, which nobody has planted", series, value)
		}
		fmt.Fprintf(&b, "%s <- %s\n", series, path)
	}
	golden.Is(t, "testdata/planted.txt", []byte(b.String()))
}
