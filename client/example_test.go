package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"godwit/client"
	"godwit/internal/trial"
	"godwit/wire"
)

// dial logs in at any of the nodes. An application asks its own backend for
// the token; the nodes of these examples take "dev:" and a name.
func dial(ctx context.Context, user string, urls ...string) *client.Client {
	c, err := client.Dial(ctx, client.Options{
		URLs:       urls,
		Token:      func(context.Context) (string, error) { return "dev:" + user, nil },
		MinBackoff: time.Millisecond, // the default suits a real network
	})
	if err != nil {
		panic(err)
	}
	return c
}

// messages prints the next n messages that c gets.
func messages(ctx context.Context, c *client.Client, n int) {
	for event, err := range c.Events(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		switch e := event.(type) {
		case *wire.RoomEvent:
			if e.Kind == wire.KindMessage {
				fmt.Printf("%d %s: %s\n", e.Seq, e.From.User, e.Data)
				n--
			}
		case client.Gap:
			fmt.Println("missed something in", e.Room)
		}
		if n == 0 {
			return
		}
	}
}

// Members of a room see its events in one order, whichever node they are on.
func Example() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.Nodes[0].URL)
	defer ann.Close(ctx)
	bob := dial(ctx, "bob", fleet.Nodes[1].URL)
	defer bob.Close(ctx)

	for _, c := range []*client.Client{ann, bob} {
		if _, err := c.Join(ctx, "lobby"); err != nil {
			panic(err)
		}
	}
	for _, word := range []string{"hello", "anybody there?"} {
		if _, err := ann.Send(ctx, "lobby", word); err != nil {
			panic(err)
		}
	}
	messages(ctx, bob, 2)
	// Output:
	// 3 ann: "hello"
	// 4 ann: "anybody there?"
}

// A client whose node dies goes on at another one. It has what was said
// meanwhile, and nobody saw it leave.
func Example_resume() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...) // the first one, while it lives
	defer ann.Close(ctx)
	bob := dial(ctx, "bob", fleet.Nodes[1].URL)
	defer bob.Close(ctx)
	ann.Join(ctx, "lobby")
	bob.Join(ctx, "lobby")

	fleet.Nodes[0].Cut()
	bob.Send(ctx, "lobby", "did you get this?")
	messages(ctx, ann, 1)
	fmt.Println("at", ann.Session().Node)
	// Output:
	// 3 bob: "did you get this?"
	// at n2
}

// A client is led to another node while it is in use, be it that it asks, that
// its node goes away or that another has more room: it has both sockets for a
// moment, nothing shows in its stream, and nobody saw it leave.
func ExampleClient_RequestRedirect() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	moved := make(chan client.Redirected, 1)
	ann, err := client.Dial(ctx, client.Options{
		URLs:  fleet.URLs(),
		Token: func(context.Context) (string, error) { return "dev:ann", nil },
		OnState: func(s client.State) {
			if r, ok := s.(client.Redirected); ok {
				moved <- r
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer ann.Close(ctx)
	bob := dial(ctx, "bob", fleet.Nodes[1].URL)
	defer bob.Close(ctx)
	ann.Join(ctx, "lobby")
	bob.Join(ctx, "lobby")

	if err := ann.RequestRedirect(ctx, ""); err != nil {
		panic(err)
	}
	bob.Send(ctx, "lobby", "where are you?")
	r := <-moved
	ann.Send(ctx, "lobby", "at "+r.To)
	messages(ctx, ann, 1)
	messages(ctx, bob, 1)
	fmt.Println("from", r.From, "by", r.Reason)
	// Output:
	// 3 bob: "where are you?"
	// 4 ann: "at n2"
	// from n1 by request
}

// Who is how present is of users, not of devices: the client shows what the
// server says, its own user included.
func ExampleClient_SetPresence() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	laptop := dial(ctx, "ann", fleet.Nodes[0].URL)
	defer laptop.Close(ctx)
	phone := dial(ctx, "ann", fleet.Nodes[1].URL)
	defer phone.Close(ctx)
	bob := dial(ctx, "bob", fleet.Nodes[1].URL)
	defer bob.Close(ctx)
	laptop.Join(ctx, "lobby")
	bob.Join(ctx, "lobby") // bob sees ann: they share a room
	told(ctx, bob)

	laptop.SetPresence(ctx, 1) // the user wants no disturbance
	told(ctx, bob)
	phone.SetAutoPresence(ctx, 2) // nobody touches the phone: that changes nothing
	laptop.SetAutoPresence(ctx, 4)
	told(ctx, bob)
	fmt.Println(bob.Present())
	// Output:
	// {ann false 3}
	// {ann false 1}
	// {ann false 4}
	// map[ann:4]
}

// told prints the next change of presence.
func told(ctx context.Context, c *client.Client) {
	for event, err := range c.Events(ctx) {
		if err != nil {
			panic(err)
		}
		if p, ok := event.(client.PresenceChanged); ok {
			fmt.Println(p)
			return
		}
	}
}

// A room is in a call while two users say so. Each client goes on saying so by
// itself, wherever its session is; who else is there is told once.
func ExampleClient_Call() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...)
	defer ann.Close(ctx)
	bob := dial(ctx, "bob", fleet.Nodes[1].URL)
	defer bob.Close(ctx)
	eve := dial(ctx, "eve", fleet.Nodes[1].URL)
	defer eve.Close(ctx)
	for _, c := range []*client.Client{ann, bob, eve} {
		c.Join(ctx, "lobby")
	}

	call, err := ann.Call(ctx, "lobby") // "call me": nobody is there yet
	if err != nil {
		panic(err)
	}
	with, err := bob.Call(ctx, "lobby")
	if err != nil {
		panic(err)
	}
	fleet.Nodes[0].Cut() // ann goes on at the other node, and in the call
	ann.Send(ctx, "lobby", "still there?")
	with.End(ctx)
	call.End(ctx)
	ann.Send(ctx, "lobby", "bye")

	for event, err := range eve.Events(ctx) {
		if err != nil {
			panic(err)
		}
		e, ok := event.(*wire.RoomEvent)
		switch {
		case !ok:
		case e.Kind == wire.KindCall:
			fmt.Printf("%d in call: %t\n", e.Seq, *e.InCall)
		case e.Kind == wire.KindMessage:
			fmt.Printf("%d %s: %s\n", e.Seq, e.From.User, e.Data)
		}
		if ok && string(e.Data) == `"bye"` {
			break
		}
	}
	// Output:
	// 4 in call: true
	// 5 ann: "still there?"
	// 6 in call: false
	// 7 ann: "bye"
}

