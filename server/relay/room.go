package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"godwit/rules/order"
	"godwit/server/hub"
	"godwit/store"
	"godwit/wire"
)

const rejoinLimit = 16 // seats of one room that rejoin at once

// Room is one room that this node follows.
type Room struct {
	relay *Relay
	name  string
	refs  int // guarded by relay.mu
	ready <-chan struct{}

	mu        sync.Mutex
	track     order.Track[timed]
	missing   time.Duration // since when the hole is known that is being filled
	seats     hub.Seats
	ts        int64       // of the last entry delivered, ms
	trusted   uint64      // the era in which the position was compared with the log
	doubted   uint64      // the era from which on it must have been
	early     store.Known // the newest entry heard while there was no position
	resetting bool
	cut       bool          // nobody keeps its place: the log has no longer what is next, or is another
	epochs    chan struct{} // closed when the reset under way is over
	left      string        // the epoch before the last reset
	recent    recent
	reaches   []reach    // who waits for a position
	wrote     store.Head // newest entry that this node appended
	said      store.Head // wrote, when the head was put on the list to be said again
	announced bool       // it stands on that list
}

// Name is the room's name.
func (rm *Room) Name() string { return rm.name }

// Ready is closed when the node hears the room's channel.
func (rm *Room) Ready() <-chan struct{} { return rm.ready }

// Open says whether anybody holds the room still.
func (rm *Room) Open() bool { return rm.relay.open(rm) }

// Call says what the store has told of the room's call.
func (rm *Room) Call(r store.Room) {
	rm.relay.call(rm, store.Head{Epoch: r.Epoch, Seq: r.Seq}, r.InCall)
}

// Known is what a write to the room tells the store of the node's view.
func (rm *Room) Known() store.Known {
	k := rm.position()
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.trusted == rm.relay.era.Load() {
		k.TS = 0
	}
	return k
}

func (rm *Room) position() store.Known {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	epoch, head := rm.track.Position()
	return store.Known{Epoch: epoch, Seq: head, TS: rm.ts}
}

// Sit seats a member that has everything up to `after` of an epoch: what comes
// next it gets live. head is the room's, read from the store once the room was
// Ready: where the node has no order yet, it begins there, and ephemeral events
// that came behind it are for the member, too. Sit says false, and
// seats nobody, when the node is further than `after`, or has still to find its order,
// and what lies between is not at hand: read it from the log and ask again.
func (rm *Room) Sit(seat *hub.Seat, epoch string, after, head uint64) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.track.State() == order.Starting && !rm.resetting {
		// From the head on: what a member lacks before it is read at the pace
		// of its socket.
		rm.begin(epoch, max(after, head))
	}
	seat.Epoch, seat.After = epoch, after
	have, now := rm.track.Position()
	if rm.resetting || have != epoch {
		rm.startReset()
		if after < head {
			return false // the order may begin behind that
		}
		rm.seats.Put(seat) // it is placed with the others
		return true
	}
	if after < now && !rm.recent.has(after+1) {
		return false
	}
	rm.seats.Put(seat)
	rm.catchUp(seat, head)
	seat.After = max(after, now)
	return true
}

// Stand takes a seat away. The room is still open: Close it.
func (rm *Room) Stand(seat *hub.Seat) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.seats.Remove(seat)
}

// Delivered is the position up to which a seated member has everything.
func (rm *Room) Delivered(seat *hub.Seat) (epoch string, seq uint64) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	epoch, head := rm.track.Position()
	if epoch != seat.Epoch {
		return seat.Epoch, seat.After
	}
	return epoch, max(head, seat.After)
}

// heard takes a message; whole says that the node heard all its rooms when it came.
func (rm *Room) heard(m store.Message, came time.Duration, whole bool) {
	var out []*hub.Seat
	if m.Presence != nil { // it has no place in the order, but a join or leave before it goes before it
		rm.relay.roster.Presence(*m.Presence)
		return
	}
	rm.mu.Lock()
	switch {
	case rm.behind(m):
		rm.doubted = rm.relay.Suspect() // the log tells whether it holds again
	case m.Entry == nil:
		out = rm.apply(rm.track.Announced(m.Epoch, m.Head))
	case m.Entry.Seq == 0:
		epoch, newest := rm.track.Noticed()
		t := rm.timed(m.Entry, came, false)
		rm.recent.keep(t.RoomEvent, newest)
		told, _ := rm.seats.Deliver("", t.RoomEvent)
		rm.delivered(epoch, t, told)
	case !rm.sound(m, whole):
		out = rm.apply(rm.track.Announced(m.Epoch, m.Head)) // so it is read from the log
	default:
		out = rm.apply(rm.track.Heard(m.Epoch, m.Head, rm.timed(m.Entry, came, false)))
	}
	rm.mu.Unlock()
	rm.expel(out)
}

func (rm *Room) expel(seats []*hub.Seat) {
	for _, s := range seats {
		s.Ear.Expelled(rm.name, s)
	}
}

// expelLater is expel for who holds locks that Expelled takes.
func (rm *Room) expelLater(seats []*hub.Seat) {
	if len(seats) > 0 {
		rm.spawn(func(context.Context) bool {
			rm.expel(seats)
			return true
		})
	}
}

