package relay

import (
	"context"
	"log/slog"
	"testing"

	"godwit/rules/address"
	"godwit/server/hub"
	"godwit/store"
	"godwit/wire"
)

// BenchmarkHeard is one entry from the fan-out to 100 members of a node.
func BenchmarkHeard(b *testing.B) {
	r := New(&store.Store{}, nil, slog.New(slog.DiscardHandler))
	r.Listen(new(store.Store).NewSubscriber(store.Ref{}, nil), nil)
	rm := &Room{relay: r, name: "r", refs: 1}
	r.rooms["r"] = rm
	rm.track.Start("e", 0)
	for i := range uint32(100) {
		rm.seats.Put(&hub.Seat{Ear: silent{}, Reader: address.Reader{User: "u", Client: i + 2, Open: true}, Epoch: "e"})
	}
	b.ReportAllocs()
	for seq := uint64(1); b.Loop(); seq++ {
		e := &store.Entry{Seq: seq}
		e.Kind, e.User, e.Client = string(wire.KindMessage), "u", 1
		r.Heard("r", store.Message{Epoch: "e", Head: seq, Entry: e}, true)
		select {
		case h := <-r.queues[0]:
			rm.heard(h.msg, h.came, h.whole)
		case h := <-r.queues[1]:
			rm.heard(h.msg, h.came, h.whole)
		}
	}
}

type silent struct{}

func (silent) Deliver(*wire.RoomEvent)    {}
func (silent) Reset(wire.Reset)           {}
func (silent) Expelled(string, *hub.Seat) {}
func (silent) Rejoin(context.Context, string, store.Known) (r store.Room, _ error) {
	return r, nil
}
