package client

import (
	"encoding/binary"
	"hash/maphash"
	"slices"

	"godwit/wire"
)

// maxWhispers is how many ephemeral events are remembered of a socket: one that
// the next socket brings again comes within moments of the change.
const maxWhispers = 64

// whispers finds ephemeral events that a socket brings and the one before it had
// brought already, which can be as long as the node behind it hears of them later.
// They have no seq to tell that by. What one socket brings twice was sent twice.
type whispers struct {
	seed   maphash.Seed
	from   *conn    // that brought now
	now    []uint64 // sums, the latest last
	before []uint64 // those of the socket before, as long as from has not brought them
}

func newWhispers() whispers { return whispers{seed: maphash.MakeSeed()} }

// again says whether e, from k, has been taken from the socket before.
func (w *whispers) again(k *conn, e *wire.RoomEvent) bool {
	if k != w.from {
		w.from, w.now, w.before = k, w.before[:0], w.now
	}
	sum := w.sum(e)
	if i := slices.Index(w.before, sum); i >= 0 {
		w.before = slices.Delete(w.before, i, i+1)
		return true
	}
	if len(w.now) == maxWhispers {
		w.now = slices.Delete(w.now, 0, 1)
	}
	w.now = append(w.now, sum)
	return false
}

func (w *whispers) sum(e *wire.RoomEvent) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	head := binary.LittleEndian.AppendUint64(nil, uint64(e.TS))
	head = binary.LittleEndian.AppendUint32(head, e.From.Client)
	if e.Type != nil {
		head = append(head, *e.Type)
	}
	_, _ = h.Write(head) // it never fails
	_, _ = h.WriteString(e.Room)
	_, _ = h.Write(e.Data)
	return h.Sum64()
}
