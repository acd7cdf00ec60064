package store

import (
	"fmt"
	"hash/crc32"
	"strconv"
)

// Shards is the number of detached-session indexes, and of room indexes. It is
// part of the stored layout: changing it needs a migration.
const Shards = 16

// markerKey holds a random value for as long as this store's data is whole; a
// store that was wiped has lost it. Owner: the fleet. Never expires.
const markerKey = "gw:store"

// pieceKey holds such a value for a part of a Cluster's slots: tag is one of
// pieceTags. Owner: the fleet. Never expires.
func pieceKey(tag string) string { return "gw:{" + tag + "}:store" }

// schemaKey says which layout the keyspace has: hash version, needs, step,
// cursor. Owner: migrations. Never expires.
const schemaKey = "gw:schema"

// nodesKey is the set of "NODE BOOT" of every node that may own sessions.
// Owner: the fleet; the sweep of a dead node removes its entry.
const nodesKey = "gw:nodes"

// roomKeys are the keys of one room, tag {r:ROOM}. The last leave gives those
// that remain GODWIT_LOG_TTL to live; a join before that takes it back.
type roomKeys struct{ prefix string }

func keysOfRoom(room string) roomKeys { return roomKeys{"gw:{r:" + room + "}:"} }

func (k roomKeys) meta() string    { return k.prefix + "meta" }    // hash: epoch, seq, began, in_call, call_due, call_life
func (k roomKeys) members() string { return k.prefix + "members" } // hash: client -> row
func (k roomKeys) users() string   { return k.prefix + "users" }   // hash: user -> devices in the room
func (k roomKeys) log() string     { return k.prefix + "log" }     // stream: seq-0 -> t, h, d
func (k roomKeys) flows() string   { return k.prefix + "flows" }   // hash: client:cseq%64 -> cseq seq ts
func (k roomKeys) call() string    { return k.prefix + "call" }    // zset: client by ms when it is out of the call
func (k roomKeys) channel() string { return k.prefix + "ev" }      // pub/sub: what is appended

// gone is the tombstone of a client whose session ended: string, 2 x grace.
func (k roomKeys) gone(client uint32) string {
	return k.prefix + "gone:" + uintText(client)
}

// absent is the gen at which a client was not in the room: string, 2 x grace.
func (k roomKeys) absent(client uint32) string {
	return k.prefix + "absent:" + uintText(client)
}

// said is what was said under an idempotency key: string, IdempotencyTTL.
func (k roomKeys) said(key string) string { return k.prefix + "said:" + key }

// all is what every room script gets as KEYS[1..6].
func (k roomKeys) all() []string {
	return []string{k.meta(), k.members(), k.users(), k.log(), k.flows(), k.call()}
}

// roomOfChannel is the inverse of roomKeys.channel.
func roomOfChannel(channel string) (string, bool) { return within(channel, "gw:{r:", "}:ev") }

// roomOfMeta is roomKeys.meta the other way.
func roomOfMeta(key string) (string, bool) { return within(key, "gw:{r:", "}:meta") }

// within is what stands between head and tail, if something does.
func within(s, head, tail string) (string, bool) {
	if len(s) <= len(head)+len(tail) || s[:len(head)] != head || s[len(s)-len(tail):] != tail {
		return "", false
	}
	return s[len(head) : len(s)-len(tail)], true
}

// userKeys are the keys of one user, tag {u:USER}.
type userKeys struct{ prefix string }

func keysOfUser(user string) userKeys { return userKeys{"gw:{u:" + user + "}:"} }