// Send returns when the room has the message, exactly once: it is numbered,
// and repeated over any number of sockets until it is answered.
func ExampleClient_Send() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{Nodes: 2})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...)
	defer ann.Close(ctx)
	ann.Join(ctx, "lobby")

	var cut sync.WaitGroup
	var sent wire.Sent
	for i := range 100 {
		if i == 50 {
			cut.Go(fleet.Nodes[0].Cut) // while a send is on its way
		}
		if i == 99 {
			cut.Wait()
		}
		sent, _ = ann.Send(ctx, "lobby", map[string]int{"x": i})
	}
	fmt.Println("one join and", sent.Seq-1, "messages, over", ann.Session().Gen, "sockets")
	// Output: one join and 100 messages, over 2 sockets
}

// An error of the server has a reason to act on.
func ExampleIs() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...)
	defer ann.Close(ctx)

	_, err := ann.Send(ctx, "lobby", "hello?")
	fmt.Println(client.Is(err, wire.NotMember))
	_, err = ann.Join(ctx, "a name\nof two lines")
	var refused *wire.Error
	fmt.Println(errors.As(err, &refused), refused.Code)
	// Output:
	// true
	// true -32602
}

// History reads the kept log backwards or forwards, as far as this session may.
func ExampleClient_History() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...)
	defer ann.Close(ctx)
	ann.Join(ctx, "lobby")
	for i := range 5 {
		ann.Send(ctx, "lobby", i)
	}

	limit := 2
	past, err := ann.History(ctx, "lobby", wire.History{Limit: &limit})
	if err != nil {
		panic(err)
	}
	for _, e := range past.Events {
		fmt.Printf("%d %s\n", e.Seq, e.Data)
	}
	fmt.Println("more:", past.More)
	// Output:
	// 5 3
	// 6 4
	// more: true
}

// Info tells how a room stands.
func ExampleClient_Info() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{})
	defer fleet.Close()
	ann := dial(ctx, "ann", fleet.URLs()...)
	defer ann.Close(ctx)
	ann.Join(ctx, "lobby")

	info, err := ann.Info(ctx, "lobby")
	if err != nil {
		panic(err)
	}
	fmt.Println(info.Seq, len(info.Members), info.Members[0].User)
	// Output: 1 1 ann
}

// Token is asked for whenever a token is needed: at hello, and well before the
// old one expires.
func ExampleOptions_token() {
	ctx := context.Background()
	fleet := trial.Start(trial.Options{})
	defer fleet.Close()
	var asked atomic.Int32
	c, err := client.Dial(ctx, client.Options{
		URLs: fleet.URLs(),
		Token: func(context.Context) (string, error) {
			asked.Add(1)
			return "dev:ann", nil // in real life: fetched from the backend that knows the user
		},
	})
	if err != nil {
		panic(err)
	}
	defer c.Close(ctx)
	fmt.Println(c.Session().User, asked.Load())
	// Output: ann 1
}
