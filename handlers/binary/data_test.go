package binary

import (
	"bytes"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"godwit/wire"
)

func TestData_BytesComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msg := rapid.SliceOf(rapid.Byte()).Draw(t, "msg")
		data := dataOf(msg)
		if !data.IsValid() {
			t.Fatalf("%x became %s", msg, data)
		}
		if got := msgOf(data); !bytes.Equal(got, msg) {
			t.Fatalf("%x came back as %x", msg, got)
		}
		spaced := bytes.Clone(data)
		v := jsontext.Value(spaced)
		if err := v.Indent(); err != nil {
			t.Fatal(err)
		}
		if got := msgOf(wire.Raw(v)); !bytes.Equal(got, msg) {
			t.Fatalf("%x came back as %x from %s", msg, got, v)
		}
	})
}

// Any JSON is bytes or its own text, and never crashes.
func FuzzMsgOf(f *testing.F) {
	for _, s := range []string{`{"b64":""}`, `{"b64":"aGk="}`, `{"b64":"}`, `{"b64":"\""}`, `{"b64":"a\n=="}`, `{"b64":{}}`, `{"x":1}`, `5`, `"`, `{"b64":"aGk=","b":"c"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := msgOf(data)
		if bytes.Equal(got, data) || !jsontext.Value(data).IsValid() {
			return
		}
		// It was taken for bytes: then it says the same as those bytes do.
		same := jsontext.Value(bytes.Clone(data))
		if err := same.Compact(); err != nil {
			t.Fatal(err)
		}
		if again := msgOf(dataOf(got)); !bytes.Equal(again, got) || same.Kind() != '{' {
			t.Fatalf("%s was taken for %x", data, got)
		}
	})
}
