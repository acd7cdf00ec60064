package load

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/bench/floor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// marks are the parts that a load has announced.
type marks struct {
	mu    sync.Mutex
	names []string // guarded by mu
	parts []string // guarded by mu: that progress was told of
	bad   error    // what a mark answers
}

func (m *marks) Mark(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names = append(m.names, name)
	return m.bad
}

func (m *marks) Progress(part string, done, of int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if done < 1 || done > of {
		m.bad = errors.New("progress out of its range")
	}
	if !slices.Contains(m.parts, part) {
		m.parts = append(m.parts, part)
	}
}

// against is a small load of a hub that this test runs.
func against(t *testing.T, cfg Config) Config {
	t.Helper()
	s := httptest.NewServer(floor.New())
	t.Cleanup(s.Close)
	cfg.URLs = []string{"ws" + strings.TrimPrefix(s.URL, "http") + "/v1/ws"}
	cfg.Run, cfg.Payload, cfg.Parallel = "run", 128, 8
	cfg.InFlight = max(cfg.InFlight, 1)
	cfg.Token = func(user string) (string, error) { return "dev:" + user, nil }
	return cfg
}

func run(t *testing.T, cfg Config) (*Result, *marks) {
	t.Helper()
	m := &marks{}
	r, err := Run(t.Context(), cfg, m)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func TestFanout_CountsEachDeliveryOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"as fast as answered", Config{Work: "fanout", Rooms: 3, Members: 4, InFlight: 2, Warm: 0.02, Measure: 0.1}},
		{"paced", Config{Work: "fanout", Rooms: 3, Members: 4, InFlight: 10, Rate: 500, Measure: 0.2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m := run(t, against(t, c.cfg))
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			if r.Clients != 12 || r.Accepted == 0 || r.Delivered != 3*r.Accepted || r.Latency.Count != r.Delivered || r.Latency.P50 <= 0 {
				t.Errorf("%+v: want three deliveries of each message, each timed", r)
			}
			if c.cfg.Rate > 0 && (r.Accepted != 100 || r.Late.Count != 100 || r.Seconds < 0.19) {
				t.Errorf("%+v: want 500 a second for 0.2 s, each send's lateness counted", r)
			}
			if want := []string{"begin", "end"}; !slices.Equal(m.names, want) || m.bad != nil {
				t.Errorf("marks %v, %v; want %v", m.names, m.bad, want)
			}
		})
	}
}

// A message that is due while another stalls is as late as its receiver saw it,
// not as its sender got to it.
func TestFanout_LatencyCountsFromWhenASendWasDue(t *testing.T) {
	cfg := against(t, Config{Work: "fanout", Rooms: 1, Members: 2, InFlight: 1, Rate: 100, Measure: 0.5})
	const stall = 300 * time.Millisecond
	var once atomic.Bool
	cfg.Dial = spoil(func(frame []byte) [][]byte {
		if bytes.Contains(frame, []byte(`"result":{"seq":5,`)) && once.CompareAndSwap(false, true) {
			<-time.After(stall) // one answer
		}
		return [][]byte{frame}
	})
	r, _ := run(t, cfg)
	if err := r.Check(); err != nil || !once.Load() {
		t.Fatalf("%v; stalled: %v", err, once.Load())
	}
	// One in flight: those due during the stall are sent after it, a tenth of all
	// at least 200 ms late.
	if r.Accepted != 50 || r.Latency.P99 < 200 || r.Latency.P50 > 200 || r.Late.P99 < 200 {
		t.Errorf("%+v: want what was due during the stall to count as late", r)
	}
}

// spoiler does to a server's frames what a test wants.
type spoiler struct {
	net.Conn
	each func(frame []byte) [][]byte
	past bool // the upgrade
	in   []byte
	out  []byte
	// inject gets frames that nobody has sent. They come at once.
	inject chan []byte
	reads  chan read
	once   sync.Once
	closed chan struct{}
}

