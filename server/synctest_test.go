package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/go-json-experiment/json"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

// person is a session on plain frames, in virtual time.
type person struct {
	*raw.Conn
	t       *testing.T
	session wire.Session
	// known is how present others are, as far as this one was told.
	known map[string]uint8
	// lost is the URL of a node that it cannot reach; it says so after a while, if
	// that is not 0.
	lost string
	says time.Duration
}

// next is the next notice, but for those that tell of somebody for the first time.
func (p *person) next(ctx context.Context) (raw.Notice, error) {
	for {
		n, err := p.Next(ctx)
		if err != nil || n.Method != "presence" {
			return n, err
		}
		var told wire.Presence
		if err := json.Unmarshal(n.Params, &told); err != nil {
			p.t.Fatal(err)
		}
		if _, again := p.known[told.User]; again || told.Self {
			return n, nil
		}
		if p.known == nil {
			p.known = make(map[string]uint8)
		}
		p.known[told.User] = told.Presence
	}
}

func enter(t *testing.T, f *trial.Fleet, node int, user string) *person {
	t.Helper()
	p := &person{t: t, Conn: dial(t, f, node)}
	if err := p.Call(t.Context(), "hello", wire.Hello{Token: "dev:" + user}, &p.session); err != nil {
		t.Fatal(err)
	}
	return p
}

func dial(t *testing.T, f *trial.Fleet, node int) *raw.Conn {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", fmt.Sprintf("n%d:80", node))
	if err != nil {
		t.Fatal(err)
	}
	c, err := raw.Over(conn, f.Nodes[node-1].URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Drop)
	return c
}

func (p *person) join(room string) {
	p.t.Helper()
	if err := p.Call(p.t.Context(), "room.join", wire.Join{Room: room}, nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) say(text string, cseq uint64) error {
	return p.Call(p.t.Context(), "room.send", wire.Send{Room: "lobby", Data: wire.Raw(`"` + text + `"`), CSeq: &cseq}, nil)
}

// sees expects the next notice, soon, but for presence, to be that message or
// that kind.
func (p *person) sees(want string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	n, err := p.next(ctx)
	for err == nil && n.Method == "presence" {
		n, err = p.next(ctx)
	}
	if err != nil || n.Event == nil || string(n.Event.Data) != `"`+want+`"` && string(n.Event.Kind) != want {
		p.t.Fatalf("got %+v, %v, want %s", n, err, want)
	}
}

func (p *person) seesNothing(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), d)
	defer cancel()
	if n, err := p.next(ctx); err == nil {
		p.t.Fatalf("got %s %s", n.Method, n.Params)
	}
}

func reason(err error) wire.Reason {
	var e *wire.Error
	errors.As(err, &e)
	return e.Reason()
}

func fleet(t *testing.T, test func(t *testing.T, f *trial.Fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := trial.Start(trial.Options{Nodes: 2, Bubble: true})
		defer f.Close()
		time.Sleep(3 * time.Second) // the nodes' stores have been good for a lease
		test(t, f)
	})
}

func TestOutage_LongerThanTheGraceEndsNobodysSession(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		ann.sees("join")
		f.Redis.SetError("LOADING not now")
		for _, p := range []*person{ann, bob} {
			asked := time.Now()
			if err := p.say("lost?", 1); reason(err) != wire.Unavailable || time.Since(asked) > time.Second {
				t.Errorf("a send answers %v after %s, want unavailable within 1s", err, time.Since(asked))
			}
		}
		time.Sleep(time.Minute) // twice the grace
		f.Redis.SetError("")
		ann.seesNothing(time.Minute)
		bob.seesNothing(time.Second)
		if err := ann.say("back", 1); err != nil {
			t.Fatal(err)
		}
		bob.sees("back")
	})
}

func TestOutage_WhoCouldNotResumeMeanwhileHasALeaseOfTimeForIt(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		bob.join("lobby")
		ann.join("lobby")
		bob.sees("join")
		ann.Drop()
		synctest.Wait()
		time.Sleep(time.Second) // the session is detached
		f.Redis.SetError("LOADING not now")
		time.Sleep(time.Minute) // its grace ends meanwhile
		f.Redis.SetError("")
		time.Sleep(900 * time.Millisecond) // more than a sweep's round, less than a lease
		again := dial(t, f, 2)
		if err := again.Call(t.Context(), "resume", wire.Resume{Session: ann.session.Session, Secret: ann.session.Secret}, nil); err != nil {
			t.Errorf("a resume right after the outage answers %v", err)
		}
		bob.seesNothing(time.Minute)
	})
}

func TestLease_ANodeIsFencedBeforeItEnds(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		n := f.Nodes[0]
		joined := func() bool { return n.Core.State().Joined }
		n.Part()
		time.Sleep(550 * time.Millisecond) // renewed a third of a lease ago at most
		if !joined() {
			t.Error("fenced while the lease stands")
		}
		time.Sleep(360 * time.Millisecond) // the lease has 90 ms left, or less
		if joined() {
			t.Error("not fenced although the lease may end at any moment")
		}
		n.Join()
		time.Sleep(time.Second)
		if !joined() {
			t.Error("still fenced after a second with the store")
		}
	})
}

