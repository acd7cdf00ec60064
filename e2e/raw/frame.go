package raw

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Refused says that the server answered the upgrade with another status.
type Refused struct {
	Status     int
	RetryAfter string
}

// Error tells the status.
func (r *Refused) Error() string { return fmt.Sprintf("upgrade refused: status %d", r.Status) }

// patience bounds the dial and the upgrade, each.
const patience = 10 * time.Second

// connect opens the connection that an address names.
func connect(addr string) (net.Conn, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return net.DialTimeout("tcp", u.Host, patience)
}

// upgrade switches a connection to websocket.
func upgrade(conn net.Conn, addr string, header http.Header) (*bufio.Reader, error) {
	req, err := http.NewRequest(http.MethodGet, strings.Replace(addr, "ws", "http", 1), nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	key := make([]byte, 16)
	rand.Read(key)
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key))
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	resp, err := exchange(conn, in, req)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, &Refused{resp.StatusCode, resp.Header.Get("Retry-After")}
	}
	conn.SetDeadline(time.Time{})
	return in, nil
}

func exchange(conn net.Conn, in *bufio.Reader, req *http.Request) (*http.Response, error) {
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(in, req)
}

// appendFrame appends one final, masked frame.
func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:])
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// readFrame reads one frame of a server.
func readFrame(in *bufio.Reader) (op byte, final bool, payload []byte, err error) {
	var head [10]byte
	if _, err = io.ReadFull(in, head[:2]); err != nil {
		return 0, false, nil, err
	}
	if head[1]&0x80 != 0 {
		return 0, false, nil, errors.New("a masked frame from the server")
	}
	if head[0]&0x70 != 0 {
		return 0, false, nil, errors.New("a frame with reserved bits, nothing was negotiated")
	}
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		if _, err = io.ReadFull(in, head[2:4]); err != nil {
			return 0, false, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(head[2:4]))
	case 127:
		if _, err = io.ReadFull(in, head[2:10]); err != nil {
			return 0, false, nil, err
		}
		n = binary.BigEndian.Uint64(head[2:10])
	}
	if n > 64<<20 {
		return 0, false, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(in, payload)
	return head[0] & 0x0f, head[0]&0x80 != 0, payload, err
}
