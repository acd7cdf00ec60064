package store

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestKeyspace_TheDocNamesWhatTheCodeBuilds holds docs/keyspace.md against
// every builder of keys.go and every script.
func TestKeyspace_TheDocNamesWhatTheCodeBuilds(t *testing.T) {
	b, err := os.ReadFile("../docs/keyspace.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(b), "\n## ")
	named := func(section string) (out []string) {
		for _, s := range sections {
			if !strings.HasPrefix(s, section) {
				continue
			}
			for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` ").FindAllStringSubmatch(s, -1) {
				out = append(out, m[1])
			}
		}
		slices.Sort(out)
		return out
	}
	r, n := keysOfRoom("ROOM"), Ref{"NODE", "BOOT"}
	client := func(key string) string { return strings.Replace(key, "4294967295", "CLIENT", 1) }
	keys := append(r.all(), client(r.gone(4294967295)), client(r.absent(4294967295)), r.said("KEY"), markerKey, schemaKey, nodesKey, pieceKey("m:N"),
		sessionKey("SID"), sessionRoomsKey("SID"), redirectKey("SID"), n.recordKey(), n.leaseKey(), n.sessionsKey(), n.drainKey(),
		client(clientKey(4294967295)), handleKey("HANDLE"),
		strings.Replace(detachedKey(7), "07", "SHARD", 1), strings.Replace(roomsKey(7), "07", "SHARD", 1))
	u := keysOfUser("USER")
	keys = append(keys, u.devices(), u.presence(), u.rooms(), u.watchers(), u.sessions(), u.contacts(), client(u.gone(4294967295)))
	slices.Sort(keys)
	if got := named("Keys"); !slices.Equal(got, keys) {
		t.Errorf("keys of the page:\n%s\nof the code:\n%s", strings.Join(got, "\n"), strings.Join(keys, "\n"))
	}
	channels := []string{n.probe("m:N"), n.channel(), r.channel(), u.channel()}
	if got := named("Channels"); !slices.Equal(got, channels) {
		t.Errorf("channels of the page %v, of the code %v", got, channels)
	}
	var names []string
	for _, s := range scripts {
		names = append(names, s.name)
	}
	slices.Sort(names)
	if got := named("Scripts"); !slices.Equal(got, names) {
		t.Errorf("scripts of the page %v, of the code %v", got, names)
	}
}

func TestChannel_GivesItsRoomBack(t *testing.T) {
	for _, room := range []string{"r", "a}:ev", "{r:x}:ev", "}", "gw:{r:"} {
		if got, ok := roomOfChannel(keysOfRoom(room).channel()); !ok || got != room {
			t.Errorf("room %q comes back as %q, %v", room, got, ok)
		}
	}
	for _, user := range []string{"u", "a}:in", "{u:x}:in", "}"} {
		if got, ok := userOfChannel(keysOfUser(user).channel()); !ok || got != user {
			t.Errorf("user %q comes back as %q, %v", user, got, ok)
		}
		if room, ok := roomOfChannel(keysOfUser(user).channel()); ok {
			t.Errorf("the inbox of %q is taken for the room %q", user, room)
		}
	}
	for _, ch := range []string{"", "gw:{r:}:ev", "gw:{n:x}:ctl", "gw:{r:x}:e"} {
		if got, ok := roomOfChannel(ch); ok && got == "" {
			t.Errorf("channel %q gives room %q", ch, got)
		}
	}
}
