package binary_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"godwit/e2e/raw"
	"godwit/internal/trial"
	"godwit/wire"
)

func TestFirst_IsHELLOOfVersion1OrTheSocketIsClosed(t *testing.T) {
	for _, path := range []string{"/v1/chatd/lobby", "/v1/statusd"} {
		bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
			watcher := ws(t, f, "lobby", "ann")
			for _, c := range []struct{ name, frame, answer string }{
				{"nothing", "", ""},
				{"an unknown command", "05", ""},
				{"another command", "03 01", ""},
				{"another command, statusd's", "11 03", ""},
				{"a message", "02 0000000000000000 00000000 00 000000", ""},
				{"an ERROR", "7f 01 01", ""},
				{"half a HELLO", "01 01", "7f 01 01"},
				{"version 0", "01 0000 0000", "7f 01 01"},
				{"version 2", "01 0200 0000", "7f 01 01"},
				{"version 256", "01 0001 0000", "7f 01 01"},
				{"HELLO later", "03 01 01 0100 0000", ""},
			} {
				t.Log(path, c.name)
				p := open(t, f, path, bearer("bob"))
				p.say(raw.Hex(c.frame))
				if c.answer != "" {
					p.hears(c.answer)
				}
				p.ends(wire.CloseProtocol)
			}
			watcher.seesNoMore() // of sockets that never came in
		})
	}
}

func TestFirst_WhatFollowsHELLOInItsFrameIsServed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		p := open(t, f, "/v1/chatd/lobby", bearer("bob"))
		p.say(raw.Hex("01 0100 ffff"), raw.RTMsg(raw.Nobody, 0, 1, []byte("at once")), raw.Hex("99"))
		if b := p.next(); b[0] != 0x01 {
			t.Fatalf("HELLO is answered %x", b)
		}
		p.hears("03 00")
		p.hears("7f 99 02")
		ann.event()
		if ev := ann.event(); string(ev.Data) != `{"b64":"`+b64("at once")+`"}` {
			t.Errorf("ann saw %s", ev.Data)
		}
	})
}

func TestBadFrame_IsAnsweredAndWhatWasBeforeItHolds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		neighbour := enter(t, f, "lobby", "eve")
		bob := enter(t, f, "lobby", "bob")
		ann.sees(wire.KindJoin, neighbour.client)
		ann.sees(wire.KindJoin, bob.client)
		good := func(i int) []byte { return raw.RTMsg(raw.Nobody, 0, 0, []byte(strconv.Itoa(i))) }
		for i, c := range []struct{ name, bad, answer string }{
			{"unknown", "04", "7f 04 02"},
			{"opcode 0", "00", "7f 00 02"},
			{"an ERROR", "7f 01 01", "7f 7f 02"},
			{"statusd's", "11 03", "7f 11 02"},
			{"a second HELLO", "01 0100 0000", "7f 01 01"},
			{"half a HELLO", "01 01", "7f 01 01"},
			{"half a beat", "03", "7f 03 01"},
			{"a beat that is neither", "03 02", "7f 03 01"},
			{"a beat of 255", "03 ff", "7f 03 01"},
			{"a message cut", "02 00", "7f 02 01"},
			{"a message past the frame", "02 0000000000000000 00000000 00 090000 01", "7f 02 01"},
			{"a message of 2^24-1 bytes", "02 0000000000000000 00000000 00 ffffff 01", "7f 02 01"},
		} {
			t.Log(c.name)
			// What follows a message past the frame's end would be taken for it.
			behind := good(1000)
			if strings.Contains(c.name, "past") || strings.Contains(c.name, "cut") || strings.HasPrefix(c.name, "half") {
				behind = nil
			}
			bob.say(good(i), raw.Hex(c.bad), behind)
			bob.hears(c.answer)
			if ev := ann.sees(wire.KindMessage, bob.client); string(ev.Data) != string(`{"b64":"`+b64(strconv.Itoa(i))+`"}`) {
				t.Errorf("%s: ann saw %s, want what was before it", c.name, ev.Data)
			}
			neighbour.gets(handleOf(t, f, "bob"), bob.client, 0, strconv.Itoa(i))
		}
		bob.say() // an empty frame
		bob.hears("7f 00 01")
		bob.say(good(7))
		ann.sees(wire.KindMessage, bob.client)
		bob.quiet()
	})
}

