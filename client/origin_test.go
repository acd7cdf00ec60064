package client

import "testing"

func TestMayFollow_OnlyToItsOwnOriginOrANamedOne(t *testing.T) {
	named := []string{"wss://*.example.org", "wss://one.test:8443", "ws://plain.test", "https://web.test/", "any.test", "*.deep.test"}
	for _, c := range []struct {
		current, next string
		origins       []string
		want          bool
	}{
		{"ws://a.test/v1/ws", "ws://a.test/other", nil, true},
		{"ws://a.test/v1/ws", "ws://A.test:80/v1/ws", nil, true},
		{"wss://a.test:443/v1/ws", "wss://a.test/v1/ws", nil, true},
		{"ws://a.test/v1/ws", "ws://a.test:8080/v1/ws", nil, false},
		{"ws://a.test:8080/v1/ws", "ws://b.test:8080/v1/ws", nil, false},
		{"ws://[::1]:8080/v1/ws", "ws://[::1]:8080/v1/ws", nil, true},
		{"ws://[::1]/v1/ws", "ws://[::1]:80/v1/ws", nil, true},
		// TLS is not given up, whoever is named; it may be taken up.
		{"wss://a.test/v1/ws", "ws://a.test/v1/ws", nil, false},
		{"wss://a.test/v1/ws", "ws://a.test:443/v1/ws", nil, false},
		{"wss://a.test/v1/ws", "ws://plain.test/v1/ws", named, false},
		{"wss://a.test/v1/ws", "ws://b.test/v1/ws", []string{"*"}, false},
		{"ws://a.test/v1/ws", "ws://plain.test/v1/ws", named, true},
		{"ws://a.test/v1/ws", "wss://a.test/v1/ws", nil, false},
		{"ws://a.test/v1/ws", "wss://n1.example.org/v1/ws", named, true},
		// Entries.
		{"wss://a.test/v1/ws", "wss://n1.example.org/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://x.n1.EXAMPLE.org:443/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://n1.example.org:8443/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://example.org/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://evilexample.org/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://n1.example.org.evil.test/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://n1.example.org@evil.test/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://evil.test/n1.example.org", named, false},
		{"wss://a.test/v1/ws", "wss://evil.test#.example.org", named, false},
		{"wss://a.test/v1/ws", "wss://one.test:8443/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://one.test/v1/ws", named, false},
		{"wss://a.test/v1/ws", "wss://web.test/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://any.test/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://x.deep.test/v1/ws", named, true},
		{"wss://a.test/v1/ws", "wss://b.test/v1/ws", []string{"*"}, true},
		{"wss://a.test/v1/ws", "wss://b.test/v1/ws", []string{"wss://*"}, true},
		{"ws://a.test/v1/ws", "ws://b.test/v1/ws", []string{"wss://*"}, false},
		{"wss://a.test/v1/ws", "wss://b.test/v1/ws", []string{"", "wss://", "*.", "*b.test", "://b.test"}, false},
		// What is no address.
		{"ws://a.test/v1/ws", "http://a.test/v1/ws", []string{"*"}, false},
		{"ws://a.test/v1/ws", "ws:///v1/ws", []string{"*"}, false},
		{"ws://a.test/v1/ws", "ws://:80/v1/ws", []string{"*"}, false},
		{"ws://a.test/v1/ws", "/v1/ws", []string{"*"}, false},
		{"ws://a.test/v1/ws", "ws://a.test:port/", []string{"*"}, false},
		{"ws://a.test/v1/ws", "", []string{"*"}, false},
	} {
		if got := mayFollow(c.current, c.next, c.origins); got != c.want {
			t.Errorf("from %s to %s, named %q: %v, want %v", c.current, c.next, c.origins, got, c.want)
		}
	}
}
