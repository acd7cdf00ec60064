package floor

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// counter counts what is written to its connections, after the upgrade.
type counter struct {
	net.Listener
	writes *atomic.Int64
}

func (c counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	return counted{conn, c.writes}, err
}

type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// enter opens a websocket and joins a room.
func enter(t *testing.T, addr, user string) (say func(string), next func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	in := bufio.NewReader(conn)
	fmt.Fprint(conn, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Z29kd2l0IGlzIGEgYmlyZA==\r\n\r\n")
	if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", r, err)
	}
	say = func(text string) {
		t.Helper()
		frame := append([]byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}, text...)
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	next = func() string {
		t.Helper()
		head := make([]byte, 2)
		n := 0
		for i := range head {
			head[i], err = in.ReadByte()
			if err != nil {
				t.Fatal(err)
			}
		}
		if n = int(head[1]); n == 126 {
			hi, _ := in.ReadByte()
			lo, _ := in.ReadByte()
			n = int(hi)<<8 | int(lo)
		}
		b := make([]byte, n)
		for i := range b {
			if b[i], err = in.ReadByte(); err != nil {
				t.Fatal(err)
			}
		}
		return string(b)
	}
	say(`{"jsonrpc":"2.0","id":1,"method":"hello","params":{"token":"dev:` + user + `"}}`)
	say(`{"jsonrpc":"2.0","id":2,"method":"room.join","params":{"room":"r"}}`)
	for range 2 {
		if got := next(); !strings.Contains(got, `"result":{}`) {
			t.Fatalf("answered %s", got)
		}
	}
	return say, next
}

func TestHub_EachMessageIsAWriteToEachMember(t *testing.T) {
	var writes atomic.Int64
	s := httptest.NewUnstartedServer(New())
	s.Listener = counter{s.Listener, &writes}
	s.Start()
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	say, next := enter(t, addr, "ann")
	var others []func() string
	for i := range 3 {
		_, other := enter(t, addr, fmt.Sprintf("other %d", i))
		others = append(others, other)
	}
	writes.Store(0)
	const messages = 5
	for i := range messages {
		say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"room.send","params":{"room":"r","data":"m%d"}}`, 3+i, i))
	}
	for i := range messages {
		if got, want := next(), fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"seq":%d,`, 3+i, 1+i); !strings.HasPrefix(got, want) {
			t.Errorf("answered %s, want %s", got, want)
		}
		for _, other := range others {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","method":"room.event","params":{"room":"r","seq":%d,"kind":"message","from":{"user":"ann","client":1},"data":"m%d","ts":`, 1+i, i)
			if got := other(); !strings.HasPrefix(got, want) {
				t.Errorf("told %s, want %s", got, want)
			}
		}
	}
	if got := writes.Load(); got != messages*4 {
		t.Errorf("%d writes of %d messages, want one to each of four", got, messages)
	}
}
