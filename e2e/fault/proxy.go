package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Spoil says what becomes of pub/sub messages. The zero value passes all.
type Spoil struct {
	// Channel chooses the messages to spoil by their channel; nil is none.
	Channel func(channel string) bool
	// LoseOneIn loses one chosen message in that many, by the seed; 0 is none.
	LoseOneIn int
	// LoseMost is how many it loses so before it loses no more; 0 is no limit.
	LoseMost int
	// SwapOneIn exchanges one chosen message in that many with the message
	// after it on the connection; 0 is none.
	SwapOneIn int
	// Deaf loses every message of every channel, whatever Channel says, while
	// the connection and its other answers live.
	Deaf bool
}

// Rooms chooses the channels that carry the events of rooms.
func Rooms(channel string) bool {
	return strings.HasPrefix(channel, "gw:{r:") && strings.HasSuffix(channel, "}:ev")
}

// Counts is what a proxy has done.
type Counts struct {
	Passed, Lost, Swapped int64 // messages
	Unread                int64 // connections that spoke something else than RESP
}

// Proxy is one listener in front of one Redis.
type Proxy struct {
	target string
	seed   uint64
	ln     net.Listener
	wg     sync.WaitGroup

	// Points hold connections at a step of the node.
	Points Points

	passed, lost, swapped, unread atomic.Int64

	mu sync.Mutex
	// guarded by mu
	spoil  Spoil
	chosen int // messages that were lost by spoil.LoseOneIn
	links  map[*link]struct{}
	count  uint64
	refuse bool
	frozen chan struct{} // closed on thaw; nil: not frozen
	closed bool
}

// link is one connection through the proxy.
type link struct {
	down, up   net.Conn // to the node, to Redis
	rng        *rand.Rand
	subscribed atomic.Bool
}

func (l *link) close() {
	l.down.Close()
	l.up.Close()
}

// Listen starts a proxy to target on a free loopback port. The same seed and
// the same traffic of a connection spoil the same messages. Close ends it.
func Listen(target string, seed uint64) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{target: target, seed: seed, ln: ln, links: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Close cuts every connection and waits for its goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.ln.Close()
	p.Thaw()
	p.Cut()
	p.wg.Wait()
}

// Set replaces what becomes of messages, on living connections too.
func (p *Proxy) Set(s Spoil) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil, p.chosen = s, 0
}

// Refuse lets no new connection through, or lets them again.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Freeze stops all bytes in both directions; connections stay.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen == nil && !p.closed {
		p.frozen = make(chan struct{})
	}
}

// Thaw lets the bytes go on.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		close(p.frozen)
		p.frozen = nil
	}
}

// Cut closes every connection; new ones are let through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// CutSubscriptions closes the connections that have subscribed to a channel.
func (p *Proxy) CutSubscriptions() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.subscribed.Load() {
			l.close()
		}
	}
}

// Counts is what has been done so far.
func (p *Proxy) Counts() Counts {
	return Counts{Passed: p.passed.Load(), Lost: p.lost.Load(), Swapped: p.swapped.Load(), Unread: p.unread.Load()}
}

func (p *Proxy) accept() {
	for {
		down, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(down) })
	}
}

// serve carries one connection until either side ends it.
func (p *Proxy) serve(down net.Conn) {
	defer down.Close()
	p.mu.Lock()
	n, refuse := p.count, p.refuse || p.closed
	p.count++
	p.mu.Unlock()
	if refuse {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	up, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	cancel()
	if err != nil {
		return
	}
	l := &link{down: down, up: p.Points.Conn(up), rng: rand.New(rand.NewPCG(p.seed, n))}
	defer l.close()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()

	var wg sync.WaitGroup
	wg.Go(func() {
		defer l.close()
		io.Copy(gate{p, l.up}, l.down)
	})
	p.answers(l)
	l.close()
	wg.Wait()
}

// answers carries what Redis says, value by value.
func (p *Proxy) answers(l *link) {
	in, out := newReader(l.up), gate{p, l.down}
	var held []byte // a message that the next one overtakes
	for {
		v, err := in.next()
		if errors.Is(err, errSyntax) {
			p.unread.Add(1)
			if _, err := out.Write(append(held, in.pending.Bytes()...)); err == nil {
				io.Copy(out, in.r)
			}
			return
		}
		if err != nil {
			return
		}
		if v.confirms() {
			l.subscribed.Store(true)
		}
		raw := v.raw
		if channel, ok := v.channel(l.subscribed.Load()); ok {
			switch p.fate(l, channel, held != nil) {
			case lose:
				p.lost.Add(1)
				continue
			case swap:
				p.swapped.Add(1)
				held = append([]byte(nil), raw...)
				continue
			}
			p.passed.Add(1)
			if held != nil {
				raw, held = append(raw, held...), nil
			}
		}
		if _, err := out.Write(raw); err != nil {
			return
		}
	}
}

type fate uint8

const (
	pass fate = iota
	lose
	swap
)

// fate decides about one message. While one is held back no other is.
func (p *Proxy) fate(l *link, channel string, holding bool) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.spoil
	switch {
	case s.Deaf:
		return lose
	case s.Channel == nil || !s.Channel(channel):
		return pass
	case s.LoseOneIn > 0 && (s.LoseMost == 0 || p.chosen < s.LoseMost) && l.rng.IntN(s.LoseOneIn) == 0:
		p.chosen++
		return lose
	case s.SwapOneIn > 0 && !holding && l.rng.IntN(s.SwapOneIn) == 0:
		return swap
	}
	return pass
}

// gate writes to w unless the proxy is frozen; then it waits.
type gate struct {
	p *Proxy
	w io.Writer
}

func (g gate) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	frozen := g.p.frozen
	g.p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	return g.w.Write(b)
}