// apply does what a step says. Called with mu held; it returns the seats that
// were put out, to be told without it.
func (rm *Room) apply(step order.Step[timed]) (expelled []*hub.Seat) {
	epoch, _ := rm.track.Position()
	for _, t := range step.Deliver {
		ev := t.RoomEvent
		rm.ts = ev.TS
		rm.recent.keep(ev, 0)
		if ev.InCall != nil {
			rm.relay.changed(*ev.InCall)
			rm.relay.call(rm, store.Head{Epoch: epoch, Seq: ev.Seq}, *ev.InCall)
		}
		told, out := rm.seats.Deliver(epoch, ev)
		rm.delivered(epoch, t, told)
		for _, seat := range out {
			rm.seats.Remove(seat)
			expelled = append(expelled, seat)
		}
		if ev.Kind == wire.KindJoin || ev.Kind == wire.KindLeave {
			rm.relay.roster.Entry(rm.name, epoch, ev)
		}
	}
	if step.Fill {
		rm.relay.Stats.Holes.Add(1)
		rm.missing = rm.relay.clock()
		h := &hole{epoch, step.From, step.To}
		rm.spawn(func(ctx context.Context) bool { return rm.fill(ctx, h) })
	}
	if step.Reset {
		rm.startReset()
	}
	rm.reached()
	return expelled
}

// Lost says that the store answered a write that it does not know the room.
// The channel is closed when the room has its place again.
func (rm *Room) Lost() <-chan struct{} {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	rm.startReset()
	return rm.epochs
}

// startReset begins to find the room's new position. Called with mu held.
func (rm *Room) startReset() {
	epoch, head := rm.track.Position()
	rm.resetFrom(store.Known{Epoch: epoch, Seq: head, TS: rm.ts})
}

// resetFrom is startReset where the store is told of a position that the node has had.
func (rm *Room) resetFrom(known store.Known) {
	if rm.resetting {
		return
	}
	rm.resetting = true
	rm.epochs = make(chan struct{})
	epoch, head := rm.track.Position()
	for _, seat := range rm.seats.All() {
		if seat.Epoch == epoch {
			seat.After = max(seat.After, head)
		}
	}
	rm.track.Stop()
	rm.reached()
	rm.spawn(func(ctx context.Context) bool {
		if rm.relay.whole(ctx) != nil {
			return false
		}
		done, told := rm.rejoin(ctx, known)
		if told {
			rm.relay.Stats.Resets.Add(1)
			rm.relay.log.Warn("room reset", "room", rm.name, "epoch", epoch, "seq", head)
		}
		return done
	})
}

// rejoin asks every seat to make itself known again, and starts the order where
// the epoch began for them, or at the head where that is not known: who finds out
// late lacks nothing of what was said in it. Who was in the epoch already keeps its
// place, if the log still has what follows, and is not told.
func (rm *Room) rejoin(ctx context.Context, known store.Known) (done, told bool) {
	rm.mu.Lock()
	seats := rm.seats.All()
	rm.mu.Unlock()
	placed := make([]store.Room, len(seats))
	var group errgroup.Group
	group.SetLimit(rejoinLimit)
	for i, seat := range seats {
		group.Go(func() error {
			r, err := seat.Ear.Rejoin(ctx, rm.name, known)
			switch {
			case err == nil:
				placed[i] = r
			case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrWiped):
				return err
			case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrGone), errors.Is(err, store.ErrNotMember):
				rm.Stand(seat) // its session knows
			default: // who is not told that it hears nothing would wait for ever
				rm.relay.log.Error("a member is not in again", "room", rm.name, "error", err)
				rm.Stand(seat)
				seat.Ear.Expelled(rm.name, seat)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		rm.relay.log.Warn("room not reset yet", "room", rm.name, "error", err)
		return false, false
	}
	rm.mu.Lock()
	defer rm.mu.Unlock()
	var newest store.Room // where all who sit here are in again
	again := make(map[*hub.Seat]store.Room, len(seats))
	for i, seat := range seats {
		if placed[i].Epoch == "" || !rm.seats.Has(seat) {
			continue
		}
		again[seat] = placed[i]
		if newest.Epoch == "" || placed[i].Seq > newest.Seq {
			newest = placed[i]
		}
	}
	var epoch string
	var start uint64
	for _, seat := range rm.seats.All() { // those who sat down meanwhile, too
		of, after := seat.Epoch, seat.After
		if r, in := again[seat]; in {
			of = r.Epoch
			after, _ = rm.from(seat, r, known.Epoch)
		}
		if epoch == "" {
			epoch, start = of, after
		}
		if of != epoch {
			return false, false
		}
		start = min(start, after)
	}
	rm.resetting = false
	close(rm.epochs)
	if epoch == "" {
		rm.cut = false
		return true, false // nobody is left; whoever sits down next starts the order
	}
	for seat, r := range again {
		if r.New {
			rm.wroteOwn(store.Head{Epoch: r.Epoch, Seq: r.Seq})
		}
		after, keeps := rm.from(seat, r, known.Epoch)
		if keeps {
			continue
		}
		told = true
		seat.Epoch, seat.After = epoch, after
		seat.Ear.Reset(wire.Reset{
			Room: rm.name, Epoch: epoch, Seq: seat.After, CSeq: r.CSeq,
			Members: Members(newest.Members), More: newest.Count > len(newest.Members), InCall: newest.InCall,
		})
	}
	rm.cut = false
	rm.recent.forget()
	rm.relay.roster.Renewed(rm.name)
	if rm.left = known.Epoch; rm.left == epoch {
		rm.left = ""
	}
	rm.begin(epoch, start)
	rm.expelLater(rm.apply(rm.track.Announced(epoch, newest.Seq)))
	return true, told
}

// from is the position at which a seat goes on that was placed anew, when the order that
// is left was of an epoch, and whether it is its own. Called with mu held.
func (rm *Room) from(seat *hub.Seat, r store.Room, left string) (after uint64, keeps bool) {
	switch {
	case seat.Epoch != r.Epoch:
		return max(r.Began, r.Joined), false
	case rm.cut && left == r.Epoch:
		return r.Seq, false
	}
	return seat.After, true
}
