package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// kind is how a Redis is put together.
type kind int

const (
	single   kind = iota // one server, which may have replicas that nobody asks
	sentinel             // one primary, which Sentinels name
	cluster              // many primaries, each with a part of the keys
)

// place is where a Redis is, as a URL says it.
type place struct {
	kind     kind
	one      *redis.Options // of a single one
	addrs    []string       // of Sentinels, or of some nodes of a Cluster
	user     string
	password string
	tls      bool
	// of Sentinel
	master                         string
	db                             int
	sentinelUser, sentinelPassword string
}

// Forms are the URLs that Open reads.
const Forms = "redis://[user:password@]host:port[/db], rediss:// (TLS), unix://[user:password@]path, " +
	"redis+sentinel://[user:password@]host:port,host:port/master[/db] or redis+cluster://[user:password@]host:port,host:port; " +
	"rediss+sentinel:// and rediss+cluster:// with TLS"

// Where reads a URL and says, without its secrets, what is dialled.
func Where(url string) (string, error) {
	p, err := parsePlace(url)
	switch {
	case err != nil:
		return "", err
	case p.kind == single:
		return p.one.Addr, nil
	}
	return strings.Join(p.addrs, ","), nil
}

// IsCluster says whether a URL is a Cluster's.
func IsCluster(url string) bool {
	p, err := parsePlace(url)
	return err == nil && p.kind == cluster
}

var schemes = map[string]place{
	"redis+sentinel":  {kind: sentinel},
	"rediss+sentinel": {kind: sentinel, tls: true},
	"redis+cluster":   {kind: cluster},
	"rediss+cluster":  {kind: cluster, tls: true},
}

// parsePlace reads a URL. Its errors never quote it: it may hold a password.
func parsePlace(text string) (place, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	p, several := schemes[scheme]
	if !several {
		one, err := redis.ParseURL(text)
		if err != nil {
			return place{}, errors.New("expected " + Forms)
		}
		return place{kind: single, one: one}, nil
	}
	if err := p.read(rest); err != nil {
		return place{}, fmt.Errorf("expected %w, in a %s://", err, scheme)
	}
	return p, nil
}

// read reads what is behind the scheme of a URL with several hosts, which
// net/url does not take. Its errors say what is expected.
func (p *place) read(rest string) error {
	rest, query, _ := strings.Cut(rest, "?")
	hosts, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		user, password, _ := strings.Cut(hosts[:at], ":")
		var err1, err2 error
		p.user, err1 = url.PathUnescape(user)
		p.password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return errors.New("user and password with %XX for what is special in a URL")
		}
		hosts = hosts[at+1:]
	}
	for addr := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(addr)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" || n == 0 {
			return errors.New("host:port,host:port (a / in a password is written %2F)")
		}
		p.addrs = append(p.addrs, addr)
	}
	if err := p.options(query); err != nil {
		return err
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if p.kind == cluster {
		if len(parts) > 1 || parts[0] != "" && parts[0] != "0" {
			return errors.New("nothing behind the hosts: a Cluster has database 0 alone")
		}
		return nil
	}
	var err error
	if p.master, err = url.PathUnescape(parts[0]); err != nil || p.master == "" || len(parts) > 2 {
		return errors.New("/MASTER, the name that the Sentinels have for the primary, or /MASTER/DB behind the hosts")
	}
	if len(parts) == 2 {
		if p.db, err = strconv.Atoi(parts[1]); err != nil || p.db < 0 {
			return errors.New("a number as database in /MASTER/DB")
		}
	}
	return nil
}

// options reads what is behind the question mark.
func (p *place) options(query string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("name=value&name=value behind the question mark")
	}
	for name := range q {
		switch {
		case p.kind == sentinel && name == "sentinel_username":
			p.sentinelUser = q.Get(name)
		case p.kind == sentinel && name == "sentinel_password":
			p.sentinelPassword = q.Get(name)
		case p.kind == sentinel:
			return errors.New("no option but sentinel_username and sentinel_password")
		default:
			return errors.New("no option")
		}
	}
	return nil
}

// config is the TLS that a URL asks for. Names are checked against the host that
// is dialled.
func (p *place) config() *tls.Config {
	if !p.tls {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}
