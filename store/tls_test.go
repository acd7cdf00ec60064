package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"godwit/internal/redisset"
	"godwit/internal/redistest"
)

func TestTLS_EverythingGoesByItAndAFailoverToo(t *testing.T) {
	by := redistest.TLS(t)
	o := redisset.Options{Dir: t.TempDir(), Silent: redistest.NodeTimeout, TLS: by}
	secure := func(t *testing.T, url string) *Store {
		t.Helper()
		if !strings.HasPrefix(url, "rediss") {
			t.Fatalf("%s is not by TLS", url)
		}
		s := open(t, Config{URL: url, Timeout: 10 * time.Second})
		everything(t, s)
		return s
	}
	t.Run("redis", func(t *testing.T) { secure(t, redistest.StartTLS(t, by).URL()) })
	t.Run("cluster", func(t *testing.T) {
		c, err := redisset.StartCluster(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s := secure(t, c.URL())
		goesOn(t, s, func() error {
			at, err := c.Primary(t.Context(), keysOfRoom("r2").meta())
			if err != nil {
				return err
			}
			replica, err := c.Replica(t.Context(), at)
			if err != nil {
				return err
			}
			return c.FailOver(t.Context(), replica)
		})
	})
	t.Run("sentinel", func(t *testing.T) {
		set, err := redisset.StartSentinel(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(set.Close)
		goesOn(t, secure(t, set.URL()), func() error { return set.FailOver(t.Context()) })
	})
}

func TestTLS_WhatIsWrongWithItIsSaid(t *testing.T) {
	trusted, stranger, plain := redistest.StartTLS(t, redistest.TLS(t)), redistest.StartTLS(t, redistest.StrangersTLS(t)), redistest.Start(t)
	const speaksIt, speaksNone = "speaks TLS: the URL must begin with rediss", "does not speak TLS: the URL must begin with redis,"
	for url, want := range map[string]string{
		stranger.URL():                                         "certificate signed by unknown authority",
		"rediss+cluster://" + stranger.Addr:                    "certificate signed by unknown authority",
		"rediss+sentinel://" + stranger.Addr + "/main":         "certificate signed by unknown authority",
		"rediss://localhost" + trusted.Addr[len("127.0.0.1"):]: "wanted to match localhost",
		"redis://" + trusted.Addr:                              speaksIt,
		"redis+cluster://" + trusted.Addr:                      speaksIt,
		"redis+sentinel://" + trusted.Addr + "/main":           speaksIt,
		"rediss://" + plain.Addr:                               speaksNone,
		"rediss+cluster://" + plain.Addr:                       speaksNone,
		"rediss+sentinel://" + plain.Addr + "/main":            speaksNone,
	} {
		t.Run(url, func(t *testing.T) {
			timeout := 20 * time.Second
			if want == speaksNone {
				timeout = time.Second // it waits for more
			}
			s := open(t, Config{URL: url, Timeout: timeout})
			err := Explain(t.Context(), url, s.Ping(t.Context()))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want a word of %q", err, want)
			}
		})
	}
	if err := Explain(t.Context(), "redis://127.0.0.1:1", context.Canceled); err != context.Canceled {
		t.Errorf("of a server that is not there: %v, want nothing added", err)
	}
}
