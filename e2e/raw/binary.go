package raw

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Binary is one websocket of a binary dialect, which knows of it no more than
// the layouts on the page: it takes each frame of the server apart into
// commands. It shares no code with the server's side.
type Binary struct {
	line
	sizes map[byte]int

	commands [][]byte // guarded by mu: opcode first
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
	c := &Binary{sizes: sizes}
	if err := c.open(conn, url, header); err != nil {
		return nil, err
	}
	go c.read() // ends with the connection; Drop waits for it
	return c, nil
}

func (c *Binary) read() {
	defer close(c.done)
	defer c.Net.Close()
	for {
		op, final, payload, err := c.next()
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
			c.bid(payload)
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
