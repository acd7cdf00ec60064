package wire

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/internal/golden"
)

func TestParseFrame_AnswersBadFramesAsTheContractSays(t *testing.T) {
	deep := func(n int) string {
		return `{"jsonrpc":"2.0","id":1,"method":"m","params":{"d":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}}`
	}
	batch := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"m"},`, n), ",") + "]"
	}
	for _, c := range []struct {
		name, frame string
		whole       int    // code that answers the whole frame; 0: none
		codes       []int  // of each request; 0: valid
		id          string // of the first request
	}{
		{"nothing", ``, CodeParse, nil, ""},
		{"white space", "  \n", CodeParse, nil, ""},
		{"half an object", `{"jsonrpc":"2.0"`, CodeParse, nil, ""},
		{"two values", `{} {}`, CodeParse, nil, ""},
		{"duplicate key", `{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`, CodeParse, nil, ""},
		{"duplicate key, escaped", `{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"m"}`, CodeParse, nil, ""},
		{"duplicate key in data", `{"jsonrpc":"2.0","id":1,"method":"m","params":{"data":{"a":[{"b":1,"b":2}]}}}`, CodeParse, nil, ""},
		{"64 levels", deep(62), 0, []int{0}, "1"},
		{"65 levels", deep(63), CodeParse, nil, ""},
		{"brackets in a string are no levels", `{"jsonrpc":"2.0","id":1,"method":"m","params":{"d":"` + strings.Repeat("[", 99) + `\""}}`, 0, []int{0}, "1"},
		{"bad UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", CodeParse, nil, ""},
		{"empty batch", `[]`, CodeInvalidRequest, nil, ""},
		{"batch of 32", batch(32), 0, make([]int, 32), "1"},
		{"batch of 33", batch(33), CodeInvalidRequest, nil, ""},
		{"batch of junk", `[1,"x",[],{"jsonrpc":"2.0","id":7,"method":"m"}]`, 0, []int{CodeInvalidRequest, CodeInvalidRequest, CodeInvalidRequest, 0}, "null"},
		{"a number", `5`, 0, []int{CodeInvalidRequest}, "null"},
		{"an empty object", `{}`, 0, []int{CodeInvalidRequest}, "null"},
		{"no version", `{"id":1,"method":"m"}`, 0, []int{CodeInvalidRequest}, "1"},
		{"version 1.0", `{"jsonrpc":"1.0","id":"x","method":"m"}`, 0, []int{CodeInvalidRequest}, `"x"`},
		{"version as a number", `{"jsonrpc":2.0,"id":1,"method":"m"}`, 0, []int{CodeInvalidRequest}, "1"},
		{"no method", `{"jsonrpc":"2.0","id":1}`, 0, []int{CodeInvalidRequest}, "1"},
		{"method as a number", `{"jsonrpc":"2.0","id":1,"method":3}`, 0, []int{CodeInvalidRequest}, "1"},
		{"id as an object", `{"jsonrpc":"2.0","id":{},"method":"m"}`, 0, []int{CodeInvalidRequest}, "null"},
		{"id as a boolean", `{"jsonrpc":"2.0","id":true,"method":"m"}`, 0, []int{CodeInvalidRequest}, "null"},
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"m"}`, 0, []int{0}, "null"},
		{"params as an array", `{"jsonrpc":"2.0","id":1,"method":"m","params":[]}`, 0, []int{CodeInvalidParams}, "1"},
		{"params as a string", `{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}`, 0, []int{CodeInvalidParams}, "1"},
		{"params as null", `{"jsonrpc":"2.0","id":1,"method":"m","params":null}`, 0, []int{0}, "1"},
		{"a notification", `{"jsonrpc":"2.0","method":"m"}`, 0, []int{0}, ""},
		{"unknown members", `{"jsonrpc":"2.0","id":1,"method":"m","trace":{"a":1}}`, 0, []int{0}, "1"},
		{"leading white space", " \r\n\t[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}]", 0, []int{0}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := ParseFrame([]byte(c.frame))
			if c.whole != 0 {
				if err == nil || err.Code != c.whole {
					t.Fatalf("frame %q: error %v, want code %d", c.frame, err, c.whole)
				}
				return
			}
			if err != nil {
				t.Fatalf("frame %q: %v", c.frame, err)
			}
			if len(f.Requests) != len(c.codes) {
				t.Fatalf("frame %q: %d requests, want %d", c.frame, len(f.Requests), len(c.codes))
			}
			for i, r := range f.Requests {
				got := 0
				if r.Err != nil {
					got = r.Err.Code
				}
				if got != c.codes[i] {
					t.Errorf("request %d: code %d, want %d", i, got, c.codes[i])
				}
			}
			if got := string(f.Requests[0].ID); got != c.id {
				t.Errorf("id %q, want %q", got, c.id)
			}
		})
	}
}

