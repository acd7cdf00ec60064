package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// over is the input of a connection, and its other end.
func over(t *testing.T) (in *input, deadline func(time.Time) error, theirs io.WriteCloser) {
	t.Helper()
	conn, theirs := connected(t)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return new(input).over(raw), conn.SetReadDeadline, theirs
}

// Whatever is asked for at once, all of it comes, in its order.
func TestInput_GivesWhatWasSent(t *testing.T) {
	in, _, theirs := over(t)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(rand.IntN(256))
	}
	sent := make(chan error, 1)
	go func() { // waited for by sent
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(3*inputBytes))
			if _, err := theirs.Write(rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- theirs.Close()
	}()
	var got []byte
	sizes := []int{1, 2, 16, 500, inputBytes - 1, inputBytes, inputBytes + 1, 5 * inputBytes}
	for {
		p := make([]byte, sizes[rand.IntN(len(sizes))])
		n, err := in.Read(p)
		got = append(got, p[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, %v after %d", n, err, len(got))
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, not the %d that were sent", len(got), len(want))
	}
}

func TestInput_HoldsABufferOnlyWhileSomethingIsInIt(t *testing.T) {
	in, deadline, theirs := over(t)
	p := make([]byte, 3)
	read := func(want string, left bool) {
		t.Helper()
		n, err := in.Read(p)
		if err != nil || string(p[:n]) != want {
			t.Fatalf("%q, %v, want %q", p[:n], err, want)
		}
		if (in.buf != nil) != left {
			t.Errorf("after %q it holds a buffer: %t, want %t", want, in.buf != nil, left)
		}
	}
	if _, err := theirs.Write([]byte("abcde")); err != nil {
		t.Fatal(err)
	}
	read("abc", true)
	read("de", false)
	// One that has waited in vain holds none, and reads on.
	if err := deadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) || in.buf != nil {
		t.Errorf("%v, holds a buffer: %t", err, in.buf != nil)
	}
	if err := deadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write([]byte("f")); err != nil {
		t.Fatal(err)
	}
	read("f", false)
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := in.Read(p); n != 0 || !errors.Is(err, io.EOF) || in.buf != nil {
			t.Errorf("%d bytes, %v, holds a buffer: %t", n, err, in.buf != nil)
		}
	}
}
