package binary

import (
	"bytes"
	"encoding/base64"

	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

const (
	wrapHead = `{"b64":"`
	wrapTail = `"}`
)

// dataOf is a message's opaque bytes as data: {"b64":"..."}.
func dataOf(msg []byte) wire.Raw {
	b := make([]byte, 0, len(wrapHead)+base64.StdEncoding.EncodedLen(len(msg))+len(wrapTail))
	b = base64.StdEncoding.AppendEncode(append(b, wrapHead...), msg)
	return append(b, wrapTail...)
}

// msgOf is data as a message's bytes: what dataOf took, however it is written;
// any other JSON is its own text.
func msgOf(data wire.Raw) []byte {
	text, ok := wrapped(data)
	if !ok {
		return data
	}
	msg, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return data
	}
	return msg
}

// wrapped is the string in an object whose only member is b64.
func wrapped(data wire.Raw) ([]byte, bool) {
	if bytes.HasPrefix(data, []byte(wrapHead)) && bytes.HasSuffix(data, []byte(wrapTail)) {
		if text := data[len(wrapHead):max(len(wrapHead), len(data)-len(wrapTail))]; bytes.IndexByte(text, '"') < 0 && bytes.IndexByte(text, '\\') < 0 {
			return text, true
		}
	}
	d := jsontext.NewDecoder(bytes.NewReader(data))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, false
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '"' || t.String() != "b64" {
		return nil, false
	}
	t, err := d.ReadToken()
	if err != nil || t.Kind() != '"' {
		return nil, false
	}
	text := []byte(t.String())
	t, err = d.ReadToken()
	return text, err == nil && t.Kind() == '}'
}
