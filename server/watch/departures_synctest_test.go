package watch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"godwit/store"
)

func TestDepartures_AreRetriedUntilTheStoreTakesThem(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const each = 40 // more than there are workers
		for i := range 2 * each {
			w.begin(ours, uint32(i+1), fmt.Sprint("s", i))
		}
		d := NewDepartures(w.store, ours, discard)
		w.run(d.Run)
		w.away(true)
		for i := range each {
			d.Detach(fmt.Sprint("s", i), 1)
			d.End(fmt.Sprint("s", each+i), 1, "left")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := d.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush without a store: %v, want %v", err, context.DeadlineExceeded)
		}
		w.away(false)
		began := time.Now()
		if err := d.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("all were told %s after the store came back", took)
		}
		leaves := w.leaves()
		for i := range each {
			kept, ended := fmt.Sprint("s", i), fmt.Sprint("s", each+i)
			if got := w.state(kept); got != store.StateDetached || leaves[kept] != 0 {
				t.Errorf("%s is %q with %d leaves, want detached with none", kept, got, leaves[kept])
			}
			if got := w.state(ended); got != "" || leaves[ended] != 1 {
				t.Errorf("%s is %q with %d leaves, want gone with one", ended, got, leaves[ended])
			}
		}
	})
}

func TestDepartures_OfASessionThatMovedOnChangeNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.begin(ours, 1, "detached")
		w.begin(ours, 2, "ended")
		w.begin(ours, 3, "signed out")
		for _, sid := range []string{"detached", "ended", "signed out"} {
			if _, err := w.store.Claim(t.Context(), sid, "", store.Ref{Node: "other", Boot: "b"}, ""); err != nil {
				t.Fatal(err)
			}
		}
		d := NewDepartures(w.store, ours, discard)
		w.run(d.Run)
		d.Detach("detached", 1)
		d.End("ended", 1, "left")
		d.End("signed out", 0, "left") // whoever holds it
		d.End("none", 1, "left")
		if err := d.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for sid, want := range map[string]string{"detached": store.StateLive, "ended": store.StateLive, "signed out": ""} {
			if got := w.state(sid); got != want {
				t.Errorf("%s is %q, want %q", sid, got, want)
			}
		}
	})
}

func TestDepartures_FlushOfNothingDoesNotWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := NewDepartures(w.store, ours, discard)
		if err := d.Flush(t.Context()); err != nil { // nobody runs: waiting would be for ever
			t.Error(err)
		}
	})
}
