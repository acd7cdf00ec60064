package pipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestConn_BothMayWriteBeforeEitherReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		page := bytes.Repeat([]byte("x"), Buffer)
		for _, c := range []net.Conn{a, b} {
			if n, err := c.Write(page); n != Buffer || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}
		if _, err := io.ReadFull(b, make([]byte, Buffer)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConn_AFullWayWaitsUntilItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New()
		defer a.Close()
		defer b.Close()
		began := time.Now()
		a.SetWriteDeadline(began.Add(10 * time.Second))
		n, err := a.Write(make([]byte, Buffer+1))
		if n != Buffer || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Fatalf("wrote %d, %v, after %s; want %d, a deadline, 10s", n, err, time.Since(began), Buffer)
		}
	})
}

func TestConn_WhatWasWrittenIsReadAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*Conn) error{"Close": (*Conn).Close, "CloseWrite": (*Conn).CloseWrite} {
		t.Run(name, func(t *testing.T) {
			a, b := New()
			defer b.Close()
			a.Write([]byte("last words"))
			end(a)
			if got, err := io.ReadAll(b); string(got) != "last words" || err != nil {
				t.Fatalf("read %q, %v", got, err)
			}
			_, err := b.Write([]byte("x"))
			if open := err == nil; open != (name == "CloseWrite") {
				t.Errorf("the way back after %s: %v", name, err)
			}
		})
	}
}

func TestListener_HandsOverAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen()
		go func() {
			c, err := l.Accept()
			if err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		c, err := l.Dial()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(c); string(got) != "hello" {
			t.Errorf("read %q", got)
		}
		l.Close()
		if _, err := l.Dial(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial after the end: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after the end: %v", err)
		}
	})
}
