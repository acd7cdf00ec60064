package raw

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"godwit/wire"
)

// noCode stands for the end of a connection without a close frame.
const noCode = wire.CloseCode(1006)

// Closed says how a connection ended.
type Closed struct {
	Code   wire.CloseCode
	Reason string
	Cause  error // for 1006
}

// Error tells the code.
func (c *Closed) Error() string {
	if c.Cause != nil {
		return fmt.Sprintf("closed %d: %v", c.Code, c.Cause)
	}
	return fmt.Sprintf("closed %d %s", c.Code, c.Reason)
}

// Notice is what the server said unasked, in the order of arrival.
type Notice struct {
	Method string
	Params jsontext.Value
	// Event is set for room.event.
	Event *wire.RoomEvent
}

// answer is what came back for one request.
type answer struct {
	result jsontext.Value
	err    *wire.Error
}

// Conn is one websocket.
type Conn struct {
	line

	// guarded by mu
	id      int
	texts   []string // every text frame, as it came
	given   int
	answers map[string]answer
	notices []Notice
	taken   int
	pongs   [][]byte
	mute    bool
}

// Dial opens a websocket.
func Dial(url string, header http.Header) (*Conn, error) {
	conn, err := connect(url)
	if err != nil {
		return nil, err
	}
	return Over(conn, url, header)
}

// Over opens a websocket on a connection that is there, as if the URL had been
// dialled.
func Over(conn net.Conn, url string, header http.Header) (*Conn, error) {
	c := &Conn{answers: map[string]answer{}}
	if err := c.open(conn, url, header); err != nil {
		return nil, err
	}
	go c.read() // ends with the connection; Drop waits for it
	return c, nil
}

// Mute answers no more pings.
func (c *Conn) Mute() { c.change(func() { c.mute = true }) }

func (c *Conn) muted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mute
}

func (c *Conn) read() {
	defer close(c.done)
	defer c.Net.Close()
	var text []byte
	for {
		op, final, payload, err := c.next()
		if err != nil {
			c.end(&Closed{Code: noCode, Cause: err})
			return
		}
		switch op {
		case opText, opContinuation:
			text = append(text, payload...)
			if !final {
				continue
			}
			if err := c.take(text); err != nil {
				c.end(&Closed{Code: noCode, Cause: err})
				return
			}
			text = nil
		case opPing:
			if !c.muted() {
				c.Frame(opPong, payload)
			}
		case opPong:
			c.change(func() { c.pongs = append(c.pongs, payload) })
		case opClose:
			c.bid(payload)
			return
		default:
			c.end(&Closed{Code: noCode, Cause: fmt.Errorf("a frame of opcode %d", op)})
			return
		}
	}
}

// message is either an answer or a notice.
type message struct {
	ID     jsontext.Value `json:"id"`
	Result jsontext.Value `json:"result"`
	Error  *wire.Error    `json:"error"`
	Method string         `json:"method"`
	Params jsontext.Value `json:"params"`
}

// take files one text frame.
func (c *Conn) take(text []byte) error {
	c.change(func() { c.texts = append(c.texts, string(text)) })
	var all []message
	if jsontext.Value(text).Kind() == '[' {
		if err := json.Unmarshal(text, &all); err != nil {
			return fmt.Errorf("read a batch: %w", err)
		}
	} else {
		var m message
		if err := json.Unmarshal(text, &m); err != nil {
			return fmt.Errorf("read a frame: %w", err)
		}
		all = append(all, m)
	}
	for _, m := range all {
		n := Notice{Method: m.Method, Params: m.Params}
		if m.Method == "room.event" {
			n.Event = new(wire.RoomEvent)
			if err := json.Unmarshal(m.Params, n.Event); err != nil {
				return fmt.Errorf("read an event: %w", err)
			}
		}
		c.change(func() {
			if m.Method != "" {
				c.notices = append(c.notices, n)
				return
			}
			c.answers[string(m.ID)] = answer{m.Result, m.Error}
		})
	}
	return nil
}

// Text writes one text frame.
func (c *Conn) Text(text string) error { return c.Frame(opText, []byte(text)) }

// Ask writes a request and returns its id, to be given to Answer.
func (c *Conn) Ask(method string, params any) (id string, err error) {
	raw, err := json.Marshal(params)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.id++
	id = strconv.Itoa(c.id)
	c.mu.Unlock()
	return id, c.Text(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + string(raw) + `}`)
}

// Answer waits for the answer to a request and reads its result into result,
// which may be nil. An error is a *wire.Error, a *Closed, or the cause of ctx.
func (c *Conn) Answer(ctx context.Context, id string, result any) error {
	var a answer
	err := c.wait(ctx, func() bool {
		var ok bool
		a, ok = c.answers[id]
		delete(c.answers, id)
		return ok
	})
	switch {
	case err != nil:
		return err
	case a.err != nil:
		return a.err
	case result == nil:
		return nil
	}
	return json.Unmarshal(a.result, result)
}

// Call is Ask and Answer.
func (c *Conn) Call(ctx context.Context, method string, params, result any) error {
	id, err := c.Ask(method, params)
	if err != nil {
		if closed := c.Closed(); closed != nil {
			return closed
		}
		return err
	}
	return c.Answer(ctx, id, result)
}

// wait waits until found, called under mu, says true.
func (c *Conn) wait(ctx context.Context, found func() bool) error {
	for {
		c.mu.Lock()
		ok, more, closed := found(), c.more, c.closed
		c.mu.Unlock()
		switch {
		case ok:
			return nil
		case closed != nil:
			return closed
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Pong waits for the payload of the next pong.
func (c *Conn) Pong(ctx context.Context) ([]byte, error) {
	var payload []byte
	err := c.wait(ctx, func() bool {
		if len(c.pongs) == 0 {
			return false
		}
		payload, c.pongs = c.pongs[0], c.pongs[1:]
		return true
	})
	return payload, err
}

// Next waits for the next notice that was not taken yet.
func (c *Conn) Next(ctx context.Context) (Notice, error) {
	var n Notice
	err := c.wait(ctx, func() bool {
		if c.taken == len(c.notices) {
			return false
		}
		n = c.notices[c.taken]
		c.taken++
		return true
	})
	return n, err
}

// NextBut is Next, passing over the notices of a method.
func (c *Conn) NextBut(ctx context.Context, method string) (Notice, error) {
	for {
		n, err := c.Next(ctx)
		if err != nil || n.Method != method {
			return n, err
		}
	}
}

// NextText waits for the next text frame that it has not given yet, whatever
// it is: it goes beside Next and Answer, not before them.
func (c *Conn) NextText(ctx context.Context) (string, error) {
	var text string
	err := c.wait(ctx, func() bool {
		if c.given == len(c.texts) {
			return false
		}
		text = c.texts[c.given]
		c.given++
		return true
	})
	return text, err
}

// Rest is the text frames that have come and that NextText has not given.
func (c *Conn) Rest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.texts[c.given:], "\n")
}

// Untaken is how many notices have come that Next has not handed out.
func (c *Conn) Untaken() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.notices) - c.taken
}