func (k userKeys) devices() string  { return k.prefix + "devices" }  // hash: client -> gen byte at sid; the session's end takes it out
func (k userKeys) presence() string { return k.prefix + "presence" } // hash: value, pv, said; a day after the last device
func (k userKeys) rooms() string    { return k.prefix + "rooms" }    // set of "CLIENT ROOM"; the leave or the session's end takes it out
func (k userKeys) watchers() string { return k.prefix + "watchers" } // set of users who have this one in their contacts
func (k userKeys) sessions() string { return k.prefix + "sessions" } // set of sid; the session's end takes it out
func (k userKeys) contacts() string { return k.prefix + "contacts" } // set of users; replaced by an operator
func (k userKeys) channel() string  { return k.prefix + "in" }       // pub/sub: what concerns this user, wherever it is

// gone is the tombstone of a device whose session ended: string, 2 x grace.
func (k userKeys) gone(client uint32) string {
	return k.prefix + "gone:" + strconv.FormatUint(uint64(client), 10)
}

// all is what the scripts about devices get as KEYS[1..6].
func (k userKeys) all(client uint32) []string {
	return []string{k.devices(), k.presence(), k.rooms(), k.watchers(), k.sessions(), k.gone(client)}
}

// userOfChannel is the inverse of userKeys.channel.
func userOfChannel(channel string) (string, bool) { return within(channel, "gw:{u:", "}:in") }

// sessionKeys are the keys of one session, tag {s:SID}. The end of the session
// deletes them; until then the owner's session set or a detached index names it.
func sessionKey(sid string) string      { return "gw:{s:" + sid + "}:session" } // hash
func sessionRoomsKey(sid string) string { return "gw:{s:" + sid + "}:rooms" }   // set of rooms

// redirectKey is a session's last offer: hash, four lives of the offer. Owner:
// the session; its end deletes it.
func redirectKey(sid string) string { return "gw:{s:" + sid + "}:redirect" }

// Ref names one life of one node: its name and the random value of its boot.
// Everything a node owns is keyed by both, so two processes with one name, or
// one name's next life, cannot take each other for themselves.
type Ref struct {
	Node string
	Boot string
}

// String is "NODE BOOT", the form in nodesKey.
func (r Ref) String() string { return r.Node + " " + r.Boot }

func (r Ref) prefix() string { return "gw:{n:" + r.Node + "/" + r.Boot + "}:" }

func (r Ref) recordKey() string   { return r.prefix() + "record" }   // hash; lives a while longer than the lease
func (r Ref) leaseKey() string    { return r.prefix() + "lease" }    // string, GODWIT_LEASE; renewed by the node
func (r Ref) sessionsKey() string { return r.prefix() + "sessions" } // set of sid; emptied by the node or by the sweep of it
func (r Ref) drainKey() string    { return r.prefix() + "drain" }    // hash; how its last drain goes: written by the node, lives as the record does
func (r Ref) channel() string     { return r.prefix() + "ctl" }      // pub/sub: probes, and word from other nodes

// probe is a sharded channel of the node, in the slot of a tag: its own probes.
func (r Ref) probe(tag string) string { return "gw:{" + tag + "}:probe:" + r.Node + "/" + r.Boot }

// clientKey holds the session that claimed a client id: string, ClaimTTL,
// renewed by the node that holds the session.
func clientKey(client uint32) string {
	return "gw:{k:" + uintText(client) + "}:session"
}

// handleKey holds the user that a handle belongs to: string, HandleTTL,
// renewed at each login and by the nodes that hold the user's sessions.
func handleKey(hex string) string { return "gw:{h:" + hex + "}:user" }

// detachedKey is one shard of the detached index: zset of sid by the time, in
// ms of the store's clock, when a sweep should look at it.
func detachedKey(shard int) string { return fmt.Sprintf("gw:{d:%02d}:detached", shard) }

// roomsKey is one shard of the index of rooms: sorted set of names, all with one
// score. A join lists its room; a list takes out those that have ended.
func roomsKey(shard int) string { return fmt.Sprintf("gw:{i:%02d}:rooms", shard) }

// shardOf spreads names over the shards of an index.
func shardOf(name string) int { return int(crc32.ChecksumIEEE([]byte(name)) % Shards) }

func uintText(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
