package store

import (
	"context"
	"crypto/sha1" // #nosec: Redis names scripts by their SHA-1
	_ "embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed head.lua
var headLua string

//go:embed room.lua
var roomLua string

var (
	roomPrelude = headLua + roomLua
	// hotPrelude is for scripts that run often: all that they may need is made when
	// they do.
	hotPrelude = headLua + "local made\nlocal function room()\nif made then return made end\n" + roomLua +
		"made = {clock = clock, settle = settle, first_late = first_late, reaches = reaches, trim = trim}\nreturn made\nend\n"
)

//go:embed join.lua
var joinLua string

//go:embed mark.lua
var markLua string

//go:embed reached.lua
var reachedLua string

//go:embed migrated.lua
var migratedLua string

//go:embed attach.lua
var attachLua string

//go:embed leave.lua
var leaveLua string

//go:embed send.lua
var sendLua string

//go:embed say.lua
var sayLua string

//go:embed close.lua
var closeLua string

//go:embed index.lua
var indexLua string

//go:embed beat.lua
var beatLua string

//go:embed info.lua
var infoLua string

//go:embed create.lua
var createLua string

//go:embed claim.lua
var claimLua string

//go:embed retake.lua
var retakeLua string

//go:embed detach.lua
var detachLua string

//go:embed ending.lua
var endingLua string

//go:embed enter.lua
var enterLua string

//go:embed exit.lua
var exitLua string

//go:embed refresh.lua
var refreshLua string

//go:embed renew.lua
var renewLua string

//go:embed later.lua
var laterLua string

//go:embed due.lua
var dueLua string

//go:embed settle.lua
var settleLua string

//go:embed unclaim.lua
var unclaimLua string

//go:embed offer.lua
var offerLua string

//go:embed handover.lua
var handoverLua string

//go:embed withdraw.lua
var withdrawLua string

//go:embed order.lua
var orderLua string

//go:embed progress.lua
var progressLua string

//go:embed user.lua
var userPrelude string

//go:embed device.lua
var deviceLua string

//go:embed part.lua
var partLua string

//go:embed said.lua
var saidLua string

//go:embed note.lua
var noteLua string

//go:embed unroom.lua
var unroomLua string

//go:embed grow.lua
var growLua string

//go:embed contacts.lua
var contactsLua string

//go:embed roster.lua
var rosterLua string

//go:embed reserve.lua
var reserveLua string

//go:embed handle.lua
var handleLua string

//go:embed own.lua
var ownLua string

//go:embed elsewhere.lua
var elsewhereLua string

//go:embed disown.lua
var disownLua string

// script is one atomic operation.
type script struct {
	name  string
	text  string
	sha   string
	steps []*script // of a chain
	shard *script   // the same, publishing on sharded channels; itself if it publishes on none
}

// scripts is all of them, by which a test holds the page of the keyspace equal.
var scripts []*script

func define(name string, parts ...string) *script {
	s := newScript(name, strings.Join(parts, ""))
	if s.shard = s; strings.Contains(s.text, publishes) {
		s.shard = newScript(name, strings.ReplaceAll(s.text, publishes, "local PUBLISH = 'SPUBLISH'"))
	}
	scripts = append(scripts, s)
	return s
}

// publishes is the line of a script that says how it publishes.
const publishes = "local PUBLISH = 'PUBLISH'"

func newScript(name, text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{name: name, text: text, sha: hex.EncodeToString(sum[:])}
}

var (
	joinScript    = define("join", roomPrelude, joinLua)
	attachScript  = define("attach", roomPrelude, attachLua)
	leaveScript   = define("leave", roomPrelude, leaveLua)
	sendScript    = define("send", hotPrelude, sendLua)
	sayScript     = define("say", roomPrelude, sayLua)
	closeScript   = define("close", roomPrelude, closeLua)
	indexScript   = define("index", indexLua)
	beatScript    = define("beat", hotPrelude, beatLua)
	infoScript    = define("info", roomPrelude, infoLua)
	createScript  = define("create", createLua)
	claimScript   = define("claim", claimLua)
	retakeScript  = define("retake", retakeLua)
	detachScript  = define("detach", detachLua)
	endingScript  = define("ending", endingLua)
	enterScript   = define("enter", enterLua)
	exitScript    = define("exit", exitLua)
	refreshScript = define("refresh", refreshLua)
	renewScript   = define("renew", renewLua)
	laterScript   = define("later", laterLua)
	dueScript     = define("due", dueLua)
	settleScript  = define("settle", settleLua)
	unclaimScript = define("unclaim", unclaimLua)

	offerScript    = define("offer", offerLua)
	handoverScript = define("handover", handoverLua)
	withdrawScript = define("withdraw", withdrawLua)

	markScript     = define("mark", markLua)
	reachedScript  = define("reached", reachedLua)
	migratedScript = define("migrated", migratedLua)

	orderScript    = define("order", orderLua)
	progressScript = define("progress", progressLua)

	deviceScript   = define("device", userPrelude, deviceLua)
	partScript     = define("part", userPrelude, partLua)
	saidScript     = define("said", saidLua)
	noteScript     = define("note", noteLua)
	unroomScript   = define("unroom", unroomLua)
	growScript     = define("grow", growLua)
	contactsScript = define("contacts", contactsLua)
	rosterScript   = define("roster", rosterLua)

	reserveScript = define("reserve", reserveLua)
	handleScript  = define("handle", handleLua)
	ownScript     = define("own", ownLua)

	elsewhereScript = define("elsewhere", elsewhereLua)
	disownScript    = define("disown", disownLua)
)

// call is one script call on its way to Redis.
type call struct {
	script *script
	keys   []string
	args   []any
}

// command is the call as a command, by the script's name or text.
func (c call) command(ctx context.Context, how, what string) *redis.Cmd {
	args := make([]any, 0, 3+len(c.keys)+len(c.args))
	args = append(args, how, what, len(c.keys))
	for _, key := range c.keys {
		args = append(args, key)
	}
	return redis.NewCmd(ctx, append(args, c.args...)...)
}

// answer is a script's flat reply; its first element says how it went.
type answer []any

func (a answer) status() string { return a.text(0) }

func (a answer) text(i int) string {
	if i < len(a) {
		switch v := a[i].(type) {
		case string:
			return v
		case int64:
			return fmt.Sprint(v)
		}
	}
	return ""
}

func (a answer) uint(i int) uint64 {
	var n uint64
	for _, c := range []byte(a.text(i)) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

func (a answer) list(i int) []string {
	if i >= len(a) {
		return nil
	}
	raw, _ := a[i].([]any)
	out := make([]string, len(raw))
	for j, v := range raw {
		out[j], _ = v.(string)
	}
	return out
}

// fields reads {field, value, field, value...}.
func (a answer) fields(i int) map[string]string {
	flat := a.list(i)
	m := make(map[string]string, len(flat)/2)
	for j := 0; j+1 < len(flat); j += 2 {
		m[flat[j]] = flat[j+1]
	}
	return m
}

func noScript(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT")
}
