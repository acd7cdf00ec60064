package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"godwit/wire"
)

// Options is what Dial needs to know. URLs and Token are required.
type Options struct {
	// URLs are the ws:// or wss:// addresses of /v1/ws, tried in turn, the
	// first one first. One is enough behind a load balancer.
	URLs []string
	// Token returns a token. It is asked for at each hello and, when the token
	// is a JWT, once four fifths of the token's life are over.
	Token func(ctx context.Context) (string, error)
	// Device is the label that other members see, at most 64 bytes.
	Device string
	// Presence is the presence byte of hello, bit 7 for a timer's, until the
	// application sets another; nil leaves it to the server: 3 as by a timer.
	Presence *uint8

	// Dial opens the network connection; nil is a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS configures wss; nil is the system's roots.
	TLS *tls.Config
	// Logger gets the client's life events; nil discards them.
	Logger *slog.Logger
	// OnState is told of each attachment, loss and redirect, in order, from one
	// goroutine. It must not wait for long and must not call Close.
	OnState func(State)

	// MinBackoff and MaxBackoff shape the wait before try n: a random time in
	// [0, min(MaxBackoff, MinBackoff*2^n)], after what the server asked for.
	// 0 is 100 ms and 10 s.
	MinBackoff, MaxBackoff time.Duration
	// EventBuffer is how many events may wait for the application. When they
	// do, the client stops reading its socket: nothing is dropped, the server
	// sees a slow reader. While a call (Send, Join...) waits for its answer,
	// which travels behind the events, the bound is eightfold, so that a call
	// made by the goroutine that reads the events does not wait for itself.
	// 0 is 1024.
	EventBuffer int
	// NoRedirect tells the server not to move the session to another node while
	// the socket lives. A node that goes away then says bye, and the session
	// resumes elsewhere.
	NoRedirect bool
}

// State is what OnState is told: Connected, Disconnected or Redirected.
type State interface{ state() }

// Connected says that the session is attached to a node.
type Connected struct {
	Session wire.Session // without its secret
	// Resumed is false for a new session, the first one or one after Lost.
	Resumed bool
	// Rooms are the rooms of a resumed session, each with its recovered flag.
	Rooms []wire.SessionRoom
}

// Disconnected says that the socket is lost, or that a try to get a new one
// failed.
type Disconnected struct {
	Code wire.CloseCode // 0 when there was no socket yet
	Err  error
	// RetryIn is the wait before the next try.
	RetryIn time.Duration
	// Final says that there is no next try; Err is what every call returns now.
	Final bool
}

// Redirected says that the session has moved to another node, make before
// break: nothing of it shows in the stream, and no call has failed.
type Redirected struct {
	From, To string        // nodes
	Reason   string        // why, one of wire.For...
	Took     time.Duration // from the offer to the new node's answer
}

func (Connected) state()    {}
func (Disconnected) state() {}
func (Redirected) state()   {}

const (
	defaultMinBackoff  = 100 * time.Millisecond
	defaultMaxBackoff  = 10 * time.Second
	defaultEventBuffer = 1024
	// callBuffer times EventBuffer is the bound while a call waits.
	callBuffer = 8
)

// withDefaults checks the options and fills what is not set.
func (o Options) withDefaults() (Options, error) {
	if len(o.URLs) == 0 {
		return o, errors.New("options: URLs is empty")
	}
	for _, raw := range o.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
			return o, fmt.Errorf("options: URL %q is not ws://host/path or wss://host/path", raw)
		}
	}
	if o.Token == nil {
		return o, errors.New("options: Token is nil")
	}
	if o.MinBackoff < 0 || o.MaxBackoff < 0 || o.EventBuffer < 0 {
		return o, errors.New("options: a bound is negative")
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = defaultMinBackoff
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = max(defaultMaxBackoff, o.MinBackoff)
	}
	if o.EventBuffer == 0 {
		o.EventBuffer = defaultEventBuffer
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnState == nil {
		o.OnState = func(State) {}
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o, nil
}
