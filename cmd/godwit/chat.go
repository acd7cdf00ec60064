package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"godwit/client"
	"godwit/wire"
)

const (
	chatLine = 16 << 10 // longest line that is sent
	// chatBye is how long the end of the input waits for what is unanswered.
	chatBye = 10 * time.Second
	// chatLate is after how long it is said that a line has no answer yet.
	chatLate = 2 * time.Second
)

func chatCommand() *cobra.Command {
	var urls []string
	var user, room, token, secret string
	c := &cobra.Command{
		Use:   "chat",
		Short: "Talk in a room from the terminal: a line is a message",
		Example: "  godwit chat --url ws://127.0.0.1:8080/v1/ws --user ann --room lobby\n" +
			"  godwit chat --url wss://example.org/v1/ws --token \"$TOKEN\" --room lobby",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			mint, err := minter(user, token, secret)
			if err != nil {
				return usage{err}
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			err = chat(ctx, client.Options{URLs: urls, Token: mint, Device: "terminal"}, room, c.InOrStdin(), c.OutOrStdout())
			if token == "" && secret == "" && client.Is(err, wire.Unauthorized) {
				err = fmt.Errorf("%w\nthe node accepts no dev tokens, or not this one: log in with --token or --secret", err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringSliceVar(&urls, "url", []string{"ws://127.0.0.1:8080/v1/ws"}, "where a node listens; several, with commas, are tried in turn")
	f.StringVar(&user, "user", "", "who you are; without --token or --secret a dev token is used")
	f.StringVar(&room, "room", "lobby", "the room to talk in")
	f.StringVar(&token, "token", "", "JWT to log in with")
	f.StringVar(&secret, "secret", "", "HS256 key to mint a token with")
	return c
}

// minter is where the tokens of a chat come from.
func minter(user, token, secret string) (func(context.Context) (string, error), error) {
	switch {
	case token != "":
		return func(context.Context) (string, error) { return token, nil }, nil
	case user == "":
		return nil, errors.New("who are you? give --user, or --token")
	case secret != "":
		return func(context.Context) (string, error) {
			claims := jwt.MapClaims{"sub": user, "exp": time.Now().Add(time.Hour).Unix()}
			return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
		}, nil
	}
	return func(context.Context) (string, error) { return "dev:" + user, nil }, nil
}

// talk is one chat on a terminal.
type talk struct {
	client *client.Client
	room   string

	// head is the room's newest entry when the session was resumed: what comes
	// up to it was missed meanwhile. Owned by listen.
	head uint64

	// away is what has been said of the connection's loss, until it is back.
	// Owned by state.
	away map[string]bool

	mu  sync.Mutex
	out io.Writer // guarded by mu
}

func chat(ctx context.Context, o client.Options, room string, in io.Reader, out io.Writer) error {
	t := &talk{room: room, out: out}
	o.OnState = t.state
	var err error
	if t.client, err = client.Dial(ctx, o); err != nil {
		return err
	}
	joined, err := t.client.Join(ctx, room)
	if err != nil {
		return errors.Join(err, t.client.Close(ctx))
	}
	var names []string
	for _, m := range joined.Members {
		names = append(names, m.User)
	}
	t.say("-- in %s at node %s, with %s; type a line to send it, Ctrl-D to leave", room, t.client.Session().Node, strings.Join(names, ", "))
	var reader sync.WaitGroup
	ended := make(chan error, 1)
	reader.Go(func() { ended <- t.listen(ctx) })
	lines, cannot := make(chan string), make(chan error, 1)
	// Not waited for: nothing can end a read of a terminal but the process.
	go read(in, lines, cannot)
	if err = t.speak(ctx, lines, ended); err == nil && ctx.Err() == nil {
		select {
		case err = <-cannot:
		default:
		}
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), chatBye)
	defer cancel()
	if closed := t.client.Close(bye); err == nil && closed != nil {
		err = fmt.Errorf("leave: %w", closed)
	}
	reader.Wait()
	return err
}

// read passes lines on; what keeps it from reading on goes to cannot.
func read(in io.Reader, lines chan<- string, cannot chan<- error) {
	defer close(lines)
	s := bufio.NewScanner(in)
	s.Buffer(nil, chatLine)
	for s.Scan() {
		lines <- s.Text()
	}
	if err := s.Err(); err != nil {
		cannot <- fmt.Errorf("read what to send: %w (a line has at most %d bytes)", err, chatLine)
	}
}

// speak sends lines until there are none or the chat has ended.
func (t *talk) speak(ctx context.Context, lines <-chan string, ended <-chan error) error {
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if strings.TrimSpace(line) == "" {
				continue
			}
			late := time.AfterFunc(chatLate, func() { t.say("-- not answered yet, still trying: %s", line) })
			sent, err := t.client.Send(ctx, t.room, line)
			late.Stop()
			var refused *wire.Error
			switch {
			case err == nil:
				t.say("[%d] you: %s", sent.Seq, line)
			case ctx.Err() != nil:
				t.say("-- it is not known whether this was sent: %s", line)
				return nil
			case errors.As(err, &refused):
				t.say("-- not sent: %s", refused.Message)
			case errors.Is(err, client.ErrUnsettled) && t.client.Err() == nil:
				t.say("-- it is not known whether this was sent: %s", line)
			default:
				return err
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// listen prints what the room says.
func (t *talk) listen(ctx context.Context) error {
	again := false // the session has ended, and a new one is to join the room
	for e, err := range t.client.Events(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		switch e := e.(type) {
		case *wire.RoomEvent:
			t.event(e)
		case client.Resumed:
			t.head = 0
			for _, r := range e.Rooms {
				if r.Room == t.room {
					t.head = r.Seq
				}
			}
			t.say("-- resumed at node %s", e.Node)
		case *wire.Reset:
			t.head = 0
			t.say("-- the room was reset: the server lost its past; it goes on")
		case client.Gap:
			t.say("-- some messages are missing: the server no longer keeps them")
		case client.Lost:
			again = errors.Is(e.Err, client.ErrSessionGone)
			if !again {
				t.say("-- no longer in %s: %v", t.room, e.Err)
			}
		case client.Joined:
			if !again {
				continue // the first, which was asked for
			}
			again, t.head = false, 0
			missed := "what was said meanwhile may be missing"
			if e.Recovered {
				missed = "what was said meanwhile follows"
			}
			t.say("-- the session had ended; a new one began at node %s: %s", t.client.Session().Node, missed)
		}
	}
	return nil
}

func (t *talk) event(e *wire.RoomEvent) {
	missed, who := "", e.From.User
	if e.Seq != 0 && e.Seq <= t.head {
		missed = "  (replayed)"
	}
	switch e.Kind {
	case wire.KindMessage:
		t.say("[%d] %s: %s%s", e.Seq, who, text(e.Data), missed)
	case wire.KindJoin:
		t.say("[%d] -- %s joined%s", e.Seq, who, missed)
	case wire.KindLeave:
		t.say("[%d] -- %s left (%s)%s", e.Seq, who, e.Reason, missed)
	case wire.KindCall:
		t.say("[%d] -- in call: %v%s", e.Seq, e.InCall != nil && *e.InCall, missed)
	}
}

// text is a message as a line: a JSON string as what it says, other JSON as it
// is.
func text(data jsontext.Value) string {
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	return s
}

// plain shows what a terminal would obey as a mark.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// state prints that the connection is lost, and each reason why it is not back
// yet, once; that it is back stands in the stream. A move to another node is
// worth a word, though nothing of it shows.
func (t *talk) state(s client.State) {
	if moved, ok := s.(client.Redirected); ok {
		t.say("-- moved to node %s", moved.To)
		return
	}
	d, lost := s.(client.Disconnected)
	if !lost {
		t.away = nil
		return
	}
	switch why := cause(d); {
	case d.Final, t.away[why], client.Is(d.Err, wire.NoSession): // or it stands in the stream, too
	case t.away == nil:
		t.away = map[string]bool{why: true}
		t.say("-- connection lost (%s), resuming in %s", why, d.RetryIn.Round(time.Millisecond))
	default:
		t.away[why] = true
		t.say("-- not back yet (%s), still trying", why)
	}
}

// cause is why a connection is not there, in words that do not name the node:
// with several, each try would have its own.
func cause(d client.Disconnected) string {
	if d.Code != 0 {
		return d.Code.String()
	}
	if refused := (*wire.Error)(nil); errors.As(d.Err, &refused) {
		return refused.Message
	}
	why := d.Err
	for inner := why; inner != nil; inner = errors.Unwrap(inner) {
		why = inner
	}
	return why.Error()
}

// say prints a line. What others say in it is shown, and never obeyed.
func (t *talk) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.out, plain(fmt.Sprintf(format, args...)))
}
