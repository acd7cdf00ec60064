package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"godwit/client"
	"godwit/wire"
)

// wantBeat is the next request, which must be a beat.
func (p *peer) wantBeat(status uint8) frame {
	p.t.Helper()
	f := p.want("call.beat")
	if b := param[wire.Beat](p.t, f); b.Room != "r" || b.Status == nil || *b.Status != status {
		p.t.Fatalf("beat is %s, want status %d in r", f.Params, status)
	}
	return f
}

// calling is a client in a call, whose first beat is answered.
func (b *bubble) calling(t *testing.T) *client.Call {
	t.Helper()
	got := async(func() (*client.Call, error) { return b.c.Call(t.Context(), "r") })
	b.old.answer(b.old.wantBeat(1), wire.Empty{})
	k, err := got(t)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// after expects a beat so long from now.
func (p *peer) after(d time.Duration) {
	p.t.Helper()
	began := time.Now()
	p.answer(p.wantBeat(1), wire.Empty{})
	if took := time.Since(began); took != d {
		p.t.Fatalf("the beat came after %s, want %s", took, d)
	}
}

func TestCall_BeatsUntilItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		k := b.calling(t)
		for range 5 {
			b.old.after(4 * time.Second)
		}
		if _, err := b.c.Call(t.Context(), "r"); !errors.Is(err, client.ErrInCall) {
			t.Errorf("a second call: %v", err)
		}
		if _, err := b.c.Call(t.Context(), "nowhere"); !client.Is(err, wire.NotMember) {
			t.Errorf("in a room that one is not in: %v", err)
		}
		ended := async(func() (struct{}, error) { return struct{}{}, k.End(t.Context()) })
		f := b.old.wantBeat(0)
		<-k.Done()
		b.old.answer(f, wire.Empty{})
		if _, err := ended(t); err != nil || k.Err() != nil {
			t.Errorf("ended: %v, %v", err, k.Err())
		}
		if err := k.End(t.Context()); err != nil {
			t.Errorf("ended again: %v", err)
		}
		time.Sleep(20 * time.Second)
		b.old.quiet()
	})
}

func TestCall_ThatIsRefusedIsNone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		got := async(func() (*client.Call, error) { return b.c.Call(t.Context(), "r") })
		b.old.refuse(b.old.wantBeat(1), wire.ErrUnavailable())
		b.old.refuse(b.old.wantBeat(1), wire.Errorf(wire.NotMember, "kicked"))
		if _, err := got(t); !client.Is(err, wire.NotMember) {
			t.Errorf("%v, want not_member", err)
		}
		time.Sleep(20 * time.Second)
		b.old.quiet()
		b.calling(t) // and may be tried again
	})
}

func TestCall_GoesOnAtOnceOverAnotherSocket(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.calling(t)
		b.old.after(4 * time.Second)
		time.Sleep(time.Second)
		b.old.cut()
		p := b.s.accept()
		p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 4, Recovered: true}))
		p.after(0)
		p.after(4 * time.Second)
		p.wantBeat(1) // not answered: the socket ends first
		p.cut()
		q := b.s.accept()
		q.answer(q.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 4, Recovered: true}))
		q.after(0)
		q.after(4 * time.Second)
	})
}

func TestCall_GoesOnAtTheNodeThatTheSessionIsLedTo(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		k := b.calling(t)
		open := b.old.wantBeat(1)
		b.offer(15 * time.Second)
		p := b.to.accept()
		f := p.want("handover")
		p.answer(f, handed(2, at(4, 0)))
		p.after(0)
		p.want("handover.done")
		b.old.refuse(open, wire.Errorf(wire.Moved, "elsewhere"))
		p.after(4 * time.Second)
		p.after(4 * time.Second)
		b.old.quiet()
		select {
		case <-k.Done():
			t.Errorf("over: %v", k.Err())
		default:
		}
	})
}

