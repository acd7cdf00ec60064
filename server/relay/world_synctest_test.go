package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"

	"godwit/internal/pipe"
	"godwit/rules/address"
	"godwit/server/hub"
	"godwit/store"
	"godwit/wire"
)

// world is a Redis in virtual time, and the nodes on it.
type world struct {
	*testing.T
	redis *miniredis.Miniredis
}

// bubble runs a test in a world of its own.
func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, redis: miniredis.NewMiniRedis()}
		first, err := w.redis.Dial() // starts it without a listener
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		stop := make(chan struct{})
		var tick sync.WaitGroup
		tick.Go(func() { store.Tick(w.redis, stop) })
		t.Cleanup(func() {
			close(stop)
			tick.Wait()
			w.redis.Close()
			// The Redis client's pool, after many failures, tries a dial each
			// second and looks only then whether it was closed.
			time.Sleep(2 * time.Second)
		})
		test(t, w)
	})
}

// node is a relay with its store, and the way on which messages come to it.
type node struct {
	*Relay
	w     *world
	store *store.Store
	// whole counts how often the node was asked to register again.
	whole func() int

	mu    sync.Mutex
	spoil func(store.Message) []store.Message // guarded by mu: what comes through; nil: all
	heads []uint64                            // guarded by mu: heads said again

	kept kept
}

// node makes a node that runs.
func (w *world) node() *node {
	w.Helper()
	n, run := w.idle()
	run()
	return n
}

// idle makes a node whose relay runs once run is called.
func (w *world) idle() (n *node, run func()) {
	w.Helper()
	st, err := store.Open(store.Config{
		Logger: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := pipe.New()
			w.redis.Server().ServeConn(theirs)
			return ours, nil
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	var asked int
	var mu sync.Mutex
	n = &node{w: w, store: st, whole: func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}}
	n.Relay = New(st, func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return nil
	}, slog.New(slog.DiscardHandler))
	sub := st.NewSubscriber(store.Ref{Node: "n", Boot: store.NewEpoch()}, n)
	n.Listen(sub, &n.kept)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = st.Run(ctx) })
	running.Go(func() { _ = sub.Run(ctx) })
	w.Cleanup(func() {
		cancel()
		running.Wait()
		st.Close()
	})
	return n, func() { running.Go(func() { _ = n.Run(ctx) }) }
}

// Heard, Told and Reset are the node's ear.
func (n *node) Heard(room string, m store.Message, whole bool) {
	n.mu.Lock()
	through := []store.Message{m}
	if m.Entry == nil {
		n.heads = append(n.heads, m.Head)
	}
	if n.spoil != nil {
		through = n.spoil(m)
	}
	n.mu.Unlock()
	for _, m := range through {
		n.Relay.Heard(room, m, whole)
	}
}
func (n *node) Inbox(string, store.Inbox) {}

func (n *node) Told(store.Word) {}
func (n *node) Reset()          { n.Relay.Reset() }
func (n *node) Suspect()        { n.Relay.Suspect() }

// kept is what a keeper of rosters was told, in order.
type kept struct {
	mu   sync.Mutex
	said []string // guarded by mu
}

func (k *kept) add(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.said = append(k.said, fmt.Sprintf(format, args...))
}

func (k *kept) Entry(room, _ string, ev *wire.RoomEvent) {
	k.add("%d %s %s", ev.Seq, ev.Kind, ev.From.User)
}
func (k *kept) Renewed(string)            { k.add("renewed") }
func (k *kept) Presence(p store.Presence) { k.add("%s is %d", p.User, p.Value) }
func (k *kept) Suspect()                  { k.add("suspect") }

// on spoils the way; nil makes it good again.
func (n *node) on(spoil func(store.Message) []store.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spoil = spoil
}

func nothing(store.Message) []store.Message { return nil }

// guest is a member at a node, and its seat.
type guest struct {
	*node
	store.Member
	room *Room
	seat *hub.Seat
	at   store.Room // how it came in

	mu     sync.Mutex
	got    []*wire.RoomEvent // guarded by mu
	when   []time.Time       // guarded by mu: of got
	resets []wire.Reset      // guarded by mu
	before int               // guarded by mu: how many had come before the last reset
	out    int               // guarded by mu: times it was told that it was put out
	refuse error             // guarded by mu: what Rejoin answers
	asked  func()            // guarded by mu: is called in Rejoin before anything else
}

