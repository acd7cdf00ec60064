package raw

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"godwit/wire"
)

// Binary is one websocket of a binary dialect, which knows of it no more than
// the layouts on the page: it takes each frame of the server apart into
// commands. It shares no code with the server's side.
type Binary struct {
	Net net.Conn

	in    *bufio.Reader
	sizes map[byte]int
	done  chan struct{} // closed when the reader has ended
	write sync.Mutex    // frames leave whole

	mu   sync.Mutex
	more chan struct{} // closed and replaced at each change
	// guarded by mu
	commands [][]byte // opcode first
	closed   *Closed
	gate     chan struct{} // the reader waits for it; nil: it reads
}

// varying is the size of a command that says its own.
const varying = -1

// What a server says, bytes behind the opcode.
var (
	chatdSizes   = map[byte]int{0x01: 4, 0x02: varying, 0x03: 1, 0x7f: 2}
	statusdSizes = map[byte]int{0x10: 9, 0x7f: 2}
)

// OverChatd opens a room's connection on one that is there; the URL is what
// would have been dialled.
func OverChatd(conn net.Conn, url string, header http.Header) (*Binary, error) {
	return overBinary(conn, url, header, chatdSizes)
}

// OverStatusd is OverChatd for presence.
func OverStatusd(conn net.Conn, url string, header http.Header) (*Binary, error) {
	return overBinary(conn, url, header, statusdSizes)
}

// DialChatd opens a room's connection.
func DialChatd(url string, header http.Header) (*Binary, error) {
	conn, err := connect(url)
	if err != nil {
		return nil, err
	}
	return OverChatd(conn, url, header)
}

// DialStatusd opens a connection for presence.
func DialStatusd(url string, header http.Header) (*Binary, error) {
	conn, err := connect(url)
	if err != nil {
		return nil, err
	}
	return OverStatusd(conn, url, header)
}

func overBinary(conn net.Conn, url string, header http.Header, sizes map[byte]int) (*Binary, error) {
	in, err := upgrade(conn, url, header)
	if err != nil {
		return nil, err
	}
	c := &Binary{Net: conn, in: in, sizes: sizes, done: make(chan struct{}), more: make(chan struct{})}
	go c.read() // ends with the connection; Drop waits for it
	return c, nil
}

// Drop ends the connection without a word.
func (c *Binary) Drop() {
	c.Net.Close()
	c.mu.Lock()
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
	c.mu.Unlock()
	<-c.done
}

// Halt reads no further frame.
func (c *Binary) Halt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate == nil {
		c.gate = make(chan struct{})
	}
}

// Go reads on after Halt.
func (c *Binary) Go() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

func (c *Binary) read() {
	defer close(c.done)
	defer c.Net.Close()
	for {
		c.mu.Lock()
		gate := c.gate
		c.mu.Unlock()
		if gate != nil {
			<-gate
		}
		op, final, payload, err := readFrame(c.in)
		if err == nil && op == opBinary && final {
			err = c.take(payload)
		}
		switch {
		case err != nil:
			c.end(&Closed{Code: noCode, Cause: err})
			return
		case op == opPing:
			c.Frame(opPong, payload)
		case op == opClose:
			e := &Closed{Code: 1005}
			if len(payload) >= 2 {
				e.Code, e.Reason = wire.CloseCode(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			c.Frame(opClose, payload)
			c.end(e)
			return
		case op != opPong && (op != opBinary || !final):
			c.end(&Closed{Code: noCode, Cause: fmt.Errorf("a frame of opcode %d", op)})
			return
		}
	}
}

// take files the commands of one frame.
func (c *Binary) take(frame []byte) error {
	if len(frame) == 0 {
		return errors.New("a frame without a command")
	}
	for len(frame) > 0 {
		size, ok := c.sizes[frame[0]]
		if size == varying && len(frame) >= 17 {
			size = 16 + int(frame[14]) + int(frame[15])<<8 + int(frame[16])<<16
		}
		if !ok || size < 0 || len(frame) < 1+size {
			return fmt.Errorf("no command: %x", frame[:min(len(frame), 40)])
		}
		command := slices.Clone(frame[:1+size])
		c.change(func() { c.commands = append(c.commands, command) })
		frame = frame[1+size:]
	}
	return nil
}

func (c *Binary) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.more)
	c.more = make(chan struct{})
}

func (c *Binary) end(e *Closed) { c.change(func() { c.closed = e }) }

// Frame writes one frame as it is.
func (c *Binary) Frame(op byte, payload []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.Net.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Net.Write(appendFrame(nil, op, payload))
	return err
}

// Say writes commands as one binary frame.
func (c *Binary) Say(commands ...[]byte) error {
	return c.Frame(opBinary, slices.Concat(commands...))
}

// Hex is bytes as a page writes them: hex digits, spaces where one likes.
func Hex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// RTMsg is that command, of a client.
func RTMsg(user string, client uint32, kind byte, msg []byte) []byte {
	b := append([]byte{0x02}, Hex(user)...)
	for shift := 0; shift < 32; shift += 8 {
		b = append(b, byte(client>>shift))
	}
	b = append(b, kind, byte(len(msg)), byte(len(msg)>>8), byte(len(msg)>>16))
	return append(b, msg...)
}

// Nobody is the user 0.
const Nobody = "0000000000000000"

// Next waits for the next command that was not taken yet.
func (c *Binary) Next(ctx context.Context) ([]byte, error) {
	for {
		c.mu.Lock()
		var command []byte
		if len(c.commands) > 0 {
			command, c.commands = c.commands[0], c.commands[1:]
		}
		more, closed := c.more, c.closed
		c.mu.Unlock()
		switch {
		case command != nil:
			return command, nil
		case closed != nil:
			return nil, closed
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// End waits for the end of the connection and tells how it came.
func (c *Binary) End(ctx context.Context) (*Closed, error) {
	for {
		c.mu.Lock()
		more, closed := c.more, c.closed
		c.mu.Unlock()
		if closed != nil {
			return closed, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Closed is how the connection ended, nil while it lives.
func (c *Binary) Closed() *Closed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
