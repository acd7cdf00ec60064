// Package floor is the least that a hub of rooms can be, to measure a fleet
// against: one process, members of a room in a list, and each message written
// to each of them by itself. It keeps no session, no log, no identity and no
// promise; who logs in is believed. It speaks as much of /v1/ws as the load
// asks for, and answers in frames of the same layout and size.
package floor

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
)

// Hub is the rooms. It serves websockets.
type Hub struct {
	gws.BuiltinEventHandler

	up   *gws.Upgrader
	last atomic.Uint32 // client given

	mu    sync.Mutex
	rooms map[string]*room // guarded by mu
}

type room struct {
	mu      sync.Mutex
	seq     uint64    // guarded by mu
	members []*member // guarded by mu
}

// member is one socket.
type member struct {
	ws     *gws.Conn
	client uint32
	user   string  // owned by its reader
	rooms  []*room // owned by its reader
}

const memberKey = "member"

// New returns a hub without rooms.
func New() *Hub {
	h := &Hub{rooms: map[string]*room{}}
	h.up = gws.NewUpgrader(h, &gws.ServerOption{ReadBufferSize: 512})
	return h
}

// ServeHTTP makes a websocket of a request and reads it until it ends.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := h.up.Upgrade(w, r)
	if err != nil {
		return // it was answered
	}
	ws.Session().Store(memberKey, &member{ws: ws, client: h.last.Add(1)})
	go ws.ReadLoop() // ends with the socket
}

// OnClose takes a socket from its rooms.
func (h *Hub) OnClose(ws *gws.Conn, _ error) {
	m := memberOf(ws)
	for _, r := range m.rooms {
		r.mu.Lock()
		r.members = slices.DeleteFunc(r.members, func(o *member) bool { return o == m })
		r.mu.Unlock()
	}
}

// OnPing answers.
func (h *Hub) OnPing(ws *gws.Conn, payload []byte) { _ = ws.WritePong(payload) } // OnClose tells of its end

func memberOf(ws *gws.Conn) *member {
	m, _ := ws.Session().Load(memberKey)
	return m.(*member)
}

// OnMessage serves one request.
func (h *Hub) OnMessage(ws *gws.Conn, msg *gws.Message) {
	defer msg.Close()
	m, b := memberOf(ws), msg.Bytes()
	id, method := between(b, `"id":`, `,`), between(b, `"method":"`, `"`)
	result := `{}`
	switch string(method) {
	case "hello":
		m.user = string(between(b, `"token":"dev:`, `"`))
	case "presence.set":
		h.tell(m, between(b, `"presence":`, `,`))
	case "room.join":
		r := h.room(string(between(b, `"room":"`, `"`)))
		r.mu.Lock()
		if !slices.Contains(r.members, m) {
			r.members = append(r.members, m)
			m.rooms = append(m.rooms, r)
		}
		r.mu.Unlock()
	case "room.send":
		result = h.send(m, between(b, `"room":"`, `"`), between(b, `"data":`, `}`))
	case "bye":
		defer ws.WriteClose(1000, nil)
	}
	answer := make([]byte, 0, 64)
	answer = append(answer, `{"jsonrpc":"2.0","id":`...)
	answer = append(answer, id...)
	answer = append(answer, `,"result":`...)
	answer = append(answer, result...)
	_ = ws.WriteMessage(gws.OpcodeText, append(answer, '}')) // OnClose tells of its end
}

// send writes a message to every member but its sender, one after the other.
func (h *Hub) send(from *member, name, data []byte) (result string) {
	r := h.room(string(name))
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	r.mu.Lock()
	defer r.mu.Unlock() // or two messages would come in different orders
	r.seq++
	seq := strconv.FormatUint(r.seq, 10)
	b := make([]byte, 0, 192+len(name)+len(data))
	b = append(b, `{"jsonrpc":"2.0","method":"room.event","params":{"room":"`...)
	b = append(b, name...)
	b = append(b, `","seq":`...)
	b = append(b, seq...)
	b = append(b, `,"kind":"message","from":{"user":"`...)
	b = append(b, from.user...)
	b = append(b, `","client":`...)
	b = strconv.AppendUint(b, uint64(from.client), 10)
	b = append(b, `},"data":`...)
	b = append(b, data...)
	b = append(b, `,"ts":`...)
	b = append(b, now...)
	b = append(b, `}}`...)
	for _, m := range r.members {
		if m != from {
			_ = m.ws.WriteMessage(gws.OpcodeText, b) // OnClose tells of its end
		}
	}
	return `{"seq":` + seq + `,"ts":` + now + `}`
}

// tell writes a user's presence to all it shares a room with.
func (h *Hub) tell(of *member, value []byte) {
	b := slices.Concat([]byte(`{"jsonrpc":"2.0","method":"presence","params":{"user":"`), []byte(of.user), []byte(`","presence":`), value,
		strconv.AppendInt([]byte(`,"pv":`), time.Now().UnixMilli(), 10), []byte(`}}`))
	for _, r := range of.rooms {
		r.mu.Lock()
		for _, m := range r.members {
			if m != of {
				_ = m.ws.WriteMessage(gws.OpcodeText, b) // OnClose tells of its end
			}
		}
		r.mu.Unlock()
	}
}

func (h *Hub) room(name string) *room {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[name]
	if r == nil {
		r = &room{}
		h.rooms[name] = r
	}
	return r
}

// between is what stands between two words, or nothing.
func between(b []byte, from, to string) []byte {
	i := bytes.Index(b, []byte(from))
	if i < 0 {
		return nil
	}
	b = b[i+len(from):]
	if j := bytes.Index(b, []byte(to)); j >= 0 {
		return b[:j]
	}
	return nil
}