func TestData_PassesByteForByte(t *testing.T) {
	for _, data := range []string{
		`null`, `0`, `-0.10e+2`, `"\u0041\/"`, `{ "b" : [ 1 , 2 ] , "a":{} }`, `[ ]`, `9007199254740993`, `"é"`,
	} {
		f, e := ParseFrame([]byte(`{"jsonrpc":"2.0","id":1,"method":"room.send","params":{"room":"r","data":` + data + `}}`))
		if e != nil {
			t.Fatal(e)
		}
		var p Send
		if e := Decode(f.Requests[0].Params, &p); e != nil {
			t.Fatal(e)
		}
		ev := &RoomEvent{Room: "r", Seq: 1, Kind: KindMessage, Data: p.Data}
		if want := []byte(`"data":` + data + `,`); !bytes.Contains(ev.Frame(), want) {
			t.Errorf("event %s does not hold %s", ev.Frame(), want)
		}
		answer, err := AppendResult(nil, jsontext.Value("1"), &Past{Epoch: "e", Events: []*RoomEvent{ev}})
		if err != nil || !bytes.Contains(answer, []byte(`"data":`+data+`,`)) {
			t.Errorf("history %s (%v) does not hold %s", answer, err, data)
		}
	}
}

func TestDecode_NamesWhatIsWrongWithoutItsValue(t *testing.T) {
	for _, c := range []struct{ params, at string }{
		{`{"room":5}`, "/room"},
		{`{"room":"r","type":256}`, "/type"},
		{`{"room":"r","type":-1}`, "/type"},
		{`{"room":"r","cseq":1.5}`, "/cseq"},
		{`{"room":"r","cseq":-3}`, "/cseq"},
		{`{"room":"r","to":"ann"}`, "/to"},
		{`{"room":"r","to":{"client":4294967296}}`, "/to/client"},
		{`{"room":"r","ephemeral":"secretvalue"}`, "/ephemeral"},
	} {
		var p Send
		err := Decode(jsontext.Value(c.params), &p)
		if err == nil || err.Code != CodeInvalidParams {
			t.Errorf("%s: %v, want -32602", c.params, err)
			continue
		}
		if !strings.Contains(err.Message, `"`+c.at+`"`) || strings.Contains(err.Message, "secretvalue") {
			t.Errorf("%s: message %q, want it to name %s alone", c.params, err.Message, c.at)
		}
	}
}

func TestSent_WritesItselfAsItIsMarshalled(t *testing.T) {
	for i := range 8 {
		s := Sent{Seq: uint64(i&1) * math.MaxUint64, TS: int64(i&2) * 850, Dup: i&4 != 0}
		want, err := json.Marshal(s)
		if got := s.AppendJSON([]byte("before ")); err != nil || string(got) != "before "+string(want) {
			t.Errorf("%+v is written as %s, and marshalled as %s (%v)", s, got, want, err)
		}
	}
}

