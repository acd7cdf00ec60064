package freeport_test

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"godwit/internal/freeport"
)

// quiet is a host where nobody else looks for ports meanwhile, if this machine has
// such a one.
func quiet() string {
	const host = "127.0.0.2"
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return "127.0.0.1"
	}
	l.Close()
	return host
}

func TestFind_PortsAreFreeDifferentAndNotTheSystemsToGive(t *testing.T) {
	const many, off = 300, 10000
	host := quiet()
	ports, err := freeport.Find(host, many, off)
	if err != nil || len(ports) != many {
		t.Fatalf("%d ports, %v, want %d", len(ports), err, many)
	}
	given := 32768 // the first port that the system gives by itself
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		given, _ = strconv.Atoi(strings.Fields(string(b))[0])
	}
	slices.Sort(ports)
	if len(slices.Compact(slices.Clone(ports))) != many {
		t.Errorf("one is there twice: %v", ports)
	}
	for _, p := range ports {
		for _, p := range []int{p, p + off} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
			if err != nil {
				t.Fatalf("not free: %v", err)
			}
			l.Close()
			if given >= 32768 && p >= given {
				t.Errorf("the system may give away %d", p)
			}
		}
	}
}

func TestFind_SaysThatThereIsNone(t *testing.T) {
	for name, find := range map[string]func() ([]int, error){
		"a host that is not of this machine": func() ([]int, error) { return freeport.Find("192.0.2.1", 1) },
		"too far away":                       func() ([]int, error) { return freeport.Find("127.0.0.1", 1, 30000) },
	} {
		if ports, err := find(); err == nil || !strings.Contains(err.Error(), "0 of 1 found") {
			t.Errorf("%s: %v, %v, want an error", name, ports, err)
		}
	}
}

func TestFind_PassesOverWhatIsTaken(t *testing.T) {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	host, seen := quiet(), map[int]bool{}
	for range 200 {
		ports, err := freeport.Find(host, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ports {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
			if err != nil || seen[p] {
				t.Fatalf("%d was taken: %v", p, err)
			}
			held, seen[p] = append(held, l), true
		}
	}
}