func (s *spoiler) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// read is what one read of the connection was.
type read struct {
	b   []byte
	err error
}

func spoil(each func(frame []byte) [][]byte) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		s := &spoiler{Conn: c, each: each, inject: make(chan []byte, 1), reads: make(chan read), closed: make(chan struct{})}
		go s.pump() // ends with the connection
		return s, nil
	}
}

func (s *spoiler) pump() {
	defer close(s.reads)
	for {
		buf := make([]byte, 4096)
		n, err := s.Conn.Read(buf)
		select {
		case s.reads <- read{buf[:n], err}:
		case <-s.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *spoiler) Read(b []byte) (int, error) {
	for len(s.out) == 0 {
		var err error
		select {
		case frame := <-s.inject:
			s.out = append(s.out, frame...)
			continue
		case r, more := <-s.reads:
			if err = r.err; !more {
				return 0, net.ErrClosed
			}
			s.in = append(s.in, r.b...)
		}
		if i := bytes.Index(s.in, []byte("\r\n\r\n")); !s.past && i >= 0 {
			s.past = true
			s.out, s.in = append(s.out, s.in[:i+4]...), s.in[i+4:]
		}
		for s.past {
			_, _, size, bad := cut(s.in)
			if bad != nil {
				return 0, bad
			}
			if size == 0 {
				break
			}
			for _, f := range s.each(slices.Clone(s.in[:size])) {
				s.out = append(s.out, f...)
			}
			s.in = s.in[size:]
		}
		if len(s.out) == 0 && err != nil {
			return 0, err
		}
	}
	n := copy(b, s.out)
	s.out = s.out[n:]
	return n, nil
}

func TestCheck_FindsAPlantedMiscount(t *testing.T) {
	settle := settleFor
	settleFor = 200 * time.Millisecond
	t.Cleanup(func() { settleFor = settle })
	event := func(seq string) []byte { return []byte(`"seq":` + seq + `,"kind":"message"`) }
	for _, c := range []struct {
		name string
		each func(once *atomic.Bool, frame []byte) [][]byte
		want string
	}{
		{"one is lost", func(once *atomic.Bool, f []byte) [][]byte {
			if bytes.Contains(f, event("7")) && once.CompareAndSwap(false, true) {
				return nil
			}
			return [][]byte{f}
		}, "the clients counted"},
		{"one comes twice", func(once *atomic.Bool, f []byte) [][]byte {
			if bytes.Contains(f, event("7")) && once.CompareAndSwap(false, true) {
				return [][]byte{f, f}
			}
			return [][]byte{f}
		}, "came twice or out of order"},
		{"one is lost and another comes twice", func(once *atomic.Bool, f []byte) [][]byte {
			if bytes.Contains(f, event("7")) {
				return nil
			}
			if bytes.Contains(f, event("8")) {
				once.Store(true)
				return [][]byte{f, f}
			}
			return [][]byte{f}
		}, "came twice or out of order"},
		{"one is somebody else's", func(once *atomic.Bool, f []byte) [][]byte {
			if bytes.Contains(f, event("7")) && once.CompareAndSwap(false, true) {
				return [][]byte{f, serverFrame(`{"jsonrpc":"2.0","method":"room.event","params":{"room":"r","seq":8,"kind":"message","data":1,"ts":1}}`)}
			}
			return [][]byte{f}
		}, "nobody here has sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := against(t, Config{Work: "fanout", Rooms: 1, Members: 3, InFlight: 2, Rate: 200, Measure: 0.1})
			var once atomic.Bool
			cfg.Dial = spoil(func(f []byte) [][]byte { return c.each(&once, f) })
			r, _ := run(t, cfg)
			if err := r.Check(); err == nil || !strings.Contains(err.Error(), c.want) || !once.Load() {
				t.Errorf("%+v: %v (planted: %v), want it to say %q", r, err, once.Load(), c.want)
			}
		})
	}
}

// serverFrame is one text frame of a server.
func serverFrame(text string) []byte {
	if n := len(text); n < 126 {
		return append([]byte{0x81, byte(n)}, text...)
	}
	return append([]byte{0x81, 126, byte(len(text) >> 8), byte(len(text))}, text...)
}

func TestFanout_WhoIsStalledIsNotWaitedFor(t *testing.T) {
	// As little as the sockets hold: the floor waits for ever.
	r, _ := run(t, against(t, Config{Work: "fanout", Rooms: 2, Members: 4, Stalled: 2, InFlight: 2, Rate: 100, Measure: 0.1}))
	if err := r.Check(); err != nil || r.Delivered != 2*r.Accepted || r.Accepted == 0 {
		t.Errorf("%+v, %v: want two of the three others in each room to count", r, err)
	}
}

func TestLogin_SomeComeAloneAndOthersAtOnce(t *testing.T) {
	r, m := run(t, against(t, Config{Work: "login", Rooms: 5, Members: 4}))
	if r.Clients != 20 || r.Alone != 10 || r.Accepted != 10 || r.Latency.Count != 10 || r.Check() != nil {
		t.Errorf("%+v, want ten alone and ten at once", r)
	}
	if want := []string{"rest", "alone", "begin", "end"}; !slices.Equal(m.names, want) {
		t.Errorf("marks %v, want %v", m.names, want)
	}
}

func TestIdle_NothingHappens(t *testing.T) {
	r, m := run(t, against(t, Config{Work: "idle", Rooms: 5, Members: 4, Measure: 0.1, Bye: true}))
	if r.Clients != 20 || r.Accepted != 0 || r.Seconds < 0.1 || r.Check() != nil {
		t.Errorf("%+v, want a rest of 0.1 s", r)
	}
	if want := []string{"empty", "begin", "end"}; !slices.Equal(m.names, want) {
		t.Errorf("marks %v, want %v", m.names, want)
	}
}

func TestPresence_WhoSharesTheRoomIsTold(t *testing.T) {
	cfg := against(t, Config{Work: "presence", Rooms: 2, Members: 3, InFlight: 4, Presence: true, Rate: 100, Warm: 0.1, Measure: 0.2})
	r, _ := run(t, cfg)
	if err := r.Check(); err != nil || r.Accepted != 20 || r.Delivered != 40 || r.Latency.Count != 40 || r.Latency.P50 <= 0 {
		t.Errorf("%+v, %v; want 20 changes that two each were told of, each timed", r, err)
	}
	var once atomic.Bool
	cfg.Dial = spoil(func(f []byte) [][]byte {
		if bytes.Contains(f, []byte(`"method":"presence"`)) && once.CompareAndSwap(false, true) {
			return [][]byte{bytes.Replace(f, []byte(`"user":"run-`), []byte(`"user":"nur-`), 1)}
		}
		return [][]byte{f}
	})
	cfg.Warm = 0
	settle := settleFor
	settleFor = 200 * time.Millisecond
	t.Cleanup(func() { settleFor = settle })
	if r, _ := run(t, cfg); r.Check() == nil || r.Strange != 1 || r.Delivered != 39 {
		t.Errorf("%+v of a notice about somebody else, want it found", r)
	}
}

func TestCalls_AnEventOfOneThatGoesOnIsFound(t *testing.T) {
	cfg := against(t, Config{Work: "calls", Rooms: 2, Members: 2, Rate: 50, Measure: 0.2})
	r, _ := run(t, cfg)
	if err := r.Check(); err != nil || r.Accepted != 10 || r.Delivered != 0 {
		t.Errorf("%+v, %v; want ten beats of which nobody is told", r, err)
	}
	var beats atomic.Int64
	cfg.Dial = spoil(func(f []byte) [][]byte {
		if bytes.Contains(f, []byte(`"result":{}`)) && beats.Add(1) == 3*4+2 { // hello, join and first beat of four, then two
			return [][]byte{f, serverFrame(`{"jsonrpc":"2.0","method":"room.event","params":{"room":"run/1","seq":9,"kind":"call","from":{"user":"","client":0},"in_call":false,"ts":1}}`)}
		}
		return [][]byte{f}
	})
	if r, _ := run(t, cfg); r.Check() == nil || r.Strange != 1 {
		t.Errorf("%+v of a call that has ended, want it found", r)
	}
}

// ender cuts, at the mark, what was dialled at the first address.
type ender struct {
	marks
	first string
	held  []net.Conn // guarded by mu
}

func (e *ender) Mark(ctx context.Context, name string) error {
	if name == "kill" {
		e.mu.Lock()
		for _, c := range e.held {
			c.Close()
		}
		e.mu.Unlock()
	}
	return e.marks.Mark(ctx, name)
}

func TestResume_AllComeBackElsewhere(t *testing.T) {
	for _, recovered := range []string{"true", "false"} {
		cfg := against(t, Config{Work: "resume", Rooms: 2, Members: 4})
		cfg.URLs = append(cfg.URLs, against(t, Config{}).URLs...)
		e := &ender{first: strings.TrimSuffix(strings.TrimPrefix(cfg.URLs[0], "ws://"), "/v1/ws")}
		refused := map[string]bool{}
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if addr != e.first && !refused[addr] { // the first that comes has to come again
				refused[addr] = true
				return nil, errors.New("not yet")
			}
			c, err := spoil(func(f []byte) [][]byte {
				if addr != e.first && bytes.Contains(f, []byte(`"result":{}`)) {
					return [][]byte{serverFrame(`{"jsonrpc":"2.0","id":1,"result":{"resumed":true,"rooms":[{"room":"r","recovered":` + recovered + `}]}}`)}
				}
				return [][]byte{f}
			})(ctx, network, addr)
			if addr == e.first {
				e.held = append(e.held, c)
			}
			return c, err
		}
		r, err := Run(t.Context(), cfg, e)
		if err != nil {
			t.Fatal(err)
		}
		if r.Delivered != 8 || r.Expected != 8 || r.Latency.Count != 8 || r.Tries != 9 || (r.Check() == nil) != (recovered == "true") {
			t.Errorf("%+v, %v with recovered %s; want eight back, one of them at its second try", r, r.Check(), recovered)
		}
		if want := []string{"kill", "end"}; !slices.Equal(e.names, want) {
			t.Errorf("marks %v, want %v", e.names, want)
		}
	}
}

