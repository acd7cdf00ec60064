package store

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// TestRecords_OfEarlierVersionsStayReadable holds what is stored and said
// today: a later version must read it, and this one what a later one adds.
func TestRecords_OfEarlierVersionsStayReadable(t *testing.T) {
	m, err := parseRow("7", "3 12 40 8 5 sid-1 ann 1 2 phone")
	if want := (Member{User: "ann 1 2 ", Client: 7, Device: "phone", Session: "sid-1", Gen: 3}); err != nil || m != want {
		t.Errorf("row: %+v, %v, want %+v", m, err, want)
	}
	if m, err := parseRow("7", "3 12 40 3 5 sid-1 annphone more to come"); err != nil || m.Device != "phone" {
		t.Errorf("row with an addition: %+v, %v", m, err)
	}
	h, err := decodeHeader(`{"k":"message","u":"ann","c":7,"d":"phone","tu":"bob","tc":9,"ty":3,"uh":"0011223344556677","new":{"x":1}}`)
	if err != nil || h.Kind != "message" || h.User != "ann" || h.Client != 7 || h.Handle != "0011223344556677" || *h.ToUser != "bob" || *h.ToClient != 9 || *h.Type != 3 {
		t.Errorf("header: %+v, %v", h, err)
	}
	got, err := parseMessage(`e EPOCH 5 1700000000000 16 {"k":"leave","r" :"lost"}`)
	if err == nil {
		t.Errorf("a header cut short was read: %+v", got)
	}
	got, err = parseMessage("e EPOCH 5 1700000000000 11 {\"k\":\"mess\"}\x00data e 1")
	if err == nil && (got.Epoch != "EPOCH" || got.Head != 5 || got.Entry.TS != 1700000000000) {
		t.Errorf("entry: %+v", got)
	}
	got, err = parseMessage("p 1700000000001 3 ann of 1 2")
	if err != nil || got.Entry != nil || got.Presence == nil || *got.Presence != (Presence{"ann of 1 2", 3, 1700000000001}) {
		t.Errorf("presence: %+v, %v", got.Presence, err)
	}
	for _, bad := range []string{"p", "p 1", "p 1 3", "p 1 3 ", "p 1 128 ann", "p x 3 ann", "p 1 -3 ann"} {
		if got, err := parseMessage(bad); err == nil {
			t.Errorf("presence %q was read as %+v", bad, got.Presence)
		}
	}
	rec, err := sessionOf("sid", map[string]string{
		"user": "ann", "client": "7", "device": "phone", "handle": "0011223344556677", "gen": "3", "node": "n", "boot": "b",
		"secret": "hash", "exp": "1700000000000", "globs": "null", "presence": "131", "caps": "redirect", "state": "live", "later": "x",
	})
	if err != nil || rec.User != "ann" || rec.Gen != 3 || rec.Globs != nil || !rec.HasDevice() || rec.Owner != (Ref{"n", "b"}) {
		t.Errorf("session: %+v, %v", rec, err)
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{
		"h E 5", "e E 1 2 7 {\"k\":1}", "e E 1 2 14 {\"k\":\"message\"}x", "m 2 14 {\"k\":\"message\"}x", "x", "", "e", "e E 1 2 -5 x", "e E 1 2 99999999999999999999 x", "p 1 3 ann", "p 1 3",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMessage(s)
		if err != nil {
			return
		}
		if (m.Entry != nil || m.Head != 0) && m.Presence != nil {
			t.Fatalf("%q: a presence with a place in the order", s)
		}
		if m.Entry != nil && m.Entry.Seq != m.Head {
			t.Fatalf("%q: entry %d, head %d", s, m.Entry.Seq, m.Head)
		}
		if m.Entry != nil && !strings.HasSuffix(s, string(m.Entry.Data)) {
			t.Fatalf("%q: data %q", s, m.Entry.Data)
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add("ann", "phone", "sid", uint64(1), uint32(7))
	f.Add(" 1 2 ", "", "s", uint64(0), uint32(1))
	f.Fuzz(func(t *testing.T, user, device, sid string, gen uint64, client uint32) {
		if sid == "" || strings.ContainsAny(sid, " ") {
			return // ids have none
		}
		row := fmt.Sprintf("%d 0 1 %d %d %s %s%s", gen, len(user), len(device), sid, user, device)
		got, err := parseRow(fmt.Sprint(client), row)
		want := Member{User: user, Client: client, Device: device, Session: sid, Gen: gen}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("row %q: %+v, %v, want %+v", row, got, err, want)
		}
		if _, err := parseRow(user, device); err == nil && strings.Count(device, " ") < 6 {
			t.Fatalf("row %q was read", device)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add("message", "ann", "phone", "lost", "00-4bf9-01", uint32(7), uint8(3), uint8(0xff))
	f.Add("message", "ann", "phone", "lost", "00-4bf9-01", uint32(7), uint8(3), uint8(0))
	f.Add("message", "ann", "phone", "", "", uint32(7), uint8(0), uint8(0))
	f.Add("message", `a"b\`, "phone", "", "", uint32(7), uint8(0), uint8(0))
	f.Add("message", "ann", "", "", "", uint32(7), uint8(0), uint8(0))
	f.Add("message", "ann", "ph\none", "", "", uint32(7), uint8(0), uint8(0))
	f.Add("message", `x","c":5,"d":"y`, `"}`, "", "", uint32(7), uint8(0), uint8(0))
	f.Add("join", "\"a\\\n\u2028<é", "", "\x7f", "", uint32(0), uint8(0), uint8(0x0f))
	f.Add("\xff", "ann", "\xc3", "", "", uint32(1<<32-1), uint8(255), uint8(0xaa))
	f.Fuzz(func(t *testing.T, kind, user, device, reason, trace string, client uint32, ty, has uint8) {
		h := Header{Kind: kind, User: user, Client: client, Device: device, Reason: reason, Trace: trace}
		if has&16 != 0 {
			h.Handle = user
		}
		if has&1 != 0 {
			h.ToUser = &device
		}
		if has&2 != 0 {
			h.ToClient = &client
		}
		if has&4 != 0 {
			h.Type = &ty
		}
		if has&8 != 0 {
			in := ty&1 != 0
			h.InCall = &in
		}
		text, err := h.encode()
		want, marshalErr := json.Marshal(h)
		if (err == nil) != (marshalErr == nil) {
			t.Fatalf("header %+v: %v, and json.Marshal %v", h, err, marshalErr)
		}
		if err != nil {
			return // no UTF-8
		}
		if text != string(want) {
			t.Fatalf("header %s, and json.Marshal %s", text, want)
		}
		if back, err := decodeHeader(text); err != nil || !reflect.DeepEqual(back, h) {
			t.Fatalf("header %s: %+v, %v", text, back, err)
		}
	})
}

// A header that is read without a decoder says what the decoder reads in it. Nobody
// writes one that is no JSON.
func FuzzReadHeader(f *testing.F) {
	for _, text := range []string{
		`{"k":"message","u":"ann","c":7,"d":"phone"}`, `{"k":"message","u":"ann","c":7}`, `{"k":"message","u":"","c":7,"d":""}`,
		`{"k":"message","u":"a\"b","c":7}`, `{"k":"message","u":"ann","c":7,"d":"p","d":"q"}`, `{"k":"message","u":"ann","c":7,"tu":"bob"}`,
		`{"k":"message","u":"ann","c":7,"d":"p","r":"}"}`, `{"k":"message","u":"ann","c":4294967296}`, `{"k":"message","u":"ann","c": 7 }`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := readHeader(text)
		var want Header
		if err := json.Unmarshal([]byte(text), &want); ok && err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("header %s: %+v, the decoder says %+v", text, got, want)
		}
	})
}

// BenchmarkDecodeHeader is what a node does for each message that it hears.
func BenchmarkDecodeHeader(b *testing.B) {
	text, err := Header{Kind: "message", User: "ann", Client: 7, Device: "phone"}.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeHeader(text); err != nil {
			b.Fatal(err)
		}
	}
}