func TestStatusd_ABadFrameIsAnsweredAndWhatWasBeforeItHolds(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		neighbour := watch(t, f, "eve", 0x83)
		neighbour.hears("10" + raw.Nobody + "03")
		bob := watch(t, f, "bob", 0x83)
		bob.hears("10" + raw.Nobody + "03")
		for i, c := range []struct{ name, bad, answer string }{
			{"unknown", "12", "7f 12 02"},
			{"opcode 0", "00", "7f 00 02"},
			{"an ERROR", "7f 11 01", "7f 7f 02"},
			{"chatd's", "03 01", "7f 03 02"},
			{"a PRES", "10 0000000000000000 05", "7f 10 02"},
			{"a second HELLO", "01 0100 05 00", "7f 01 01"},
			{"half a HELLO", "01 01", "7f 01 01"},
			{"half a SETPRES", "11", "7f 11 01"},
		} {
			t.Log(c.name)
			value := byte(10 + i)
			behind := raw.Hex("11 7f")
			if strings.HasPrefix(c.name, "half") {
				behind = nil // it would be taken for the other half
			}
			bob.say([]byte{0x11, value}, raw.Hex(c.bad), behind)
			heard := []string{string(bob.next()), string(bob.next())} // an answer and an event, in any order
			slices.Sort(heard)
			if want := []string{string(raw.Hex("10"+raw.Nobody)) + string(value), string(raw.Hex(c.answer))}; !slices.Equal(heard, want) {
				t.Errorf("%s: heard %x, want %x", c.name, heard, want)
			}
			bob.quiet()
		}
		bob.say() // an empty frame
		bob.hears("7f 00 01")
		bob.say(raw.Hex("11 00"))
		bob.hears("10" + raw.Nobody + "00")
		neighbour.quiet()
	})
}

func TestChatd_LimitsAreThoseOfTheRoom(t *testing.T) {
	change := func(s *trial.Settings) {
		s.Server.MessageBytes, s.Server.Rate, s.Server.Burst = 1000, 1, 5
	}
	bubble(t, change, func(t *testing.T, f *trial.Fleet) {
		ann := ws(t, f, "lobby", "ann")
		bob := enter(t, f, "lobby", "bob")
		ann.sees(wire.KindJoin, bob.client)
		most := bytes.Repeat([]byte{0xff}, 1000)
		bob.say(raw.RTMsg(raw.Nobody, 0, 0, most), raw.RTMsg(raw.Nobody, 0, 0, append(most, 1)), raw.RTMsg(raw.Nobody, 0, 0, []byte("x")))
		bob.hears("7f 02 03")
		ann.sees(wire.KindMessage, bob.client)
		ann.sees(wire.KindMessage, bob.client)
		one := raw.RTMsg(raw.Nobody, 0, 0, nil)
		bob.say(slices.Repeat(one, 4)) // two of the burst are left
		bob.hears("7f 02 05")
		bob.hears("7f 02 05")
		ann.sees(wire.KindMessage, bob.client)
		ann.sees(wire.KindMessage, bob.client)
		time.Sleep(time.Second)
		bob.say(one)
		ann.sees(wire.KindMessage, bob.client)
		bob.quiet()
	})
}

// A frame of many bad commands costs its sender the answers, and nobody else
// anything.
func TestChatd_AFrameOfNothingButRefusalsIsAnsweredWhole(t *testing.T) {
	change := func(s *trial.Settings) { s.Server.Rate, s.Server.Burst = 1, 1 }
	bubble(t, change, func(t *testing.T, f *trial.Fleet) {
		bob, cy := enter(t, f, "lobby", "bob"), enter(t, f, "lobby", "cy")
		const n = 30000
		bob.say(slices.Repeat(raw.Hex("03 01"), n))
		for i := range n - 1 {
			if b := bob.next(); !bytes.Equal(b, raw.Hex("7f 03 05")) {
				t.Fatalf("answer %d is %x, want IN_CALL rate limited", i, b)
			}
		}
		cy.say(raw.Hex("03 01")) // the neighbour has all of its own rate
		cy.hears("03 01")
		bob.hears("03 01")
	})
}

