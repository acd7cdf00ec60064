package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"

	"godwit/internal/trial"
)

// costly has each command that cost names take that long.
func costly(f *trial.Fleet, cost func(cmd string, args []string) time.Duration) {
	f.Redis.Server().SetPreHook(func(_ *server.Peer, cmd string, args ...string) bool {
		if d := cost(strings.ToUpper(cmd), args); d > 0 {
			time.Sleep(d)
		}
		return false
	})
}

// A change of contacts is read in parts, each with its own time: however large, it
// takes effect.
func TestContacts_AChangeOfThousandsTakesEffect(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		const many = 1600
		list := make([]string, many)
		for i := range list {
			list[i] = fmt.Sprintf("nobody%04d", i)
		}
		look(t, f, 2, "ann", online)
		bob, cy := look(t, f, 1, "bob", 0), look(t, f, 1, "cy", 0)
		// A script on how present one user is: of these a change has one for each.
		costly(f, func(cmd string, args []string) time.Duration {
			if cmd == "EVALSHA" && len(args) == 3 && strings.HasSuffix(args[2], ":presence") {
				return 600 * time.Microsecond
			}
			return 0
		})
		contacts(t, f, "bob", append(list, "ann")...)
		contacts(t, f, "cy", "ann")
		time.Sleep(5 * time.Second)
		bob.is("ann and thousands are added", "ann 3")
		cy.is("meanwhile, ann alone", "ann 3")
	})
}

// Of the lists that are read again no more go together than can be read in time.
func TestContacts_LargeListsOfManyHoldNobodyUp(t *testing.T) {
	fleet(t, func(t *testing.T, f *trial.Fleet) {
		const users, many = 4, 3000
		sizes := map[string]int{}
		for i := range users {
			name := fmt.Sprintf("user%02d", i)
			list := make([]string, many)
			for j := range list {
				list[j] = fmt.Sprintf("nobody%04d", j)
			}
			contacts(t, f, name, list...)
			sizes["gw:{u:"+name+"}:contacts"] = many
			look(t, f, 1, name, 0)
		}
		look(t, f, 2, "ann", online)
		bob := look(t, f, 1, "bob", 0)
		costly(f, func(cmd string, args []string) time.Duration {
			if cmd == "SMEMBERS" {
				return time.Duration(sizes[args[0]]) * 70 * time.Microsecond
			}
			return 0
		})
		f.Nodes[0].Part() // then all lists are read again
		time.Sleep(5 * time.Second)
		contacts(t, f, "bob", "ann")
		f.Nodes[0].Join()
		time.Sleep(10 * time.Second)
		bob.is("ann is added", "ann 3")
	})
}
