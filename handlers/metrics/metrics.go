// Package metrics shows what a node counts, as Prometheus reads it.
//
// It owns the names, the labels and what they say (families.go, from which
// docs/metrics.md is written), and nothing of what is counted: that is each
// package's own, in its Stats. Nothing is gathered but when somebody asks.
package metrics

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"godwit/handlers/socket"
	"godwit/handlers/traces"
	"godwit/measure"
	"godwit/server"
	"godwit/store"
)

// Config is what is shown.
type Config struct {
	Node     *server.Node
	Sockets  *socket.Handler
	Store    *store.Store
	Revision string        // of the node
	Version  string        // of the binary
	Traces   *traces.Stats // nil: the node sends none
	Log      *slog.Logger
}

// Metrics shows a node.
type Metrics struct {
	cfg   Config
	admin *prometheus.CounterVec
	page  http.Handler
}

const (
	// prefix begins every name, also of what the Go runtime and the process tell.
	prefix = "godwit_"
	// atOnce is how many may ask at a time, and within how long one is answered.
	atOnce = 4
	within = 10 * time.Second
)

// New makes the page of a node.
func New(cfg Config) *Metrics {
	if cfg.Traces == nil {
		cfg.Traces = traces.NewStats()
	}
	m := &Metrics{cfg: cfg, admin: prometheus.NewCounterVec(prometheus.CounterOpts{Name: adminRequests.name, Help: adminRequests.help}, adminRequests.labels)}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m, m.admin, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "godwit"}))
	prometheus.WrapRegistererWithPrefix(prefix, reg).MustRegister(collectors.NewGoCollector())
	m.page = promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: atOnce, Timeout: within, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	})
	return m
}

// ServeHTTP shows everything.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.page.ServeHTTP(w, r) }

// Served counts a request to the admin listener; route is a pattern of a path.
func (m *Metrics) Served(route, method string, status int) {
	m.admin.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
}

// Describe is prometheus.Collector's.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, f := range families {
		out <- f.desc
	}
}

// Collect is prometheus.Collector's.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	now := moment{
		Stats: m.cfg.Node.Stats(), state: m.cfg.Node.State(), sockets: &m.cfg.Sockets.Stats, waiting: m.cfg.Sockets.Waiting(),
		store: m.cfg.Store, pool: m.cfg.Store.Pool(), cfg: &m.cfg,
	}
	for _, f := range families {
		f.read(&now, sink{f, out})
	}
}

// moment is a node when somebody asks.
type moment struct {
	server.Stats
	state   server.State
	sockets *socket.Stats
	waiting socket.Waiting
	store   *store.Store
	pool    store.Pool
	cfg     *Config
}

// sink takes the values of a family.
type sink struct {
	of  *family
	out chan<- prometheus.Metric
}

// value tells one value; its labels are in the family's order.
func (s sink) value(v float64, labels ...string) {
	kind := prometheus.GaugeValue
	if s.of.kind == counter {
		kind = prometheus.CounterValue
	}
	s.out <- prometheus.MustNewConstMetric(s.of.desc, kind, v, labels...)
}

// set tells every word of a Set, as the last label.
func (s sink) set(set *measure.Set, labels ...string) {
	set.Read(func(word string, n uint64) {
		s.value(float64(n), append(append([]string(nil), labels...), word)...)
	})
}

// times tells a histogram.
func (s sink) times(h *measure.Histogram, labels ...string) {
	r := h.Read()
	buckets := make(map[float64]uint64, len(r.Within))
	for i, n := range r.Within {
		buckets[measure.Bounds[i].Seconds()] = n
	}
	s.out <- prometheus.MustNewConstHistogram(s.of.desc, r.Count, r.Sum.Seconds(), buckets, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
