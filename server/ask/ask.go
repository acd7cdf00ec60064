// Package ask puts questions to other nodes on their control channels.
//
// It owns who waits here for which answer. What is asked and answered is the
// asker's; a word may be lost on either way, and then there is no answer.
package ask

import (
	"context"
	"sync"
	"time"

	"godwit/store"
)

// Desk is where a node's answers are waited for, one question an offer.
type Desk struct {
	store *store.Store

	mu      sync.Mutex
	waiting map[string]question // guarded by mu: by offer
}

// question is one that was asked.
type question struct {
	of    store.Ref
	heard chan store.Word // cap 1
}

// New makes a desk.
func New(st *store.Store) *Desk { return &Desk{store: st, waiting: make(map[string]question)} }

// Ask says a word to a node and waits for the one that answers it, by the
// word's offer. It says false when none has come within the time.
//
// Errors: store.ErrUnavailable, and the cause of ctx.
func (d *Desk) Ask(ctx context.Context, to store.Ref, w store.Word, within time.Duration) (answer store.Word, ok bool, err error) {
	heard := make(chan store.Word, 1)
	d.mu.Lock()
	d.waiting[w.Offer] = question{to, heard}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.waiting, w.Offer)
		d.mu.Unlock()
	}()
	if err := d.store.Tell(ctx, to, w); err != nil {
		return store.Word{}, false, err
	}
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case answer := <-heard:
		return answer, true, nil
	case <-late.C:
		return store.Word{}, false, nil
	case <-ctx.Done():
		return store.Word{}, false, context.Cause(ctx)
	}
}

// Told takes another node's word. It does not wait. One that comes late, of a
// node that was asked the same before, is nobody's answer; a node of an earlier
// version does not say who it is.
func (d *Desk) Told(w store.Word) {
	d.mu.Lock()
	q := d.waiting[w.Offer]
	d.mu.Unlock()
	if by := (store.Ref{Node: w.Node, Boot: w.Boot}); by != (store.Ref{}) && by != q.of {
		return
	}
	select {
	case q.heard <- w:
	default: // nobody waits any more
	}
}
