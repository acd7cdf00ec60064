package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// stampDigits hold a time in nanoseconds.
const stampDigits = 16

var (
	eventHead = []byte(`{"jsonrpc":"2.0","method":"room.event",`)
	// presenceHead is of another user's: one's own has self first.
	presenceHead = []byte(`{"jsonrpc":"2.0","method":"presence","params":{"user":"`)
	offerHead    = []byte(`{"jsonrpc":"2.0","method":"redirect","params":`)
	noticeHead   = []byte(`{"jsonrpc":"2.0","method":"`)
	answerHead   = []byte(`{"jsonrpc":"2.0","id":`)
	resultMark   = []byte(`,"result":`)
	errorMark    = []byte(`,"error":`)
	rateMark     = []byte(`"reason":"rate_limited"`)
	seqMark      = []byte(`,"seq":`)
	dataMark     = []byte(`,"data":"~`)
	saidMark     = []byte(`"kind":"message"`)
	callMark     = []byte(`"kind":"call"`)
)

// client is one websocket of the load.
type client struct {
	crowd *crowd
	nth   int
	room  int
	user  string
	stall bool // reads nothing once it is in
	tally *tally

	place sync.Mutex // held while conn changes
	// owned by who logs in, then by the reader
	conn net.Conn
	in   []byte // in[:have] was read and not taken
	have int
	seq  uint64 // of the newest event

	session, secret, epoch []byte // as they came, owned likewise
	offer                  []byte // of another node, not followed yet; owned likewise

	write sync.Mutex
	frame []byte // guarded by write: a send, to be written over
	out   []byte // guarded by write
}

// login opens the socket, says hello and joins the room.
func (c *client) login(ctx context.Context) error {
	token, err := c.crowd.cfg.Token(c.user)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	presence := `,"presence":128` // offline, by itself
	if c.crowd.cfg.Presence {
		presence = ""
	}
	nth := c.nth
	if c.crowd.comeBack != nil {
		nth = 0 // all at one, until it is lost
	}
	if err := c.dial(ctx, nth); err != nil {
		return err
	}
	caps := ""
	if c.crowd.follows {
		caps = `,"caps":["redirect"]`
	}
	answer, err := c.ask("hello", `{"token":`+strconv.Quote(token)+presence+caps+`}`)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	c.session, c.secret = word(answer, `"session":"`), word(answer, `"secret":"`)
	if answer, err = c.ask("room.join", `{"room":`+strconv.Quote(c.crowd.room(c.room))+`}`); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	c.epoch = word(answer, `"epoch":"`)
	if i := bytes.Index(answer, seqMark); i >= 0 {
		c.seq = max(c.seq, number(answer[i+len(seqMark):]))
	}
	return nil
}

// dial opens a socket at the nth of the addresses.
func (c *client) dial(ctx context.Context, nth int) error {
	urls := c.crowd.cfg.URLs
	by := c.crowd.cfg.Dial
	if c.stall && c.crowd.narrow != nil {
		by = c.crowd.narrow
	}
	conn, left, err := open(ctx, by, c.crowd.cfg.Roots, urls[nth%len(urls)])
	if err != nil {
		return err
	}
	if c.conn != nil {
		c.conn.Close()
	}
	c.use(conn, left)
	return nil
}

// use makes a socket the client's, of which so much was read.
func (c *client) use(conn net.Conn, left []byte) {
	c.in, c.have = make([]byte, max(readFirst, len(left))), len(left)
	copy(c.in, left)
	c.place.Lock()
	defer c.place.Unlock()
	c.conn = conn
	if c.crowd.over.Load() {
		conn.Close()
	}
}

