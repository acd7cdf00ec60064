package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"godwit/e2e/ledger"
	"godwit/wire"
)

// truth reads a room's log from the store, past every node.
func truth(t *testing.T, r redis.UniversalClient, room string) ledger.Log {
	t.Helper()
	key := "gw:{r:" + room + "}:"
	meta, err := r.HMGet(t.Context(), key+"meta", "epoch", "seq").Result()
	if err != nil {
		t.Fatalf("read the state of room %s: %v", room, err)
	}
	var log ledger.Log
	log.Epoch, _ = meta[0].(string)
	head, _ := meta[1].(string)
	log.Head, _ = strconv.ParseUint(head, 10, 64)
	if log.Epoch == "" {
		return log // no such room
	}
	entries, err := r.XRange(t.Context(), key+"log", "-", strconv.FormatUint(log.Head, 10)+"-0").Result()
	if err != nil {
		t.Fatalf("read the log of room %s: %v", room, err)
	}
	for _, x := range entries {
		var h struct {
			Kind     wire.Kind `json:"k"`
			User     string    `json:"u"`
			Client   uint32    `json:"c"`
			ToUser   *string   `json:"tu"`
			ToClient *uint32   `json:"tc"`
			Reason   string    `json:"r"`
			InCall   *bool     `json:"i"`
		}
		text, _ := x.Values["h"].(string)
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Fatalf("entry %s of room %s: %v", x.ID, room, err)
		}
		e := &wire.RoomEvent{Room: room, Kind: h.Kind, From: wire.Member{User: h.User, Client: h.Client}, Reason: h.Reason, InCall: h.InCall}
		if h.ToUser != nil || h.ToClient != nil {
			e.To = &wire.To{User: h.ToUser, Client: h.ToClient}
		}
		id, _, _ := strings.Cut(x.ID, "-")
		ts, _ := x.Values["t"].(string)
		data, _ := x.Values["d"].(string)
		var err1, err2 error
		e.Seq, err1 = strconv.ParseUint(id, 10, 64)
		e.TS, err2 = strconv.ParseInt(ts, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("entry %s of room %s: time %q", x.ID, room, ts)
		}
		if data != "" {
			e.Data = wire.Raw(data)
		}
		log.Entries = append(log.Entries, e)
	}
	return log
}
