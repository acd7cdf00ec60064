package store

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// askedWithin bounds how long a server that does not answer is asked whether it
// would, with TLS or without.
const askedWithin = 5 * time.Second

// Explain adds to an error of Redis at a URL, if that is so, that the server there
// speaks TLS and is not asked by it, or the other way: the one does not say so, and
// the other waits for more.
func Explain(ctx context.Context, url string, err error) error {
	p, bad := parsePlace(url)
	if err == nil || bad != nil || p.kind == single && p.one.Network == "unix" {
		return err
	}
	asked, addrs := p.tls, p.addrs
	if p.kind == single {
		asked, addrs = p.one.TLSConfig != nil, []string{p.one.Addr}
	}
	ctx, cancel := context.WithTimeout(ctx, askedWithin)
	defer cancel()
	for _, addr := range addrs {
		switch {
		case !asked && speaks(ctx, addr, true):
			return errors.Join(err, errors.New(addr+" speaks TLS: the URL must begin with rediss"))
		case asked && speaks(ctx, addr, false):
			return errors.Join(err, errors.New(addr+" does not speak TLS: the URL must begin with redis, and not rediss"))
		}
	}
	return err
}

// speaks says whether the server at an address answers, with TLS or without. It is
// told no password, so any certificate will do.
func speaks(ctx context.Context, addr string, secure bool) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until) // it is new
	}
	if secure {
		return tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}).HandshakeContext(ctx) == nil
	}
	var answer [1]byte
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	_, err = conn.Read(answer[:])
	return err == nil && (answer[0] == '+' || answer[0] == '-') // an error, for want of a password
}