func TestPart_ANodeThatComesBackInTheGraceKeepsItsSessions(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		ann.sees("join")
		f.Nodes[0].Part()
		if err := bob.say("while apart", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the other node has swept: ann's session is detached
		if !f.Nodes[0].Core.State().JoinedOnce || f.Nodes[0].Core.State().Joined {
			t.Errorf("state %+v, want fenced", f.Nodes[0].Core.State())
		}
		if err := ann.say("fenced", 1); reason(err) != wire.Unavailable {
			t.Errorf("a send at a fenced node answers %v, want unavailable", err)
		}
		f.Nodes[0].Join()
		ann.sees("while apart")
		bob.seesNothing(time.Minute) // past the grace
		if err := ann.say("kept", 1); err != nil {
			t.Fatal(err)
		}
		bob.sees("kept")
	})
}

func TestPart_ANodeThatComesBackTooLateClosesWhatIsGone(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob, eve := enter(t, f, 1, "ann"), enter(t, f, 2, "bob"), enter(t, f, 1, "eve")
		bob.join("lobby")
		ann.join("lobby")
		bob.sees("join")
		f.Nodes[0].Part()
		time.Sleep(5 * time.Second)
		again := dial(t, f, 2) // eve goes on elsewhere, in time
		if err := again.Call(t.Context(), "resume", wire.Resume{Session: eve.session.Session, Secret: eve.session.Secret}, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		bob.sees("leave")
		bob.seesNothing(time.Minute) // once
		if ann.Closed() != nil || eve.Closed() != nil {
			t.Fatalf("a fenced node closed its sockets: %v, %v", ann.Closed(), eve.Closed())
		}
		f.Nodes[0].Join()
		for _, c := range []struct {
			who  *person
			code wire.CloseCode
		}{{ann, wire.CloseSessionGone}, {eve, wire.CloseReplaced}} {
			end, err := c.who.End(t.Context())
			if err != nil || end.Code != c.code {
				t.Errorf("closed %v %v, want %s", end, err, c.code)
			}
		}
		if again.Closed() != nil {
			t.Errorf("the session's newer socket: %v", again.Closed())
		}
		bob.seesNothing(time.Minute)
	})
}

// A store that is wiped and then away leaves no send, and no reader, waiting.
func TestWipe_ASendIsAnsweredInTimeThoughTheRoomIsNotRebuilt(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		ann.join("lobby")
		f.Redis.FlushAll()
		f.Redis.Server().SetPreHook(func(p *server.Peer, _ string, args ...string) bool {
			if !slices.Contains(args, "gw:store") {
				return false // the send is served: it finds no room
			}
			p.WriteError("LOADING not now") // the node cannot know that all is lost
			return true
		})
		asked := time.Now()
		ids := make([]string, 3)
		for i := range ids {
			var err error
			if ids[i], err = ann.Ask("room.send", wire.Send{Room: "lobby", Data: wire.Raw(`"lost?"`)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range ids {
			if err := ann.Answer(t.Context(), id, nil); reason(err) != wire.Unavailable {
				t.Errorf("a send answers %v, want unavailable", err)
			}
		}
		if took := time.Since(asked); took > time.Second {
			t.Errorf("answered after %s, want 1s at most", took)
		}
		f.Redis.Server().SetPreHook(nil)
		n, err := ann.Next(t.Context())
		if err != nil || n.Method != "room.reset" {
			t.Fatalf("got %+v, %v, want a reset", n, err)
		}
		time.Sleep(time.Second) // the lease, too, has waited
		if err := ann.say("back", 1); err != nil {
			t.Error(err)
		}
	})
}

// sessionList is the key of the sessions that the store has at a node.
func sessionList(f *trial.Fleet, node int) string {
	ref := f.Nodes[node-1].Core.Ref()
	return "gw:{n:" + ref.Node + "/" + ref.Boot + "}:sessions"
}

// The store took a claim whose answer was lost: nobody has the socket.
func TestCustody_ASessionWithoutASocketIsNotLiveForEver(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann, bob := enter(t, f, 1, "ann"), enter(t, f, 2, "bob")
		ann.join("lobby")
		bob.join("lobby")
		ann.sees("join")
		ann.Drop()
		synctest.Wait()
		record, list := "gw:{s:"+ann.session.Session+"}:session", sessionList(f, 1)
		f.Redis.HSet(record, "state", "live")
		f.Redis.HIncrBy(record, "gen", 1)
		f.Redis.SAdd(list, ann.session.Session)
		bob.seesNothing(time.Minute) // two looks, and then its grace
		time.Sleep(31 * time.Second)
		bob.sees("leave")
		if f.Redis.Exists(record) || f.Redis.Exists(list) {
			t.Error("the session is not forgotten")
		}
	})
}

// A list that lost a name would leave its session behind when the node dies.
func TestCustody_ASessionThatTheListLostIsListedAgain(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		ann := enter(t, f, 1, "ann")
		list := sessionList(f, 1)
		if _, err := f.Redis.SRem(list, ann.session.Session); err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Second)
		if ok, err := f.Redis.SIsMember(list, ann.session.Session); err != nil || !ok {
			t.Errorf("listed: %t, %v", ok, err)
		}
	})
}
