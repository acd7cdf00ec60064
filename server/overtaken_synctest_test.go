package server_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godwit/e2e/fault"
	"godwit/internal/trial"
	"godwit/wire"
)

// names is a command, one of whose arguments begins so.
func names(command, begin string) func([][]byte) bool {
	return func(args [][]byte) bool {
		if !bytes.EqualFold(args[0], []byte(command)) {
			return false
		}
		for _, arg := range args {
			if bytes.HasPrefix(arg, []byte(begin)) {
				return true
			}
		}
		return false
	}
}

// heldUp has a node's connections to the store go by points.
func heldUp(name string, points *fault.Points) func(s *trial.Settings, node string) {
	return func(s *trial.Settings, node string) {
		if node == name {
			s.Store.Dial = points.Dial(s.Store.Dial)
		}
	}
}

// Who is not answered has no session's secret: nobody could resume what was begun.
func TestHello_WhoseAnswerIsLostLeavesNoSession(t *testing.T) {
	var points fault.Points
	trio(t, heldUp("n1", &points), func(t *testing.T, f *trial.Fleet) {
		enter(t, f, 1, "bob") // the script is there
		at := points.At(fault.Step{Does: fault.On(":session"), Answered: true})
		defer at.Release()
		conn := dial(t, f, 1)
		refused := make(chan error, 1)
		go func() { refused <- conn.Call(t.Context(), "hello", wire.Hello{Token: "dev:ann"}, nil) }()
		<-at.Reached()
		sessions := func() []string {
			return slices.DeleteFunc(f.Redis.Keys(), func(key string) bool { return !strings.HasPrefix(key, "gw:{s:") || !strings.HasSuffix(key, ":session") })
		}
		if got := sessions(); len(got) != 2 {
			t.Fatalf("begun are %q", got)
		}
		if err := <-refused; err == nil || !strings.Contains(err.Error(), "unavailable") {
			t.Fatalf("hello: %v", err)
		}
		time.Sleep(time.Second)
		if got := sessions(); len(got) != 1 {
			t.Errorf("a second later there is %q", got)
		}
	})
}

// While a node is busy with a join, the session may have gone on elsewhere.
func TestJoin_ThatWasOvertakenChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		late  func(args [][]byte) bool // what n1 says late
		again bool                     // the client joins where it has gone
	}{
		"the join itself, and the client has joined again": {names("EVALSHA", "gw:{r:lobby}:gone:"), true},
		"the join itself, and the client has not":          {names("EVALSHA", "gw:{r:lobby}:gone:"), false},
		"the node does not hear the room yet":              {names("SUBSCRIBE", "gw:{r:lobby}:ev"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var points fault.Points
			trio(t, heldUp("n1", &points), func(t *testing.T, f *trial.Fleet) {
				bob := enter(t, f, 2, "bob")
				bob.join("lobby")
				ann := follower(t, f, 1, "ann")
				at := points.At(fault.Step{Does: c.late})
				defer at.Release()
				old, late := ann.Conn, make(chan error, 1)
				go func() { late <- old.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil) }()
				synctest.Wait()
				ann.resume(f, 2, wire.Position{})
				want := 0
				if c.again {
					ann.join("lobby")
					want = 1
				}
				<-at.Reached()
				at.Release()
				<-late
				synctest.Wait()

				var info wire.RoomInfo
				if err := bob.Call(t.Context(), "room.info", wire.Info{Room: "lobby"}, &info); err != nil || len(info.Members) != 1+want {
					t.Errorf("the room has %+v, %v; want bob, and ann %d times", info.Members, err, want)
				}
				var s wire.Session
				if err := dial(t, f, 3).Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, &s); err != nil {
					t.Fatal(err)
				}
				if len(s.Rooms) != want {
					t.Errorf("resumed in %+v, want %d rooms", s.Rooms, want)
				}
			})
		})
	}
}

