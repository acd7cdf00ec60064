package relay

import (
	"godwit/store"
	"godwit/wire"
)

// Event is a log entry as clients see it.
func Event(room string, e *store.Entry) *wire.RoomEvent {
	ev := &wire.RoomEvent{
		Room: room, Seq: e.Seq, Kind: wire.Kind(e.Kind),
		From: wire.Member{User: e.User, Client: e.Client, Device: e.Device},
		Type: e.Type, Data: e.Data, Reason: e.Reason, InCall: e.InCall,
		Ephemeral: e.Seq == 0, TS: e.TS, Handle: e.Handle,
	}
	if e.ToUser != nil || e.ToClient != nil {
		ev.To = &wire.To{User: e.ToUser, Client: e.ToClient}
	}
	return ev
}

// Members are store members as clients see them.
func Members(in []store.Member) []wire.Member {
	out := make([]wire.Member, len(in))
	for i, m := range in {
		out[i] = wire.Member{User: m.User, Client: m.Client, Device: m.Device}
	}
	return out
}
