package client

import (
	"net/url"
	"strings"
)

// mayFollow says whether a session whose socket was dialled at current may be
// led to next: to the same origin, or to one that the session names, and never
// from TLS to none.
func mayFollow(current, next string, origins []string) bool {
	from, err := url.Parse(current)
	if err != nil {
		return false
	}
	to, err := url.Parse(next)
	if err != nil || to.Hostname() == "" || to.Scheme != "ws" && to.Scheme != "wss" {
		return false
	}
	if from.Scheme == "wss" && to.Scheme != "wss" {
		return false
	}
	scheme, host := to.Scheme, hostPort(to.Scheme, to.Host)
	if sameOrigin(current, next) {
		return true
	}
	for _, entry := range origins {
		if originMatches(entry, scheme, host) {
			return true
		}
	}
	return false
}

// sameOrigin says whether two URLs have one scheme, host and port; a scheme's own
// port need not be named.
func sameOrigin(a, b string) bool {
	u, err := url.Parse(a)
	if err != nil {
		return false
	}
	v, err := url.Parse(b)
	return err == nil && u.Scheme == v.Scheme && strings.EqualFold(hostPort(u.Scheme, u.Host), hostPort(v.Scheme, v.Host))
}

// originMatches compares an origin with an entry: [scheme://]host[:port], with
// *. for any subdomain, or * for any. Without a port it is the scheme's own.
func originMatches(entry, scheme, host string) bool {
	s, h, ok := strings.Cut(entry, "://")
	if !ok {
		s, h = scheme, entry
	}
	switch strings.ToLower(s) {
	case "https": // as a browser names the origin
		s = "wss"
	case "http":
		s = "ws"
	}
	if !strings.EqualFold(s, scheme) {
		return false
	}
	if h = strings.TrimSuffix(h, "/"); h == "*" {
		return true
	}
	h = hostPort(scheme, h)
	if rest, wild := strings.CutPrefix(h, "*"); wild {
		return len(host) > len(rest) && strings.HasPrefix(rest, ".") && strings.EqualFold(host[len(host)-len(rest):], rest)
	}
	return strings.EqualFold(h, host)
}

// hostPort is host:port with the scheme's port where none is named.
func hostPort(scheme, host string) string {
	u := url.URL{Host: host}
	if u.Port() != "" {
		return host
	}
	host = strings.TrimSuffix(host, ":")
	if scheme == "wss" {
		return host + ":443"
	}
	return host + ":80"
}