// hangUp ends the socket.
func (c *client) hangUp() {
	c.place.Lock()
	defer c.place.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

// request is one as a text frame.
func request(id int, method, params string) []byte {
	return appendFrame(nil, opText, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}`, id, method, params))
}

// ask writes a request and waits for its answer, before there is a reader.
func (c *client) ask(method, params string) (answer []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(request(1, method, params)); err != nil {
		return nil, err
	}
	for answer == nil {
		if _, err := c.take(func(b []byte) { answer = slices.Clone(b) }); err != nil {
			return nil, err
		}
		if answer == nil {
			if err := c.fill(); err != nil {
				return nil, err
			}
		}
	}
	return answer, c.conn.SetDeadline(time.Time{})
}

// fill reads once.
func (c *client) fill() error {
	if c.have == len(c.in) {
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	n, err := c.conn.Read(c.in[c.have:])
	c.have += n
	if n > 0 {
		return nil
	}
	return err
}

// read reads until the socket ends.
func (c *client) read(ctx context.Context) error {
	for {
		next, err := c.take(nil)
		if err != nil {
			return err
		}
		if offer := c.offer; offer != nil {
			c.offer = nil
			c.move(ctx, offer)
		}
		if next > 0 {
			if err := c.send(next, c.crowd.now()); err != nil {
				return err
			}
		}
		if len(c.in) > readMost && c.have < readFirst {
			c.in = slices.Clone(c.in[:readFirst])
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// take counts the whole frames that were read, and is how many sends were
// answered that are to be followed by the next. Answers are shown to whom they
// are for, if there is one.
func (c *client) take(show func(answer []byte)) (next int, err error) {
	if c.have == 0 {
		return 0, nil
	}
	now, follow := c.crowd.now(), c.crowd.follow.Load()
	var pongs [][]byte
	at := 0
	c.tally.mu.Lock()
	for err == nil {
		op, payload, size, bad := cut(c.in[at:c.have])
		if err = bad; err != nil || size == 0 {
			break
		}
		at += size
		switch op {
		case opText:
			var answered bool
			if answered, err = c.heard(payload, now); answered {
				if show != nil {
					show(payload)
				} else {
					c.tally.counts.answered++
					if follow {
						next++
					}
				}
			}
		case opPing:
			pongs = append(pongs, slices.Clone(payload))
		case opClose:
			err = closed(payload)
		}
	}
	c.tally.mu.Unlock()
	c.have = copy(c.in, c.in[at:c.have])
	for _, p := range pongs {
		if err == nil {
			err = c.put(appendFrame(nil, opPong, p))
		}
	}
	return next, err
}

// heard counts one text frame, and says whether it is an answer. The caller
// holds the tally.
func (c *client) heard(b []byte, now time.Duration) (answer bool, err error) {
	t := c.tally
	t.counts.frames++
	switch {
	case bytes.HasPrefix(b, eventHead):
		if i := bytes.Index(b, seqMark); i >= 0 {
			if seq := number(b[i+len(seqMark):]); seq > c.seq {
				c.seq = seq
			} else {
				t.counts.disorder++
			}
		}
		if i := bytes.Index(b, dataMark); i >= 0 {
			if sent, ok := stamp(b[i+len(dataMark):]); ok {
				t.counts.delivered++
				record(t.latency, now-sent)
				return false, nil
			}
		}
		if bytes.Contains(b, saidMark) || c.crowd.cfg.Work == "calls" && c.crowd.calling.Load() && bytes.Contains(b, callMark) {
			t.counts.strange++
		}
		return false, nil
	case bytes.HasPrefix(b, presenceHead) && c.crowd.changed != nil:
		if due, ok := c.crowd.changeOf(b[len(presenceHead):]); ok {
			t.counts.delivered++
			record(t.latency, now-due)
		} else {
			t.counts.strange++
		}
		return false, nil
	case bytes.HasPrefix(b, offerHead):
		c.offer = slices.Clone(b)
		return false, nil
	case bytes.HasPrefix(b, noticeHead):
		return false, nil
	case !bytes.HasPrefix(b, answerHead):
		return false, fmt.Errorf("a frame that is neither answer nor notification: %.200q", b)
	}
	at := b[len(answerHead):]
	if i := bytes.IndexByte(at, ','); i >= 0 {
		at = at[i:]
	}
	if bytes.HasPrefix(at, errorMark) {
		hint := ""
		if bytes.Contains(at, rateMark) {
			hint = "; a session may not ask for that much a second there: give a pace (--rate), or more members to take turns"
		}
		return true, fmt.Errorf("refused: %.200s%s", bytes.TrimSuffix(at[len(errorMark):], []byte("}")), hint)
	}
	if !bytes.HasPrefix(at, resultMark) {
		return false, fmt.Errorf("an answer that is neither result nor error: %.200q", b)
	}
	return true, nil
}

// closed is what a close frame says.
func closed(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("closed without a code")
	}
	return fmt.Errorf("closed %d %s", binary.BigEndian.Uint16(payload), payload[2:])
}

// prepare builds the send that this client repeats: data is a string of so many
// bytes, quotes included, that holds when it was sent.
func (c *client) prepare(bytes int) {
	pad := make([]byte, bytes-len(`"~"`)-stampDigits)
	for i := range pad {
		pad[i] = 'a' + byte(i%26)
	}
	c.write.Lock()
	defer c.write.Unlock()
	c.frame = request(1, "room.send", `{"room":`+strconv.Quote(c.crowd.room(c.room))+`,"data":"~0000000000000000`+string(pad)+`"}`)
}

// send writes messages, each with the time at which it was due.
func (c *client) send(n int, due time.Duration) error {
	c.write.Lock()
	defer c.write.Unlock()
	at := bytes.Index(c.frame, dataMark) + len(dataMark)
	putStamp(c.frame[at:], due)
	c.out = c.out[:0]
	for range n {
		c.out = append(c.out, c.frame...)
	}
	c.crowd.sent.Add(int64(n))
	_, err := c.conn.Write(c.out)
	return err
}

// put writes one frame.
func (c *client) put(frame []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	_, err := c.conn.Write(frame)
	return err
}

const digits = "0123456789abcdef"

// putStamp writes a time into the first bytes of b.
func putStamp(b []byte, at time.Duration) {
	v := uint64(at)
	for i := stampDigits - 1; i >= 0; i-- {
		b[i] = digits[v&0xf]
		v >>= 4
	}
}

// stamp is the time that the first bytes of b hold.
func stamp(b []byte) (at time.Duration, ok bool) {
	if len(b) < stampDigits {
		return 0, false
	}
	var v uint64
	for _, d := range b[:stampDigits] {
		switch {
		case d >= '0' && d <= '9':
			v = v<<4 | uint64(d-'0')
		case d >= 'a' && d <= 'f':
			v = v<<4 | uint64(d-'a'+10)
		default:
			return 0, false
		}
	}
	return time.Duration(v), true
}

// word is a copy of what stands behind a mark, up to a quote.
func word(b []byte, mark string) []byte {
	_, b, _ = bytes.Cut(b, []byte(mark))
	b, _, _ = bytes.Cut(b, []byte(`"`))
	return slices.Clone(b)
}

// number is the one that b begins with.
func number(b []byte) (n uint64) {
	for _, d := range b {
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + uint64(d-'0')
	}
	return n
}
