package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
)

// roomAt is a room whose keys a primary has.
func roomAt(t *testing.T, c *redisset.Cluster, at *redisset.Server, nth int) string {
	t.Helper()
	for i := 0; ; i++ {
		room := fmt.Sprintf("room %d", i)
		have, err := c.Primary(t.Context(), keysOfRoom(room).meta())
		if err != nil {
			t.Fatal(err)
		}
		if have != at {
			continue
		}
		if nth == 0 {
			return room
		}
		nth--
	}
}

func primaries(t *testing.T, c *redisset.Cluster) []*redisset.Server {
	t.Helper()
	all, err := c.Primaries(t.Context())
	if err != nil || len(all) != redisset.Shards {
		t.Fatalf("%d primaries, %v", len(all), err)
	}
	return all
}

// healed has the Cluster ready again when the test is over.
func healed(t *testing.T, c *redisset.Cluster) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, s := range c.Servers() {
			_ = s.Cont() // it may not be frozen
			if !s.Runs() {
				if err := s.Start(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// quick has a primary replaced soon, and again soon after, for this test.
func quick(t *testing.T, c *redisset.Cluster) {
	t.Helper()
	set := func(ctx context.Context, d time.Duration) {
		if err := c.NodeTimeout(ctx, d); err != nil {
			t.Error(err)
		}
	}
	set(t.Context(), 2*time.Second)
	t.Cleanup(func() { set(context.Background(), redistest.NodeTimeout) })
}

// talk sends to a room with cseqs, some under way at once, until stop; what is
// unavailable is sent again, in order. accepted says how many were.
func talk(t *testing.T, s *Store, room string, m Member, stop <-chan struct{}, accepted *atomic.Uint64) {
	t.Helper()
	for next := uint64(1); ; {
		accepted.Store(next - 1)
		select {
		case <-stop:
			return
		default:
		}
		type result struct {
			cseq uint64
			err  error
		}
		const ahead = 8
		answers := make(chan result, ahead)
		for i := range uint64(ahead) {
			s.Send(context.Background(), room, m, Known{}, Draft{CSeq: next + i, Data: fmt.Append(nil, next+i)}, func(_ Sent, err error) {
				answers <- result{next + i, err}
			})
		}
		good := next
		for range ahead {
			r := <-answers
			var gap *GapError
			switch {
			case r.err == nil && r.cseq == good:
				good++
			case r.err == nil:
				t.Errorf("%s: %d was accepted before %d", room, r.cseq, good)
			case errors.As(r.err, &gap) && good == next+ahead:
				t.Errorf("%s: %d: %v", room, r.cseq, r.err)
			case !errors.Is(r.err, ErrUnavailable) && gap == nil:
				t.Errorf("%s: %d: %v", room, r.cseq, r.err)
			}
		}
		next = good
	}
}

// whole holds a room's log to what was accepted: each once, in order. The last
// ones' answers may have been lost.
func whole(t *testing.T, s *Store, room string, accepted uint64) {
	t.Helper()
	if have := messages(t, s, room); have < accepted {
		t.Errorf("%s: %d messages, %d were accepted", room, have, accepted)
	}
}

// messages is how many messages a room's log has, which have to be 1, 2, 3...
func messages(t testing.TB, s *Store, room string) (n uint64) {
	t.Helper()
	for from := uint64(1); ; {
		page, err := s.Read(t.Context(), room, from, 1<<40, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Entries) == 0 {
			return n
		}
		for _, e := range page.Entries {
			if e.Seq != from {
				t.Fatalf("%s: entry %d has seq %d", room, from-1, e.Seq)
			}
			if from++; e.Kind == "message" {
				if n++; string(e.Data) != fmt.Sprint(n) {
					t.Fatalf("%s: message %q, want %d", room, e.Data, n)
				}
			}
		}
	}
}

// wideLog keeps all that a test says.
var wideLog = Config{LogMax: 1 << 20}

func TestCluster_ASlotThatMovesWhileItIsWrittenToLosesAndDoublesNothing(t *testing.T) {
	c := redistest.Cluster(t)
	cfg := wideLog
	cfg.URL = c.URL()
	s := open(t, cfg)
	all := primaries(t, c)
	room := roomAt(t, c, all[0], 0)
	ann := member(1, "ann")
	join(t, s, room, ann)
	stop := make(chan struct{})
	var talking sync.WaitGroup
	var accepted atomic.Uint64
	talking.Go(func() { talk(t, s, room, ann, stop, &accepted) })
	slot := slotOf(keysOfRoom(room).meta())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	more := func() { // while it is between the two
		if err := s.Announce(t.Context(), room, "e", 1); err != nil {
			t.Errorf("announce: %v", err)
		}
	}
	for i := range 4 {
		from, to := all[i%2], all[(i+1)%2]
		if err := c.Move(ctx, slot, from, to, more); err != nil {
			t.Error(err)
			break
		}
		for was := accepted.Load(); accepted.Load() < was+10 && ctx.Err() == nil; {
			if err := s.Announce(ctx, room, "e", 1); err != nil { // it takes a while
				t.Errorf("announce: %v", err)
			}
		}
		if r, err := s.Info(t.Context(), room); err != nil || r.Count != 1 {
			t.Errorf("after move %d: %+v, %v", i, r, err)
		}
	}
	close(stop)
	talking.Wait()
	whole(t, s, room, accepted.Load())
}

func TestCluster_AMessageAloneWaitsForTheReplicasThatAreAskedFor(t *testing.T) {
	c := redistest.Cluster(t)
	ann := member(1, "ann")
	for _, tc := range []struct {
		replicas int
		timeout  time.Duration
		want     error
	}{{1, 20 * time.Second, nil}, {2, 2 * time.Second, ErrUnavailable}} { // each primary has one
		s := open(t, Config{URL: c.URL(), Wait: tc.replicas, Timeout: tc.timeout})
		if err := s.Renew(t.Context(), Node{Ref: Ref{Node: "n1", Boot: "b1"}, State: NodeReady}); err != nil {
			t.Errorf("the lease, with %d replicas to wait for: %v", tc.replicas, err)
		}
		var all sync.WaitGroup
		for _, p := range primaries(t, c) {
			room := roomAt(t, c, p, tc.replicas)
			join(t, s, room, ann)
			all.Add(1)
			s.Send(t.Context(), room, ann, Known{}, Draft{CSeq: 1}, func(_ Sent, err error) {
				defer all.Done()
				if !errors.Is(err, tc.want) {
					t.Errorf("a send that waits for %d replicas: %v, want %v", tc.replicas, err, tc.want)
				}
			})
			all.Go(func() {
				if _, err := s.Say(t.Context(), room, "", Draft{}); !errors.Is(err, tc.want) {
					t.Errorf("what the system says, waiting for %d replicas: %v, want %v", tc.replicas, err, tc.want)
				}
			})
		}
		all.Wait()
	}
}

func TestCluster_APrimaryThatHangsHoldsUpNobodyElsesRooms(t *testing.T) {
	c := redistest.Cluster(t)
	healed(t, c)
	const timeout, many = 5 * time.Second, 20
	s := open(t, Config{URL: c.URL(), Timeout: timeout})
	all := primaries(t, c)
	ann := member(1, "ann")
	hangs, goesOn := roomAt(t, c, all[0], 0), []string{roomAt(t, c, all[1], 0), roomAt(t, c, all[2], 0)}
	for _, room := range append(goesOn, hangs) {
		join(t, s, room, ann)
	}
	if err := all[0].Stop(); err != nil {
		t.Fatal(err)
	}
	var late time.Duration
	var beside, first atomic.Int64 // sends that were answered, in all and before the first that hangs
	var refused sync.WaitGroup
	var once sync.Once
	for range 3 * laneBatch {
		refused.Add(1)
		began := time.Now()
		s.Send(t.Context(), hangs, ann, Known{}, Draft{}, func(_ Sent, err error) {
			defer refused.Done()
			once.Do(func() { first.Store(beside.Load()) })
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("a send to what hangs: %v", err)
			}
			late = max(late, time.Since(began)) // one lane's answers come one by one
		})
	}
	for range many {
		for _, room := range goesOn {
			if _, err := send(s, room, ann, Known{}, Draft{}); err != nil {
				t.Errorf("a send beside it: %v", err)
			}
			beside.Add(1)
		}
	}
	heads, errs := s.Heads(t.Context(), append(goesOn, hangs), make([]Known, len(goesOn)+1))
	for i, room := range goesOn {
		if errs[i] != nil || heads[i].Seq == 0 {
			t.Errorf("the head of %s beside it: %+v, %v", room, heads[i], errs[i])
		}
	}
	if err := errs[len(goesOn)]; !errors.Is(err, ErrUnavailable) {
		t.Errorf("the head of what hangs: %v", err)
	}
	refused.Wait()
	if n := first.Load(); n != many*int64(len(goesOn)) {
		t.Errorf("%d sends beside it were answered before what hangs was given up, want all", n)
	}
	if late >= 2*timeout {
		t.Errorf("the last answer took %s: one waited for another's timeout, and then for its own", late)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Logf("ping while one hangs: %v", err) // it may have been the one that was asked
	}
}

func TestCluster_APrimaryThatHangsIsNotChosenToHearOn(t *testing.T) {
	c := redistest.Cluster(t)
	healed(t, c)
	s := open(t, Config{URL: c.URL(), Timeout: 5 * time.Second})
	all := primaries(t, c)
	var l lines
	if err := all[0].Stop(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !l.failed[all[0].Addr]; { // on a busy machine it may not come to an answer
		if _, err := l.sound(t.Context(), s.cluster, "gw:test", "1"); err != nil && time.Since(began) > 20*time.Second {
			t.Fatal(err)
		}
	}
	if err := all[0].Cont(); err != nil { // so that each ear tells where it is
		t.Fatal(err)
	}
	for range 30 {
		ear, err := s.ear(t.Context(), &l)
		if err != nil {
			t.Fatal(err)
		}
		if err := ear.Subscribe(t.Context(), "gw:test"); err != nil {
			t.Fatal(err)
		}
		defer ear.Close()
	}
	if n, err := all[0].Client.PubSubNumSub(t.Context(), "gw:test").Result(); err != nil || n["gw:test"] != 0 {
		t.Errorf("%d of 30 listen to the one that hung, %v", n["gw:test"], err)
	}
}

func TestCluster_ALeaseIsRenewedThoughThePrimaryOfTheListHangs(t *testing.T) {
	c := redistest.Cluster(t)
	healed(t, c)
	s := open(t, Config{URL: c.URL(), Timeout: 2 * time.Second})
	at := func(key string) *redisset.Server {
		p, err := c.Primary(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	list := at(nodesKey)
	node := Node{Ref: Ref{Boot: "b"}, State: NodeReady}
	for i := 0; i == 0 || at(node.leaseKey()) == list; i++ {
		node.Ref.Node = fmt.Sprintf("n%d", i)
	}
	if err := s.Renew(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	if err := list.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(t.Context(), node); err != nil {
		t.Errorf("a node that is on the list: %v", err)
	}
	node.Ref.Boot = "another life"
	if err := s.Renew(t.Context(), node); !errors.Is(err, ErrUnavailable) {
		t.Errorf("one that is not: %v, want ErrUnavailable", err)
	}
}

func TestCluster_AReplicaThatTakesOverHasEverythingAndIsWrittenTo(t *testing.T) {
	c := redistest.Cluster(t)
	quick(t, c)
	healed(t, c) // while servers still tell each other soon
	cfg := wideLog
	cfg.URL = c.URL()
	s := open(t, cfg)
	sub, e := listen(t, s)
	all := primaries(t, c)
	room := roomAt(t, c, all[0], 0)
	follow(t, sub, room)
	ann := member(1, "ann")
	join(t, s, room, ann)
	stop := make(chan struct{})
	var talking sync.WaitGroup
	var accepted atomic.Uint64
	talking.Go(func() { talk(t, s, room, ann, stop, &accepted) })
	replica, err := c.Replica(t.Context(), all[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.FailOver(ctx, replica); err != nil {
		t.Fatal(err)
	}
	e.until(t, "a reset, because of a new primary", func() bool { return e.resets > 0 })
	join(t, s, room, member(2, "bob"))
	close(stop)
	talking.Wait()
	if have, err := c.Primary(t.Context(), keysOfRoom(room).meta()); err != nil || have != replica {
		t.Errorf("the room is at %v, want at %s: %v", have, replica.Addr, err)
	}
	whole(t, s, room, accepted.Load())
}

func TestCluster_APrimaryThatIsKilledIsReplacedAndHeardAgain(t *testing.T) {
	c := redistest.Cluster(t)
	quick(t, c)
	healed(t, c) // while servers still tell each other soon
	s := open(t, Config{URL: c.URL()})
	sub, e := listen(t, s)
	all := primaries(t, c)
	ann := member(1, "ann")
	room, other := roomAt(t, c, all[0], 0), roomAt(t, c, all[1], 0)
	follow(t, sub, room, other)
	join(t, s, room, ann)
	join(t, s, other, ann)
	marker, err := s.Marker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	node := Node{Ref: Ref{"n", "b"}, State: NodeReady}
	if err := s.Renew(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	all[0].Kill()
	if got, err := s.Marker(t.Context()); err != nil || got != marker {
		t.Errorf("the marker with a primary away: %q, %v, want %q", got, err, marker)
	}
	if _, err := send(s, other, ann, Known{}, Draft{}); err != nil {
		t.Errorf("a room elsewhere: %v", err)
	}
	began := time.Now()
	var back Sent
	for {
		if back, err = send(s, room, ann, Known{}, Draft{}); err == nil {
			break
		}
		if !errors.Is(err, ErrUnavailable) || time.Since(began) > 30*time.Second {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
	}
	t.Logf("written to again after %s", time.Since(began))
	e.until(t, "a reset", func() bool { return e.resets > 0 })
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	said := time.Now()
	for heard := false; !heard; <-again.C {
		if time.Since(said) > 20*time.Second {
			t.Fatal("the room is not heard again")
		}
		if err := s.Announce(t.Context(), room, back.Epoch, back.Seq+1000); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		for _, seq := range e.heard[room] {
			heard = heard || seq == back.Seq+1000
		}
		e.mu.Unlock()
	}
	if got, err := s.Marker(t.Context()); err != nil || got != marker {
		t.Errorf("the marker after the failover: %q, %v, want %q", got, err, marker)
	}
}

func TestCluster_APrimaryThatLostEverythingIsNoticed(t *testing.T) {
	c := redistest.Cluster(t)
	s := open(t, Config{URL: c.URL()})
	a, err := s.Marker(t.Context())
	if err != nil || a == "" {
		t.Fatal(a, err)
	}
	for _, p := range primaries(t, c) {
		if b, err := s.Marker(t.Context()); err != nil || b != a {
			t.Errorf("marker %q, %v, want %q", b, err, a)
		}
		if err := p.Client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		b, err := s.Marker(t.Context())
		if err != nil || b == a {
			t.Errorf("marker after a wipe of %s: %q, %v", p.Addr, b, err)
		}
		a = b
		if l, err := s.Layout(t.Context()); err != nil || l.Version != Schema {
			t.Errorf("layout after a wipe of %s: %+v, %v", p.Addr, l, err)
		}
	}
}

func TestCluster_EveryRoomIsScanned(t *testing.T) {
	c := redistest.Cluster(t)
	s := open(t, Config{URL: c.URL()})
	const rooms = 300
	for i := range rooms {
		join(t, s, name(i), member(1, "ann"))
	}
	seen := make(map[string]bool)
	for cursor, steps := uint64(0), 0; ; steps++ {
		some, next, err := s.ScanRooms(t.Context(), cursor, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range some {
			seen[room] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
		if steps > 10*rooms {
			t.Fatal("it does not end")
		}
	}
	if len(seen) != rooms {
		t.Errorf("%d rooms were seen, want %d", len(seen), rooms)
	}
}