func TestSocket_OfTheWrongKindIsClosed(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		for _, c := range []struct {
			name string
			do   func(p *peer) error
			code wire.CloseCode
		}{
			{"text", func(p *peer) error { return p.Frame(0x1, []byte("hi")) }, wire.CloseBinary},
			{"too big", func(p *peer) error { return p.Frame(0x2, make([]byte, 64<<10+1)) }, wire.CloseTooBig},
			{"text, not UTF-8", func(p *peer) error { return p.Frame(0x1, []byte{0xff}) }, wire.CloseBadUTF8},
		} {
			p := enter(t, f, "lobby", "bob")
			if err := c.do(p); err != nil {
				t.Fatal(err)
			}
			t.Log(c.name)
			p.ends(c.code)
		}
	})
}

func TestUpgrade_IsRefusedBeforeIt(t *testing.T) {
	change := func(s *trial.Settings) { s.Socket.Origins = []string{"https://ok.example"} }
	bubble(t, change, func(t *testing.T, f *trial.Fleet) {
		with := func(h http.Header, more ...string) http.Header {
			for i := 0; i < len(more); i += 2 {
				h.Add(more[i], more[i+1])
			}
			return h
		}
		const protocols = "Sec-Websocket-Protocol"
		for _, c := range []struct {
			name, path string
			header     http.Header
			status     int
		}{
			{"no token", "/v1/chatd/r", nil, 401},
			{"a bad one", "/v1/chatd/r", http.Header{"Authorization": {"Bearer x"}}, 401},
			{"of a user without a name", "/v1/chatd/r", bearer(""), 401},
			{"another scheme", "/v1/chatd/r", http.Header{"Authorization": {"Basic dev:ann"}}, 401},
			{"in a protocol, bad", "/v1/chatd/r", http.Header{protocols: {"chatd.v1, bearer.x"}}, 401},
			{"in the URL", "/v1/chatd/r?token=dev:ann", nil, 401},
			{"statusd, no token", "/v1/statusd", nil, 401},
			{"an origin", "/v1/chatd/r", with(bearer("ann"), "Origin", "https://evil.example"), 403},
			{"no room", "/v1/chatd/", bearer("ann"), 400},
			{"a room with control characters", "/v1/chatd/a%00b", bearer("ann"), 400},
			{"a room that is not UTF-8", "/v1/chatd/%ff", bearer("ann"), 400},
			{"a room of 201 bytes", "/v1/chatd/" + strings.Repeat("x", 201), bearer("ann"), 400},
		} {
			conn, err := f.Dial(t.Context(), "tcp", "n1:80")
			if err != nil {
				t.Fatal(err)
			}
			_, err = raw.OverChatd(conn, "ws://n1:80"+c.path, c.header)
			if r, ok := err.(*raw.Refused); !ok || r.Status != c.status {
				t.Errorf("%s: %v, want %d", c.name, err, c.status)
			}
			conn.Close()
		}
		for name, h := range map[string]http.Header{
			"header":              bearer("ann"),
			"header, lower case":  {"Authorization": {"bearer dev:ann"}},
			"second protocol":     {protocols: {"chatd.v1, bearer.dev:ann"}},
			"second line":         {protocols: {"chatd.v1", "bearer.dev:ann"}},
			"no protocol of ours": {protocols: {"bearer.dev:ann"}},
			"origin":              with(bearer("ann"), "Origin", "https://ok.example"),
		} {
			t.Log(name)
			p := open(t, f, "/v1/chatd/r", h)
			p.say(helloOne)
			if b := p.next(); b[0] != 1 {
				t.Errorf("%s: HELLO is answered %x", name, b)
			}
		}
	})
}

