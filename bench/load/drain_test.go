package load

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// ousted is a node that is told to go: at the mark it offers its first client a
// place elsewhere, and hangs up on the others.
type ousted struct {
	marks
	offer string
	held  []*spoiler // guarded by mu
}

func (o *ousted) Mark(ctx context.Context, name string) error {
	if name == "term" {
		o.mu.Lock()
		for i, c := range o.held {
			if i == 0 {
				c.inject <- serverFrame(o.offer)
			} else {
				c.Conn.Close()
			}
		}
		o.mu.Unlock()
	}
	return o.marks.Mark(ctx, name)
}

func TestDrain_WhoIsOfferedAPlaceMovesAndOthersResume(t *testing.T) {
	const whole = `{"jsonrpc":"2.0","id":1,"result":{"resumed":true,"rooms":[{"room":"r","recovered":true}]}}`
	for _, c := range []struct {
		name, method string
		wrong        error // of the first dial that the offer leads to
		handed       int64
	}{
		{"the offer holds", "handover", nil, 1},
		{"nobody is at the offer's address", "resume", errors.New("gone"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := against(t, Config{Work: "drain", Rooms: 1, Members: 3})
			cfg.Parallel = 1 // so that the first is held first
			cfg.URLs = append(cfg.URLs, against(t, Config{}).URLs...)
			host := func(url string) string { return strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/v1/ws") }
			const elsewhere = "127.0.0.9:1"
			o := &ousted{offer: `{"jsonrpc":"2.0","method":"redirect","params":{"id":"o","url":"ws://` + elsewhere + `/v1/ws","token":"t"}}`}
			cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				o.mu.Lock()
				defer o.mu.Unlock()
				if addr == elsewhere {
					if c.wrong != nil {
						o.held[0].Conn.Close() // what a drain ends in
						return nil, c.wrong
					}
					addr = host(cfg.URLs[1])
				}
				first := addr == host(cfg.URLs[0])
				conn, err := spoil(func(f []byte) [][]byte {
					if !first && bytes.Contains(f, []byte(`"result":{}`)) {
						return [][]byte{serverFrame(whole)}
					}
					return [][]byte{f}
				})(ctx, network, addr)
				if first && err == nil {
					o.held = append(o.held, conn.(*spoiler))
				}
				return conn, err
			}
			r, err := Run(t.Context(), cfg, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Delivered != 3 || r.Handed != c.handed || r.Tries != 3-c.handed || r.Check() != nil {
				t.Errorf("%+v, %v; want three to be elsewhere, %d of them by an offer", r, r.Check(), c.handed)
			}
			if want := []string{"term", "end"}; !slices.Equal(o.names, want) {
				t.Errorf("marks %v, want %v", o.names, want)
			}
		})
	}
}