// A client waits five seconds for a resume, and may then be elsewhere: a node that is as
// late as that would put it out there.
func TestResume_ThatIsTooLateTakesNothingUp(t *testing.T) {
	for late, wait := range map[bool]time.Duration{false: 4500 * time.Millisecond, true: 5500 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			var points fault.Points
			trio(t, heldUp("n2", &points), func(t *testing.T, f *trial.Fleet) {
				ann := enter(t, f, 1, "ann")
				ann.join("lobby")
				login := points.At(fault.Step{Does: names("SUBSCRIBE", "gw:{u:busy}")})
				defer login.Release()
				var busy sync.WaitGroup
				for range 64 { // who have every turn
					conn := dial(t, f, 2)
					busy.Go(func() {
						if err := conn.Call(t.Context(), "hello", wire.Hello{Token: "dev:busy"}, nil); err != nil {
							t.Error(err)
						}
					})
				}
				<-login.Reached()
				synctest.Wait()
				conn, answer := dial(t, f, 2), make(chan error, 1)
				go func() {
					answer <- conn.Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, nil)
				}()
				time.Sleep(3 * time.Second)
				room := points.At(fault.Step{Does: names("SUBSCRIBE", "gw:{r:lobby}")})
				defer room.Release()
				login.Release()
				busy.Wait()
				<-room.Reached()
				time.Sleep(wait - 3*time.Second)
				room.Release()
				if err := <-answer; late != (reason(err) == wire.Unavailable) {
					t.Errorf("resume after %s: %v", wait, err)
				}
				synctest.Wait()
				if err := ann.say("here", 1); late != (err == nil) {
					t.Errorf("on its socket before, after a resume of %s: %v", wait, err)
				}
			})
		})
	}
}

// Of two resumes of a session at one node the one that the store has answered last is
// the session's, whichever the node goes on with first.
func TestResume_ThatAnotherOvertookGivesWay(t *testing.T) {
	var points fault.Points
	trio(t, heldUp("n2", &points), func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		ann.join("lobby")
		again := wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}
		if err := dial(t, f, 2).Call(t.Context(), "resume", again, nil); err != nil {
			t.Fatal(err) // the script is there
		}
		claim := points.At(fault.Step{Does: fault.On(":session"), Answered: true})
		defer claim.Release()
		first, answer := dial(t, f, 2), make(chan error, 1)
		go func() { answer <- first.Call(t.Context(), "resume", again, nil) }()
		<-claim.Reached()
		ann.Conn = dial(t, f, 2)
		if err := ann.Call(t.Context(), "resume", again, nil); err != nil {
			t.Fatal(err)
		}
		claim.Release()
		if err := <-answer; reason(err) != wire.Moved {
			t.Errorf("the first resume: %v, want that it was overtaken", err)
		}
		synctest.Wait()
		if err := ann.say("here", 1); err != nil {
			t.Errorf("who was resumed last is not there any more: %v", err)
		}
	})
}

// Who is put out of a room and joins it again at once is in it as any other, however
// late the record is told of the one and of the other.
func TestKick_OfOneWhoIsBackAtOnceLeavesNoGhost(t *testing.T) {
	for name, late := range map[string]string{"the operator's node is late": "n2", "its own node is late": "n1"} {
		t.Run(name, func(t *testing.T) {
			var points fault.Points
			trio(t, heldUp(late, &points), func(t *testing.T, f *trial.Fleet) {
				ann := enter(t, f, 1, "ann")
				ann.join("lobby")
				at := points.At(fault.Step{Does: takesOff})
				defer at.Release()
				kicked, back := make(chan error, 1), make(chan error, 1)
				go func() { kicked <- f.Nodes[1].Core.Fleet().Kick(t.Context(), "lobby", ann.session.Client) }()
				ann.hears(wire.KindLeave, wire.LeftKicked, wire.Member{User: "ann", Client: ann.session.Client})
				<-at.Reached()
				go func() { back <- ann.Call(t.Context(), "room.join", wire.Join{Room: "lobby"}, nil) }()
				synctest.Wait()
				at.Release()
				if err := errors.Join(<-kicked, <-back); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				_, rooms, err := f.Nodes[2].Core.Fleet().Session(t.Context(), ann.session.Session)
				if err != nil || !slices.Equal(rooms, []string{"lobby"}) {
					t.Errorf("the session is listed in %q, %v", rooms, err)
				}
				r, err := f.Nodes[2].Core.Fleet().Room(t.Context(), "lobby")
				if err != nil || len(r.Members) != 1 {
					t.Errorf("the room has %+v, %v", r.Members, err)
				}
			})
		})
	}
}

// takesOff is a command that takes the lobby off the rooms of a session.
func takesOff(args [][]byte) bool {
	if !bytes.EqualFold(args[0], []byte("EVALSHA")) && !bytes.EqualFold(args[0], []byte("SREM")) {
		return false
	}
	var session, lobby bool
	for _, arg := range args {
		session = session || bytes.HasPrefix(arg, []byte("gw:{s:"))
		lobby = lobby || string(arg) == "lobby"
	}
	return session && lobby
}
