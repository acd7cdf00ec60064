package main

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// othersFleet is a fleet of two nodes that a soak does not run.
func othersFleet(t *testing.T, env ...string) (p *program, urls string) {
	t.Helper()
	p = launch(t, env, "dev", "--nodes", "2")
	return p, strings.ReplaceAll(p.await(`Listening on (.*)$`)[0], " ", ",")
}

// visiting is a soak of that fleet whose clients are in.
func visiting(t *testing.T, env []string, urls string, args ...string) *soaked {
	t.Helper()
	s := &soaked{program: launch(t, env, append([]string{
		"soak", "--url", urls, "--clients", "12", "--rooms", "2", "--rate", "40", "--json",
	}, args...)...)}
	s.await(`^soak: all clients are in`)
	return s
}

func TestSoak_OfAFleetElsewhereSeesItsClientsMove(t *testing.T) {
	key := []string{"GODWIT_AUTH_SECRET=0123456789abcdef"}
	fleet, urls := othersFleet(t, key...)
	s := visiting(t, key, urls)
	s.await(`^soak: the first message is answered`)
	n1, err := strconv.Atoi(children(fleet, 2)[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n1, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	fleet.await(`^n1   \| ended: exit status 0$`)
	s.signal(syscall.SIGINT)
	if code := s.exit(); code != 0 {
		t.Errorf("exit %d, want 0: who gives no time ends it so", code)
	}
	r := s.result()
	if !r.Clean || !r.Complete || strings.Join(r.URLs, ",") != urls || r.Nodes != 0 || r.Signal != "" {
		t.Errorf("%+v, want a clean and complete run, elsewhere", r)
	}
	if r.Sent == 0 || r.Sent != r.Answered || r.Handed < 2 {
		t.Errorf("%+v, want messages, all answered, and some of the six clients of the node handed over", r)
	}
}

func TestSoak_OfAFleetElsewhereWhereNobodySpeaksProvesNothing(t *testing.T) {
	_, urls := othersFleet(t)
	s := visiting(t, nil, urls, "--rate", "0.001")
	s.signal(syscall.SIGINT)
	if code := s.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if r := s.result(); r.Clean || r.Complete || !strings.Contains(r.Error, "nothing is proven") {
		t.Errorf("%+v, want it to have proven nothing", r)
	}
}

func TestSoak_OfAFleetElsewhereThatIsEndedBeforeItsTimeSaysSo(t *testing.T) {
	_, urls := othersFleet(t)
	s := visiting(t, nil, urls, "--for", "1h")
	s.signal(syscall.SIGINT)
	if code := s.exit(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if r := s.result(); r.Clean || r.Complete || r.Error != "interrupted" {
		t.Errorf("%+v, want it to be interrupted", r)
	}
}

func TestSoak_OfAFleetElsewhereTalksForItsTime(t *testing.T) {
	_, urls := othersFleet(t)
	began := time.Now()
	s := visiting(t, nil, urls, "--for", "2s")
	if code := s.exit(); code != 0 || time.Since(began) < 2*time.Second {
		t.Errorf("exit %d after %s, want 0 after 2 s and more", code, time.Since(began))
	}
	if r := s.result(); !r.Clean || !r.Complete {
		t.Errorf("%+v, want a clean and complete run", r)
	}
}

func TestSoak_OfAFleetElsewhereTakesNoFlagOfItsOwn(t *testing.T) {
	code, _, errs := once([]string{"GODWIT_AUTH_SECRET_FILE=/does/not/exist"}, "soak", "--url", "http://h/v1/ws,ws://user:pass@h/v1/ws", "--nodes", "3", "--kill", "--for", "0s")
	for _, want := range []string{"--url: expected ws://", "--nodes: expected nothing beside --url", "--kill: expected nothing", "--for: expected more than 0", "GODWIT_AUTH_SECRET_FILE"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not in:\n%s", want, errs)
		}
	}
	if strings.Contains(errs, "pass") || code != 2 {
		t.Errorf("exit %d, want 2, and no password in:\n%s", code, errs)
	}
	if code, _, errs := once(nil, "soak", "--for", "3s"); code != 2 || !strings.Contains(errs, "--for: expected only with --url") {
		t.Errorf("exit %d, want 2: %s", code, errs)
	}
}