const lobby = "lobby"

// enter makes a member of the lobby, not seated yet.
func (n *node) enter(client uint32, user string) *guest {
	n.w.Helper()
	g := &guest{node: n, Member: store.Member{User: user, Client: client, Session: user, Gen: 1}}
	g.room = n.Open(lobby)
	<-g.room.Ready()
	var err error
	if g.at, err = n.store.Join(n.w.Context(), lobby, g.Member, g.room.Known()); err != nil {
		n.w.Fatal(err)
	}
	g.seat = &hub.Seat{Ear: g, Reader: address.Reader{User: user, Client: client, Open: true}}
	return g
}

// open is enter, with the room held until the seat is taken.
func (n *node) open(client uint32, user string) *guest {
	n.w.Helper()
	n.Open(lobby).Hold(&hub.Seat{})
	g := n.enter(client, user)
	n.Close(g.room) // enter has its own reference
	return g
}

// sit makes a member that has everything up to its own join.
func (n *node) sit(client uint32, user string) *guest {
	n.w.Helper()
	g := n.enter(client, user)
	if !g.room.Sit(g.seat, g.at.Epoch, g.at.Seq, g.at.Seq) {
		n.w.Fatalf("%s cannot sit at its own join", user)
	}
	synctest.Wait()
	return g
}

func (g *guest) Deliver(ev *wire.RoomEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got, g.when = append(g.got, ev), append(g.when, time.Now())
}

func (g *guest) Reset(r wire.Reset) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resets, g.before = append(g.resets, r), len(g.got)
}

func (g *guest) Expelled(string, *hub.Seat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out++
}

func (g *guest) Rejoin(ctx context.Context, room string, known store.Known) (store.Room, error) {
	g.mu.Lock()
	refuse, asked := g.refuse, g.asked
	g.mu.Unlock()
	if asked != nil {
		asked()
	}
	if refuse != nil {
		return store.Room{}, refuse
	}
	r, err := g.store.Attach(ctx, room, g.Member, known, true)
	if errors.Is(err, store.ErrWiped) {
		return g.store.Join(ctx, room, g.Member, store.Known{})
	}
	return r, err
}

// say appends a message through the store, and returns its seq.
func (g *guest) say(data string) uint64 {
	g.w.Helper()
	return g.send(store.Draft{Data: []byte(data)})
}

// whisper sends an ephemeral message through the store.
func (g *guest) whisper(data string) {
	g.w.Helper()
	g.send(store.Draft{Data: []byte(data), Ephemeral: true})
}

func (g *guest) send(d store.Draft) uint64 {
	g.w.Helper()
	ch := make(chan error, 1)
	var sent store.Sent
	g.store.Send(g.w.Context(), lobby, g.Member, g.room.Known(), d, func(s store.Sent, err error) {
		sent = s
		ch <- err
	})
	if err := <-ch; err != nil {
		g.w.Fatalf("send %s: %v", d.Data, err)
	}
	return sent.Seq
}

// wrote tells the room that the node appended seq.
func (g *guest) wrote(seq uint64) { g.room.Wrote(store.Head{Epoch: g.at.Epoch, Seq: seq}) }

// seqs are those of what came.
func (g *guest) seqs() []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]uint64, len(g.got))
	for i, ev := range g.got {
		out[i] = ev.Seq
	}
	return out
}

// data are those of the messages that came.
func (g *guest) data() (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ev := range g.got {
		if ev.Kind == wire.KindMessage {
			out = append(out, string(ev.Data))
		}
	}
	return out
}

// has expects exactly the entries from..to, each once, in order.
func (g *guest) has(what string, from, to uint64) {
	g.w.Helper()
	var want []uint64
	for seq := from; seq <= to; seq++ {
		want = append(want, seq)
	}
	if got := g.seqs(); !slices.Equal(got, want) {
		g.w.Fatalf("%s: %s got %v, want %d..%d", what, g.User, got, from, to)
	}
}

func (g *guest) told() (resets []wire.Reset, out int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.resets), g.out
}