// TestGolden holds every frame that the server writes against the promise made
// to old clients. Lines are only added.
func TestGolden(t *testing.T) {
	u, cl, ty, yes := "bob", uint32(7), uint8(3), true
	ann := Member{User: "ann", Client: 4294967295, Device: "phone"}
	var lines []string
	add := func(name string, frame []byte, err error) {
		if err != nil {
			t.Fatal(name, err)
		}
		if !jsontext.Value(frame).IsValid() {
			t.Errorf("%s: %s is no JSON", name, frame)
		}
		lines = append(lines, fmt.Sprintf("%s %s", name, frame))
	}
	event := func(name string, e *RoomEvent) { add(name, e.Frame(), nil) }
	event("message", &RoomEvent{Room: "r", Seq: 5, Kind: KindMessage, From: ann, Data: Raw(`{ "a": 1 }`), TS: 1700000000000})
	event("message-to", &RoomEvent{Room: "r/\"x\"", Seq: 6, Kind: KindMessage, From: ann, To: &To{User: &u, Client: &cl}, Type: &ty, Data: Raw(`null`), TS: 1})
	event("message-to-user", &RoomEvent{Room: "r", Seq: 6, Kind: KindMessage, From: ann, To: &To{User: &u}, Data: Raw(`0`), TS: 1})
	event("message-to-client", &RoomEvent{Room: "r", Seq: 6, Kind: KindMessage, From: ann, To: &To{Client: &cl}, Data: Raw(`0`), TS: 1})
	event("ephemeral", &RoomEvent{Room: "r", Kind: KindMessage, From: ann, Data: Raw(`"x"`), Ephemeral: true, TS: 1})
	event("join", &RoomEvent{Room: "r", Seq: 1, Kind: KindJoin, From: ann, TS: 1})
	event("leave", &RoomEvent{Room: "r", Seq: 2, Kind: KindLeave, From: Member{User: "ann", Client: 1}, Reason: LeftLost, TS: 1})
	event("call", &RoomEvent{Room: "r", Seq: 3, Kind: KindCall, InCall: &yes, TS: 1})
	id := jsontext.Value(`"a"`)
	result := func(name string, v any) {
		b, err := AppendResult(nil, id, v)
		add(name, b, err)
	}
	result("session", &Session{
		Session: "s", Client: 1, User: "ann", Handle: "0123456789abcdef", Gen: 1, Secret: "x", Node: "n1",
		Origins: []string{}, Limits: Limits{65536, 32768, 256}, Timers: Timers{20000, 4000, 15000, 30000},
		Rooms:    []SessionRoom{{Room: "r", Epoch: "e", Seq: 9, Recovered: true, CSeq: 4}},
		Presence: []UserPresence{}, Self: 3,
	})
	result("joined", Joined{Room: "r", Epoch: "e", Seq: 9, Members: []Member{ann}, More: true})
	result("sent", Sent{Seq: 9, TS: 8})
	result("sent-dup", Sent{Seq: 9, TS: 8, Dup: true})
	result("sent-dup-old", Sent{Dup: true})
	result("sent-ephemeral", Sent{TS: 8})
	result("info", RoomInfo{Room: "r", Epoch: "e", Seq: 9, Members: []Member{ann}, Call: []Caller{}})
	result("info-call", RoomInfo{Room: "r", Epoch: "e", Seq: 9, Members: []Member{ann}, InCall: true, Call: []Caller{{"ann", 4294967295}, {"bob", 7}}})
	result("past", &Past{Epoch: "e", Events: []*RoomEvent{{Room: "r", Seq: 1, Kind: KindJoin, From: ann, TS: 1}}, More: true})
	result("past-empty", &Past{Epoch: "e"})
	result("refreshed", Refreshed{ExpiresInMS: 5})
	result("empty", Empty{})
	notice := func(name, method string, v any) {
		b, err := AppendNotice(nil, method, v)
		add(name, b, err)
	}
	notice("reset", "room.reset", Reset{Room: "r", Epoch: "e", Seq: 2, CSeq: 1, Members: []Member{ann}})
	notice("bye", "bye", Bye{Reason: "drain", RetryAfterMS: 100})
	notice("redirect", "redirect", Redirect{ID: "o", URL: "wss://b.test/v1/ws", Token: "p.s", ExpiresInMS: 15000, Reason: ForDrain, Final: true})
	notice("redirect-cancel", "redirect.cancel", RedirectCancel{ID: "o"})
	notice("moved", "moved", MovedAway{ID: "o"})
	add("presence", (&Presence{User: "ann \"a\"", Presence: 3, PV: 1700000000000}).Frame(), nil)
	add("presence-self", (&Presence{Self: true, PV: 7}).Frame(), nil)
	for _, e := range []*Error{
		ErrUnavailable(), ErrGap(5), ErrMethod("x"), ErrRequest("x"), ErrParams("x"), ErrInternal(), Errorf(NotMember, "x"),
	} {
		add("error", AppendError(nil, nil, e), nil)
	}
	golden.Is(t, "testdata/frames.golden", []byte(strings.Join(lines, "\n")+"\n"))
}

