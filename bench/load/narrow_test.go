package load

import (
	"net"
	"testing"
	"time"
)

func TestNarrow_ASocketThatNobodyReadsHoldsLittle(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := (&net.Dialer{Control: narrowed}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const most = 256 << 10 // what a node's outbox holds besides
	held := 0
	for held < most {
		if err := s.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := s.Write(make([]byte, 1<<10))
		held += n
		if err != nil {
			return // full
		}
	}
	t.Errorf("%d bytes were taken, and nobody reads them", held)
}