func TestUpgrade_SelectsTheDialectAndNeverTheToken(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		for path, want := range map[string]string{"/v1/chatd/r": "chatd.v1", "/v1/statusd": "statusd.v1"} {
			conn, err := f.Dial(t.Context(), "tcp", "n1:80")
			if err != nil {
				t.Fatal(err)
			}
			line := &heard{Conn: conn}
			c, err := raw.OverChatd(line, "ws://n1:80"+path, http.Header{"Sec-Websocket-Protocol": {"bearer.dev:ann, " + want}})
			if err != nil {
				t.Fatal(err)
			}
			if head := line.all.String(); !strings.Contains(head, "Sec-WebSocket-Protocol: "+want+"\r\n") || strings.Contains(head, "bearer") {
				t.Errorf("%s is answered %s", path, head)
			}
			c.Drop()
		}
	})
}

// heard keeps what was read before the first frame.
type heard struct {
	net.Conn
	all bytes.Buffer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.all.Write(p[:n])
	return n, err
}

// The name is one percent-encoded segment, whatever is in it.
func TestChatd_ARoomsNameIsThatOfTheOtherEndpoint(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *trial.Fleet) {
		for _, c := range []struct{ path, room string }{
			{"lobby", "lobby"},
			{"a%2Fb", "a/b"},
			{"%2F%2F", "//"},
			{"a%20b", "a b"},
			{"a+b", "a+b"},
			{"100%25", "100%"},
			{"%2525", "%25"},
			{"caf%C3%A9", "café"},
			{"..", ".."},
			{"%3F%23", "?#"},
			{strings.Repeat("x", 200), strings.Repeat("x", 200)},
		} {
			ann := ws(t, f, c.room, "ann")
			bob := enter(t, f, c.path, "bob")
			if ev := ann.sees(wire.KindJoin, bob.client); ev.Room != c.room {
				t.Errorf("%s is the room %q, want %q", c.path, ev.Room, c.room)
			}
		}
	})
}

// Frames that are nearly right, from a fixed seed: the connection lives, nobody
// else notices, and nothing is taken for a message that is none.
func TestBadFrames_OfAnyKindHarmNobody(t *testing.T) {
	for seed := range uint64(4) {
		bubble(t, func(s *trial.Settings) { s.Server.Rate, s.Server.Burst = 1e6, 1e6 }, func(t *testing.T, f *trial.Fleet) {
			rng := rand.New(rand.NewPCG(seed, 0))
			ann := ws(t, f, "lobby", "ann")
			bob := enter(t, f, "lobby", "bob")
			ann.sees(wire.KindJoin, bob.client)
			eve := open(t, f, "/v1/statusd", bearer("eve"))
			eve.say(raw.Hex("01 0100 03 00"))
			for range 300 {
				frame := slices.Concat(
					raw.RTMsg(raw.Nobody, 0, 0, []byte("junk")), raw.Hex("03 01"), raw.Hex("11 03"), raw.RTMsg(ann.is.Handle, 1, 0, nil),
				)
				for range rng.IntN(4) {
					frame[rng.IntN(len(frame))] = byte(rng.IntN(256))
				}
				from := rng.IntN(len(frame))
				frame = frame[from : from+rng.IntN(len(frame)-from+1)]
				bob.say(frame)
				eve.say(frame)
			}
			bob.say(raw.RTMsg(raw.Nobody, 0, 77, []byte("the end")))
			for {
				ev := ann.sees(wire.KindMessage, bob.client)
				if *ev.Type == 77 && string(ev.Data) == `{"b64":"`+b64("the end")+`"}` {
					break
				}
			}
			time.Sleep(time.Second)
			if bob.Closed() != nil || eve.Closed() != nil || ann.Closed() != nil {
				t.Errorf("closed: %v, %v, %v", bob.Closed(), eve.Closed(), ann.Closed())
			}
			if n := f.Nodes[0].Sockets.Stats.Panics.Load(); n != 0 {
				t.Errorf("seed %d: %d panics", seed, n)
			}
		})
	}
}