func TestCloseCode_RangesSayWhatToDo(t *testing.T) {
	for code, want := range map[CloseCode][2]bool{ // ended, final
		CloseBye: {true, true}, CloseGoingAway: {false, false}, CloseRestart: {false, false}, 1006: {false, false},
		CloseMoved: {false, false}, CloseTooSlow: {false, false}, 4299: {false, false},
		CloseTokenExpired: {true, false}, CloseSessionGone: {true, false}, 4399: {true, false},
		CloseProtocol: {false, true}, CloseSignedOut: {true, true}, CloseNoHello: {false, true}, CloseTooBig: {false, true},
	} {
		if got := [2]bool{code.Ended(), code.Final()}; got != want {
			t.Errorf("code %s: ended, final = %v, want %v", code, got, want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":"x"}}`, `[]`, `[{}]`, `{"id":{}}`, "\xff", `"\"`,
		`{"jsonrpc":"2.0","method":"room.send","params":{"room":"a\u0062","data":[1,{"x":"}\""}, -2e3 ],"cseq":7,"ephemeral":true}, "more" : null}`,
		` { "\u0069d" : "1" , "jsonrpc" : "2.0", "method":"m\n","params":null } `, `{"jsonrpc":"2.0","id":-1,"method":"m","params":{"room":null,"cseq":-1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":5}`, `{"jsonrpc":"2.0","id":1,"method":"m","params":[]}`,
		`{"jsonrpc":"2.0","id":1,"method":"m","params":{"room":"r","cseq":1.0,"to":{"user":"a"},"type":255,"data":null}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b)
		if err != nil {
			if !jsontext.Value(AppendError(nil, nil, err)).IsValid() {
				t.Fatalf("answer to %q is no JSON", b)
			}
			return
		}
		if len(frame.Requests) == 0 || len(frame.Requests) > MaxBatch {
			t.Fatalf("%q: %d requests", b, len(frame.Requests))
		}
		if !frame.Batch {
			sameRequest(t, b, frame.Requests[0])
		}
		for _, r := range frame.Requests {
			if r.ID != nil && !r.ID.IsValid() {
				t.Fatalf("%q: id %q", b, r.ID)
			}
			sameSend(t, r.Params)
			for _, v := range []any{&Hello{}, &Resume{}, &Join{}, &Send{}, &History{}, &SetPresence{}, &Beat{}} {
				if err := Decode(r.Params, v); err != nil && !jsontext.Value(AppendError(nil, r.ID, err)).IsValid() {
					t.Fatalf("answer to %q is no JSON", b)
				}
			}
		}
	})
}

// sameRequest holds a request to what the library reads in its frame.
func sameRequest(t *testing.T, b []byte, r Request) {
	t.Helper()
	var want struct {
		JSONRPC jsontext.Value `json:"jsonrpc"`
		ID      jsontext.Value `json:"id"`
		Method  jsontext.Value `json:"method"`
		Params  jsontext.Value `json:"params"`
	}
	var method string
	err := json.Unmarshal(b, &want)
	if err == nil {
		err = json.Unmarshal(want.Method, &method)
	}
	if string(want.Params) == "null" {
		want.Params = nil
	}
	good := err == nil && want.Method.Kind() == '"' && string(want.JSONRPC) == `"2.0"` &&
		strings.ContainsRune("\x00n\"0", rune(want.ID.Kind())) && strings.ContainsRune("\x00{", rune(want.Params.Kind()))
	if good != (r.Err == nil) || good && (method != r.Method || !bytes.Equal(want.ID, r.ID) || !bytes.Equal(want.Params, r.Params)) {
		t.Fatalf("%q: %+v, the library says %+v, %v", b, r, want, err)
	}
}

// sameSend holds the params of a send to what the library reads in them.
func sameSend(t *testing.T, params jsontext.Value) {
	t.Helper()
	if len(params) == 0 || params.Kind() != '{' {
		return
	}
	var got, want Send
	bad := Decode(params, &got)
	if err := json.Unmarshal(params, &want); (err == nil) != (bad == nil) || err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: %+v, %v, the library says %+v, %v", params, got, bad, want, err)
	}
}

func FuzzRoomEvent(f *testing.F) {
	f.Add("room", "user", "device", "left", `{"a":1}`)
	f.Fuzz(func(t *testing.T, room, user, device, reason, data string) {
		e := &RoomEvent{Room: room, Seq: 1, Kind: KindMessage, From: Member{user, 1, device}, Reason: reason, To: &To{User: &user}}
		if jsontext.Value(data).IsValid() {
			e.Data = Raw(data)
		}
		var back struct{ Params RoomEvent }
		if err := json.Unmarshal(e.Frame(), &back, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatalf("frame %q: %v", e.Frame(), err)
		}
	})
}

func BenchmarkRoomEventFrame(b *testing.B) {
	b.ReportAllocs()
	data := Raw(`{"text":"` + strings.Repeat("x", 110) + `"}`)
	for b.Loop() {
		e := &RoomEvent{Room: "lobby", Seq: 12345, Kind: KindMessage, From: Member{"ann", 123456, "phone"}, Data: data, TS: 1700000000000}
		e.Frame()
	}
}

func BenchmarkParseSend(b *testing.B) {
	b.ReportAllocs()
	frame := []byte(`{"jsonrpc":"2.0","id":17,"method":"room.send","params":{"room":"lobby","cseq":17,"data":{"text":"` + strings.Repeat("x", 110) + `"}}}`)
	for b.Loop() {
		f, _ := ParseFrame(frame)
		var p Send
		Decode(f.Requests[0].Params, &p)
	}
}