func TestCall_ASessionThatIsElsewhereIsFoundByItsBeat(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.calling(t)
		b.old.refuse(b.old.wantBeat(1), wire.Errorf(wire.Moved, "elsewhere"))
		p := b.s.accept()
		p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e1", Seq: 4, Recovered: true}))
		p.after(0)
	})
}

// Its answers wait behind the events, and the call must not.
func TestCall_GoesOnWhileTheApplicationReadsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.calling(t)
		for seq := range uint64(2000) {
			b.old.event("r", 5+seq)
		}
		for range 5 {
			began := time.Now()
			f := b.old.wantBeat(1)
			b.old.answer(f, wire.Empty{})
			if took := time.Since(began); took != 4*time.Second {
				t.Fatalf("the beat came after %s", took)
			}
		}
		for seq := range uint64(2000) {
			nextSeq(t, b.c, 5+seq)
		}
		b.old.after(4 * time.Second)
	})
}

func TestCall_BeatsAgainSoonAfterUnavailable(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.calling(t)
		for range 5 { // never more than a beat apart, however often
			began := time.Now()
			b.old.refuse(b.old.wantBeat(1), wire.ErrUnavailable())
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("beats again after %s", took)
			}
		}
		began := time.Now()
		b.old.answer(b.old.wantBeat(1), wire.Empty{})
		if took := time.Since(began); took > time.Second {
			t.Errorf("beats again after %s", took)
		}
		b.old.refuse(b.old.wantBeat(1), wire.ErrMethod("call.beat")) // a node of an earlier version
		b.old.after(4 * time.Second)
	})
}

func TestCall_IsOverWithTheMembership(t *testing.T) {
	for name, end := range map[string]func(b *bubble){
		"answered so": func(b *bubble) {
			b.old.refuse(b.old.wantBeat(1), wire.Errorf(wire.NotMember, "no longer"))
		},
		"kicked": func(b *bubble) {
			b.old.write((&wire.RoomEvent{Room: "r", Seq: 5, Kind: wire.KindLeave, Reason: wire.LeftKicked, From: wire.Member{User: "ann", Client: 7}}).Frame())
		},
		"not among the rooms of a resume": func(b *bubble) {
			b.old.cut()
			p := b.s.accept()
			p.answer(p.want("resume"), resumed())
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				k := b.calling(t)
				end(b)
				<-k.Done()
				if !client.Is(k.Err(), wire.NotMember) {
					t.Errorf("over with %v, want not_member", k.Err())
				}
				if err := k.End(t.Context()); err != nil {
					t.Errorf("ended: %v", err)
				}
				time.Sleep(20 * time.Second)
				b.old.quiet()
			})
		})
	}
}

func TestCall_GoesOnInTheSessionThatFollowsALostOne(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		k := b.calling(t)
		b.old.close(wire.CloseSessionGone)
		p := b.s.accept()
		p.answer(p.want("hello"), hello())
		f := p.want("room.join")
		time.Sleep(time.Second)
		p.quiet() // no beat before it is a member
		p.answer(f, wire.Joined{Room: "r", Epoch: "e1", Seq: 9, InCall: true})
		p.after(0)
		p.after(4 * time.Second)
		next(t, b.c) // lost
		if e := next(t, b.c); e != (client.Joined{Room: "r", Epoch: "e1", Seq: 9, InCall: true}) {
			t.Errorf("event is %+v, want joined, with the room in a call", e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = b.c.Close(ctx)
		synctest.Wait()
		<-k.Done()
		if !errors.Is(k.Err(), client.ErrClosed) {
			t.Errorf("over with %v, want closed", k.Err())
		}
	})
}

func TestGap_TellsWhetherTheRoomIsInACall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.old.cut()
		p := b.s.accept()
		p.answer(p.want("resume"), resumed(wire.SessionRoom{Room: "r", Epoch: "e2", Seq: 1, InCall: true}))
		wantResumed(t, b.c)
		if e := next(t, b.c); e != (client.Gap{Room: "r", Epoch: "e2", Seq: 1, InCall: true}) {
			t.Errorf("event is %+v, want a gap, with the room in a call", e)
		}
	})
}
