package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// What may have been executed is never tried again.
func TestUnexecuted_OnlyWhatProvesIt(t *testing.T) {
	network := func(op string) error {
		return fmt.Errorf("send: %w", &net.OpError{Op: op, Err: errors.New("broken")})
	}
	for _, c := range []struct {
		err    error
		undone bool
		to     route
	}{
		{err: nil},
		{err: redis.Nil},
		{err: network("dial"), undone: true},
		{err: network("write")},
		{err: network("read")},
		{err: context.DeadlineExceeded},
		{err: redis.ErrPoolTimeout, undone: true},
		{err: proto("ERR Error running script")},
		{err: proto("NOSCRIPT No matching script.")},
		{err: proto("MOVED 7 " + primaryB), undone: true, to: route{addr: primaryB, slot: "7"}},
		{err: proto("ASK 7 " + primaryB), undone: true, to: route{addr: primaryB, slot: "7", ask: true}},
		{err: proto("MOVED 7 :6379"), undone: true, to: route{slot: "7"}},
		{err: proto("MOVED 7 ?:6379"), undone: true, to: route{slot: "7"}},
		{err: proto("MOVED"), undone: true},
		{err: proto("TRYAGAIN Multiple keys"), undone: true},
		{err: proto("CLUSTERDOWN Hash slot not served"), undone: true},
		{err: proto("LOADING the dataset"), undone: true},
		{err: proto("MASTERDOWN Link with MASTER is down"), undone: true},
		{err: proto("READONLY You can't write against a read only replica."), undone: true},
	} {
		if to, undone := unexecuted(c.err); undone != c.undone || to != c.to {
			t.Errorf("%v: not executed %t, at %+v; want %t, %+v", c.err, undone, to, c.undone, c.to)
		}
	}
}

// What comes after it in its slot must not overtake a command that is tried again, and
// what was executed must not be overtaken by one.
func TestBatch_TriesAgainOnlyWhatNothingInItsSlotHasOvertaken(t *testing.T) {
	r := newCluster(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, MaxRedirects: -1}, false, nil)
	defer r.close()
	moved, done := proto("MOVED 7 "+primaryB), error(nil)
	asked, broken := proto("ASK 7 "+primaryA), &net.OpError{Op: "read", Err: errors.New("reset")}
	for name, c := range map[string]struct {
		errs  []error
		again []int // by number
		to    string
	}{
		"all were executed":                {[]error{done, done}, nil, ""},
		"none was":                         {[]error{moved, moved}, []int{0, 1}, primaryB},
		"from the second on":               {[]error{done, moved, moved}, []int{1, 2}, primaryB},
		"one that another overtook":        {[]error{moved, done}, nil, ""},
		"one before a broken connection":   {[]error{moved, broken}, nil, ""},
		"those behind what was overtaken":  {[]error{moved, done, moved}, []int{2}, primaryB},
		"the first says where, not others": {[]error{asked, moved}, []int{0, 1}, primaryA},
		"a later one knows where":          {[]error{proto("TRYAGAIN"), moved}, []int{0, 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var cmds []redis.Cmder
			add := func(key string, err error) {
				cmd := redis.NewCmd(t.Context(), "get", key)
				cmd.SetErr(err)
				cmds = append(cmds, cmd)
			}
			for i, err := range c.errs {
				add(fmt.Sprintf("{a}%d", i), err)
				add(fmt.Sprintf("{b}%d", i), nil) // another slot's is no matter of theirs
			}
			b := r.begin(t.Context(), cmds)
			b.sort()
			var again []int
			for _, cmd := range b.left {
				again = append(again, slices.Index(cmds, cmd)/2)
			}
			if !slices.Equal(again, c.again) || len(b.left)+len(b.done) != len(cmds) || b.routes[slotOf("{a}")].addr != c.to {
				t.Errorf("tried again: %v at %q, and %d settled; want %v at %q", again, b.routes[slotOf("{a}")].addr, len(b.done), c.again, c.to)
			}
		})
	}
}
