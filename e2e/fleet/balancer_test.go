package fleet

import (
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
)

// named says its name to who comes, and ends.
func named(t *testing.T, name string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() { // waited for by done
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			c.Close()
		}
	}()
	return ln.Addr().String()
}

func TestBalancer_LeadsToEachInTurnThatTakesAConnection(t *testing.T) {
	gone := "127.0.0.1:" + strconv.Itoa(freePorts(t, 1)[0])
	b, err := Balance(named(t, "a"), gone, named(t, "b"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	who := func() string {
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		said, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(said)
	}
	var got []string
	for range 6 {
		got = append(got, who())
	}
	if want := []string{"a", "b", "b", "a", "b", "b"}; !slices.Equal(got, want) {
		t.Errorf("led to %v, want %v", got, want)
	}
	b.To(gone)
	if got := who(); got != "" {
		t.Errorf("led to %q, and nobody is there", got)
	}
}

func TestBalancer_ItsEndEndsTheConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b, err := Balance(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	up, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	b.Close()
	for name, end := range map[string]net.Conn{"who dialled": c, "who was dialled": up} {
		if n, err := end.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s read %d bytes, %v; want the end", name, n, err)
		}
	}
}
