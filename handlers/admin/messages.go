package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/rules/address"
	"godwit/store"
)

// logBytes bounds the data of one part of a log, which has one entry at least.
const logBytes = 256 << 10

// besideData is what a message's body may hold besides its data, in bytes.
const besideData = 8 << 10

// Addressee is whom a message is for.
type Addressee struct {
	User   *string `json:"user,omitempty"`
	Client *uint32 `json:"client,omitempty" format:"int64"`
}

// Event is an entry of a room's log, as clients see it.
type Event struct {
	Seq    uint64          `json:"seq"`
	Kind   string          `json:"kind" doc:"message, join, leave or call"`
	From   Sender          `json:"from"`
	To     *Addressee      `json:"to,omitempty"`
	Type   *uint8          `json:"type,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Reason string          `json:"reason,omitempty"`
	InCall *bool           `json:"in_call,omitempty"`
	TS     int64           `json:"ts" doc:"ms of the store's clock"`
}

// Sender is who an entry is of; the system is user "" and client 0.
type Sender struct {
	User   string `json:"user"`
	Client uint32 `json:"client" format:"int64"`
	Device string `json:"device,omitempty"`
}

func eventOf(e store.Entry) Event {
	ev := Event{
		Seq: e.Seq, Kind: e.Kind, From: Sender{e.User, e.Client, e.Device},
		Type: e.Type, Data: e.Data, Reason: e.Reason, InCall: e.InCall, TS: e.TS,
	}
	if e.ToUser != nil || e.ToClient != nil {
		ev.To = &Addressee{e.ToUser, e.ToClient}
	}
	return ev
}

// Log is a part of a room's log.
type Log struct {
	Epoch  string  `json:"epoch"`
	Events []Event `json:"events"`
	More   bool    `json:"more" doc:"others follow the last one"`
}

// Message is what the system says.
type Message struct {
	Data json.RawMessage `json:"data" doc:"any JSON value, passed on as it is"`
	Type *uint8          `json:"type,omitempty"`
	To   *Addressee      `json:"to,omitempty"`
}

// Said is where a message went.
type Said struct {
	Seq uint64 `json:"seq"`
}

func (a *api) serveMessages(h huma.API) {
	huma.Register(h, operation(http.MethodGet, "/rooms/{room}/log", "read-log", "A room's log, oldest first"), a.readLog)
	long := func(op *huma.Operation) { op.MaxBodyBytes = max(bodyMost, int64(a.messageBytes)+besideData) }
	huma.Register(h, operation(http.MethodPost, "/rooms/{room}/messages", "send-message", "Send a message as the system", long), a.say)
}

func (a *api) readLog(ctx context.Context, in *struct {
	RoomName
	After uint64 `query:"after" maximum:"9007199254740991" doc:"the seq behind which to begin"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"entries at most"`
},
) (*answer[Log], error) {
	p, err := a.fleet.Log(ctx, in.Room, in.After, in.Limit)
	if err != nil {
		return nil, a.failed(err)
	}
	out, size, last := Log{Epoch: p.Epoch, Events: []Event{}}, 0, in.After
	for _, e := range p.Entries {
		if size += len(e.Data); size > logBytes && len(out.Events) > 0 {
			break
		}
		out.Events, last = append(out.Events, eventOf(e)), e.Seq
	}
	out.More = len(out.Events) > 0 && last < p.Head
	return &answer[Log]{out}, nil
}

func (a *api) say(ctx context.Context, in *struct {
	RoomName
	Key  string `header:"Idempotency-Key" maxLength:"255" doc:"a repeat of the request under the same key sends nothing"`
	Body Message
},
) (*answer[Said], error) {
	d := store.Draft{Data: in.Body.Data, Type: in.Body.Type}
	switch {
	case a.messageBytes > 0 && len(d.Data) > a.messageBytes:
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("data: %d bytes, at most %d are allowed", len(d.Data), a.messageBytes))
	case !jsontext.Value(d.Data).IsValid():
		return nil, huma.Error422UnprocessableEntity("data: expected JSON in UTF-8 whose objects have no name twice")
	}
	if to := in.Body.To; to != nil {
		if why := address.Unfit(to.User, to.Client); why != "" {
			return nil, huma.Error422UnprocessableEntity(why)
		}
		d.ToUser, d.ToClient = to.User, to.Client
	}
	sent, err := a.fleet.Say(ctx, in.Room, in.Key, d)
	if err != nil {
		return nil, a.failed(err)
	}
	return &answer[Said]{Said{Seq: sent.Seq}}, nil
}