// cutter cuts one socket when the work warms up.
type cutter struct {
	marks
	held chan net.Conn
}

func (c *cutter) Progress(part string, _, _ int) {
	if part == "warm up" {
		select {
		case conn := <-c.held:
			conn.Close()
		default: // done
		}
	}
}

func TestResume_ASocketLostBeforeIsAFailure(t *testing.T) {
	cfg := against(t, Config{Work: "resume", Rooms: 1, Members: 2, Warm: 5})
	cfg.URLs = append(cfg.URLs, cfg.URLs...)
	c := &cutter{held: make(chan net.Conn, 2)}
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		c.held <- conn
		return conn, err
	}
	if _, err := Run(t.Context(), cfg, c); err == nil || !strings.Contains(err.Error(), "lost before its node was ended") {
		t.Errorf("%v, want it said", err)
	}
}

func TestRun_SaysWhatWentWrong(t *testing.T) {
	refuse := func(what, with string) dialer {
		return spoil(func(f []byte) [][]byte {
			if bytes.Contains(f, []byte(what)) {
				return [][]byte{serverFrame(with)}
			}
			return [][]byte{f}
		})
	}
	for _, c := range []struct {
		name, want string
		spoil      func(*Config)
	}{
		{"nobody listens", "refused", func(c *Config) { c.URLs = []string{"ws://127.0.0.1:1/v1/ws"} }},
		{"no token", "no key", func(c *Config) { c.Token = func(string) (string, error) { return "", errors.New("no key") } }},
		{"a login is refused", "hello: refused", func(c *Config) {
			c.Dial = refuse(`"id":1,"result":{}`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":{"reason":"unauthorized"}}}`)
		}},
		{"a send is refused", "give a pace", func(c *Config) {
			c.Dial = refuse(`"result":{"seq"`, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"slow down","data":{"reason":"rate_limited"}}}`)
		}},
		{"no frame of the protocol", "neither answer nor notification", func(c *Config) { c.Dial = refuse(`"id":1,"result":{}`, `[]`) }},
		{"no such work", "no such work", func(c *Config) { c.Work = "sleep" }},
		{"a pace that nothing keeps", "more than is accepted", func(c *Config) {
			c.Rate = 1000
			c.Dial = spoil(func(f []byte) [][]byte { // one answer never comes
				if bytes.Contains(f, []byte(`"result":{"seq":1,`)) {
					return nil
				}
				return [][]byte{f}
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			late := behind
			behind = 50 * time.Millisecond
			t.Cleanup(func() { behind = late })
			cfg := against(t, Config{Work: "fanout", Rooms: 1, Members: 2, Measure: 0.2})
			c.spoil(&cfg)
			if r, err := Run(t.Context(), cfg, &marks{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v, %v; want it to say %q", r, err, c.want)
			}
		})
	}
	t.Run("the measurer cannot go on", func(t *testing.T) {
		want := io.ErrClosedPipe
		_, err := Run(t.Context(), against(t, Config{Work: "fanout", Rooms: 1, Members: 2, Measure: 0.1}), &marks{bad: want})
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	})
}

func TestStamp_ComesBack(t *testing.T) {
	b := make([]byte, stampDigits)
	for _, at := range []time.Duration{0, 1, 255, time.Hour, 1<<63 - 1} {
		putStamp(b, at)
		if got, ok := stamp(b); !ok || got != at {
			t.Errorf("%d came back as %d, %v", at, got, ok)
		}
	}
	for _, bad := range []string{"", "000000000000000", "00000000000000 0", "000000000000000G"} {
		if at, ok := stamp([]byte(bad)); ok {
			t.Errorf("%q is no time, was read as %d", bad, at)
		}
	}
}

func TestCut_TakesAFrameOnlyWhole(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte("x"), size)
		masked := appendFrame(nil, opText, payload)
		head := len(masked) - size - 4 // of a server: no mask
		frame := slices.Concat(masked[:head], payload)
		frame[1] &^= 0x80
		for n := range frame {
			if n > 20 && n < len(frame)-2 {
				continue
			}
			if _, _, got, err := cut(frame[:n]); got != 0 || err != nil {
				t.Fatalf("%d of %d bytes: a frame of %d, %v", n, len(frame), got, err)
			}
		}
		op, got, n, err := cut(append(frame, 1, 2, 3))
		if op != opText || !bytes.Equal(got, payload) || n != len(frame) || err != nil {
			t.Errorf("%d bytes: opcode %d, %d bytes of %d, %v", size, op, len(got), n, err)
		}
	}
	for _, bad := range [][]byte{{0x01, 0}, {0xc1, 0}, {0x81, 0x80}, {0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0}} {
		if _, _, _, err := cut(bad); err == nil {
			t.Errorf("%x was taken", bad)
		}
	}
}

func TestQuantiles_AreOfWhatWasRecorded(t *testing.T) {
	h := newHistogram()
	for i := range 1000 {
		record(h, time.Duration(i+1)*time.Millisecond)
	}
	record(h, -time.Second)
	record(h, time.Hour)
	q := quantiles(h)
	near := func(got, want float64) bool { return got > want*0.998 && got < want*1.002 }
	if q.Count != 1002 || !near(q.P50, 500) || !near(q.P99, 991) || !near(q.P999, 1000) || !near(q.Max, float64(highest)/perMilli) {
		t.Errorf("%+v of 1 to 1,000 ms, one below and one above all", q)
	}
}
