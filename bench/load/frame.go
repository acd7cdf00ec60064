package load

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Opcodes of RFC 6455.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

const (
	patience  = 30 * time.Second // for one answer
	readFirst = 4 << 10          // bytes of a client's buffer
	readMost  = 64 << 10         // to which it grows at most, unless a frame is longer
	frameMost = 8 << 20
)

// key is any: the server's answer to it is not checked.
const key = "Z29kd2l0IGlzIGEgYmlyZA=="

// appendFrame appends one final frame. Its mask is zero: masked as it must be,
// and the payload as it is, so that it can be changed in place.
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
	b = append(b, 0, 0, 0, 0)
	return append(b, payload...)
}

// cut takes the first frame of a server from b; size is 0 while it is not whole.
func cut(b []byte) (op byte, payload []byte, size int, err error) {
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	if b[0]&0xf0 != 0x80 || b[1]&0x80 != 0 {
		return 0, nil, 0, fmt.Errorf("a frame that begins %x: fragments, extensions and masks were not asked for", b[:2])
	}
	head, n := 2, uint64(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	case n >= 126:
		return 0, nil, 0, nil
	}
	if n > frameMost {
		return 0, nil, 0, fmt.Errorf("a frame of %d bytes", n)
	}
	if uint64(len(b)) < uint64(head)+n {
		return 0, nil, 0, nil
	}
	size = head + int(n)
	return b[0] & 0x0f, b[head:size], size, nil
}

// dialer opens a connection; net.Dialer's, but for tests.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// ports are those of addresses that name none.
var ports = map[string]string{"ws": "80", "wss": "443"}

// open dials an address and makes a websocket of it. What has come behind the
// answer is left over.
func open(ctx context.Context, dial dialer, roots *x509.CertPool, addr string) (_ net.Conn, left []byte, err error) {
	u, err := url.Parse(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("address: %w", err)
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme])))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if u.Scheme == "wss" {
		secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), RootCAs: roots})
		shaking, stop := context.WithTimeout(ctx, patience)
		defer stop()
		if err := secure.HandshakeContext(shaking); err != nil {
			return nil, nil, fmt.Errorf("tls: %w", err)
		}
		conn = secure
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", u.RequestURI(), u.Host, key); err != nil {
		return nil, nil, fmt.Errorf("upgrade: %w", err)
	}
	var in []byte
	for b := make([]byte, 1024); ; {
		n, err := conn.Read(b)
		in = append(in, b[:n]...)
		if end := bytes.Index(in, []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(in, []byte("HTTP/1.1 101 ")) {
				first, _, _ := bytes.Cut(in, []byte("\r\n"))
				return nil, nil, fmt.Errorf("upgrade refused: %s", first)
			}
			return conn, in[end+4:], conn.SetDeadline(time.Time{})
		}
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("upgrade: %w", err)
		case len(in) > 16<<10:
			return nil, nil, errors.New("upgrade: an answer without an end")
		}
	}
}
