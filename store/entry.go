package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Header is what an entry of a room's log says besides its data. It is stored
// as JSON with short names; a reader ignores names it does not know, so that a
// newer node may add some.
type Header struct {
	Kind     string  `json:"k"`
	User     string  `json:"u,omitempty"` // who sent, joined or left
	Client   uint32  `json:"c,omitzero"`
	Device   string  `json:"d,omitempty"`
	Handle   string  `json:"uh,omitempty"` // of a sender whose handle is not the first that the name gives
	ToUser   *string `json:"tu,omitzero"`
	ToClient *uint32 `json:"tc,omitzero"`
	Type     *uint8  `json:"ty,omitzero"`
	Reason   string  `json:"r,omitempty"`
	InCall   *bool   `json:"i,omitzero"`
	Trace    string  `json:"tp,omitempty"` // the span that wrote it, as trace.ID has it, of the few that are followed
}

// Entry is one entry of a room's log. Seq is 0 for an ephemeral message.
type Entry struct {
	Header
	Seq  uint64
	TS   int64 // ms of the store's clock
	Data []byte
}

// encode is what json.Marshal says of the header. It is on the way of each message.
func (h Header) encode() (string, error) {
	var wrong error
	b := make([]byte, 0, 64+len(h.User)+len(h.Device))
	text := func(name, s string) {
		b = append(b, name...)
		var err error
		if b, err = jsontext.AppendQuote(b, s); err != nil {
			wrong = err
		}
	}
	number := func(name string, n uint32) { b = strconv.AppendUint(append(b, name...), uint64(n), 10) }

	text(`{"k":`, h.Kind)
	if h.User != "" {
		text(`,"u":`, h.User)
	}
	if h.Client != 0 {
		number(`,"c":`, h.Client)
	}
	if h.Device != "" {
		text(`,"d":`, h.Device)
	}
	if h.Handle != "" {
		text(`,"uh":`, h.Handle)
	}
	if h.ToUser != nil {
		text(`,"tu":`, *h.ToUser)
	}
	if h.ToClient != nil {
		number(`,"tc":`, *h.ToClient)
	}
	if h.Type != nil {
		number(`,"ty":`, uint32(*h.Type))
	}
	if h.Reason != "" {
		text(`,"r":`, h.Reason)
	}
	if h.InCall != nil {
		b = strconv.AppendBool(append(b, `,"i":`...), *h.InCall)
	}
	if h.Trace != "" {
		text(`,"tp":`, h.Trace)
	}
	if wrong != nil {
		return "", fmt.Errorf("encode entry header: %w", wrong)
	}
	return string(append(b, '}')), nil
}

func decodeHeader(text string) (Header, error) {
	if h, ok := readHeader(text); ok {
		return h, nil
	}
	var h Header
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("decode entry header: %w", err)
	}
	return h, nil
}

// readHeader reads a header as encode writes that of most messages, and says whether
// it is one. What it says is a part of the text.
func readHeader(text string) (h Header, ok bool) {
	rest, ok1 := strings.CutPrefix(text, `{"k":"message","u":"`)
	user, rest, ok2 := strings.Cut(rest, `","c":`)
	rest, ok3 := strings.CutSuffix(rest, `}`)
	client, rest, more := strings.Cut(rest, `,"d":"`)
	device, ok4 := strings.CutSuffix(rest, `"`)
	if !ok1 || !ok2 || !ok3 || ok4 != more || strings.ContainsAny(user, `"\`) || strings.ContainsAny(device, `"\`) {
		return Header{}, false
	}
	n, err := strconv.ParseUint(client, 10, 32)
	return Header{Kind: "message", User: user, Client: uint32(n), Device: device}, err == nil
}

// Message is what a node hears on a room's channel.
type Message struct {
	// Epoch and Head: the room's newest entry, as far as the message tells.
	// Head is 0 for an ephemeral message.
	Epoch string
	Head  uint64
	// Entry is nil when the message only announces the head.
	Entry *Entry
	// Presence is a member's new value. It has no place in the room's order;
	// then the others are not set.
	Presence *Presence
}

var errMessage = errors.New("message of an unknown form")

// parseMessage reads what the rooms' scripts and announce publish:
//
//	e EPOCH SEQ TS #HEADER HEADER DATA   an entry
//	m TS #HEADER HEADER DATA             an ephemeral message
//	h EPOCH SEQ                          the head, said again
//	p PV VALUE USER                      how present a member is now
func parseMessage(s string) (Message, error) {
	kind, rest, _ := strings.Cut(s, " ")
	var m Message
	switch kind {
	case "h":
		epoch, head, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseUint(head, 10, 64)
		if err != nil || epoch == "" {
			return m, errMessage
		}
		return Message{Epoch: epoch, Head: n}, nil
	case "e":
		var seq string
		m.Epoch, rest, _ = strings.Cut(rest, " ")
		seq, rest, _ = strings.Cut(rest, " ")
		n, err := strconv.ParseUint(seq, 10, 64)
		if err != nil || n == 0 || m.Epoch == "" {
			return m, errMessage
		}
		m.Head = n
	case "m":
	case "p":
		p, err := parsePresence(rest)
		m.Presence = &p
		return m, err
	default:
		return m, errMessage
	}
	ts, rest, _ := strings.Cut(rest, " ")
	size, rest, _ := strings.Cut(rest, " ")
	at, err1 := strconv.ParseInt(ts, 10, 64)
	n, err2 := strconv.Atoi(size)
	if err1 != nil || err2 != nil || n < 0 || n > len(rest) {
		return m, errMessage
	}
	h, err := decodeHeader(strings.Clone(rest[:n])) // what is kept of it does not keep the data
	if err != nil {
		return m, err
	}
	m.Entry = &Entry{Header: h, Seq: m.Head, TS: at, Data: []byte(rest[n:])}
	return m, nil
}

// parseEntry reads one entry of the stream.
func parseEntry(id string, fields map[string]any) (Entry, error) {
	seq, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("entry id %q: %w", id, err)
	}
	ts, _ := fields["t"].(string)
	at, err := strconv.ParseInt(ts, 10, 64)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %s time: %w", id, err)
	}
	text, _ := fields["h"].(string)
	h, err := decodeHeader(text)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %s: %w", id, err)
	}
	data, _ := fields["d"].(string)
	return Entry{Header: h, Seq: n, TS: at, Data: []byte(data)}, nil
}
