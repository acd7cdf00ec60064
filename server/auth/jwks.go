package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	lookEvery   = time.Second      // how often a file is looked at, at most
	readEvery   = 5 * time.Minute  // how often a URL is read anyway
	missEvery   = 10 * time.Second // how often an unknown key makes a URL be read
	retryEvery  = 10 * time.Second // after a reading of the URL that did not succeed
	readTimeout = 5 * time.Second  // of one reading of the URL, body included
	maxJWKS     = 1 << 20          // bytes; the sets of large providers are a few KiB
)

// jwks is where the key set comes from. A reading that does not succeed leaves
// the keys as they were.
type jwks struct {
	path   string // a file, or
	url    string // an http or https URL
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	keys atomic.Pointer[keySet] // nil until first read

	turn chan struct{} // holds one token; who has it may read, and owns the rest

	looked time.Time   // when the file was looked at
	stat   os.FileInfo // of the file when it was read
	missed time.Time   // when an unknown key last made the set be read
	err    error       // of the last reading
}

func newJWKS(cfg Config) (*jwks, error) {
	j := &jwks{now: cfg.Now, log: cfg.Logger, client: cfg.Client, turn: make(chan struct{}, 1)}
	j.turn <- struct{}{}
	if !strings.Contains(cfg.JWKS, "://") {
		j.path = cfg.JWKS
		j.looked = j.now()
		if err := j.readFile(); err != nil {
			return nil, err
		}
		if len(j.keys.Load().keys) == 0 {
			return nil, fmt.Errorf("JWKS file %s holds no EdDSA, ES256 or RS256 key for signatures", j.path)
		}
		return j, nil
	}
	u, err := url.Parse(cfg.JWKS)
	if err != nil || !trusted(u) {
		return nil, errors.New("JWKS URL: neither https:// nor http:// to a loopback host")
	}
	j.url = cfg.JWKS
	if j.client == nil {
		j.client = new(http.Client)
	}
	own := *j.client
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 || !trusted(req.URL) {
			return errors.New("redirected to where keys are not read from")
		}
		return nil
	}
	j.client = &own
	return j, nil
}

// trusted says whether nobody on the way can put a key of his own in.
func trusted(u *url.URL) bool {
	if u.Host == "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// run reads the URL until ctx ends.
func (j *jwks) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.turn:
		}
		err := j.read(ctx)
		j.turn <- struct{}{}
		if err != nil {
			timer.Reset(retryEvery)
		} else {
			timer.Reset(readEvery)
		}
	}
}

// look reads a file again if it is not the one that was read. It waits for
// nobody: while another caller looks, the keys that are there will do.
func (j *jwks) look() {
	if j.path == "" {
		return
	}
	select {
	case <-j.turn:
	default:
		return
	}
	defer func() { j.turn <- struct{}{} }()
	now := j.now()
	if now.Sub(j.looked) < lookEvery {
		return
	}
	j.looked = now
	stat, err := os.Stat(j.path)
	if err == nil && j.stat != nil && os.SameFile(stat, j.stat) && stat.Size() == j.stat.Size() && stat.ModTime().Equal(j.stat.ModTime()) {
		return
	}
	j.note(j.readFile())
}

// miss reads the set again because it has no key for a token, unless that was
// done lately or someone else has just done it. It gives the set as it is then;
// an error says why none was ever read.
func (j *jwks) miss(ctx context.Context, seen *keySet) (*keySet, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-j.turn:
	}
	defer func() { j.turn <- struct{}{} }()
	every := missEvery
	if j.path != "" {
		every = lookEvery
	}
	if now := j.now(); j.keys.Load() == seen && now.Sub(j.missed) >= every {
		j.missed = now
		// Others wait for this reading too, so it does not end with its caller.
		_ = j.read(context.WithoutCancel(ctx)) // noted
	}
	if set := j.keys.Load(); set != nil {
		return set, nil
	}
	if j.err == nil {
		return nil, errors.New("the first reading was broken off")
	}
	return nil, j.err
}

// read reads the set from wherever it is. The caller has the turn.
func (j *jwks) read(ctx context.Context) error {
	var err error
	if j.path != "" {
		err = j.readFile()
	} else {
		err = j.readURL(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return err // the node is going, the keys are fine
	}
	return j.note(err)
}

// note logs a reading that did not succeed, unless the one before did not for
// the same reason, and the first that does again.
func (j *jwks) note(err error) error {
	switch {
	case err != nil && j.err != nil && err.Error() == j.err.Error():
	case err != nil:
		j.log.Warn("token keys not read; the old ones stay", "err", err)
	case j.err != nil:
		j.log.Info("token keys read again")
	}
	if err == nil && len(j.keys.Load().keys) == 0 {
		j.log.Warn("the JWKS holds no key that signs tokens; all but secret and dev tokens are refused")
	}
	j.err = err
	return err
}

func (j *jwks) readFile() error {
	f, err := os.Open(j.path)
	if err != nil {
		return fmt.Errorf("open JWKS file: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat JWKS file: %w", err)
	}
	// Remembered also when what follows does not succeed: a broken file is read
	// again when it changes, not every second.
	j.stat = stat
	set, err := decode(f)
	if err != nil {
		return fmt.Errorf("read JWKS file %s: %w", j.path, err)
	}
	j.keys.Store(set)
	return nil
}

func (j *jwks) readURL(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return errors.New("read JWKS URL: it cannot be requested")
	}
	resp, err := j.client.Do(req)
	if err != nil {
		// url.Error quotes the URL, which may hold a password.
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("read JWKS from %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read JWKS from %s: answered %d, expected 200", req.URL.Host, resp.StatusCode)
	}
	set, err := decode(resp.Body)
	if err != nil {
		return fmt.Errorf("read JWKS from %s: %w", req.URL.Host, err)
	}
	j.keys.Store(set)
	return nil
}

func decode(r io.Reader) (*keySet, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxJWKS {
		return nil, fmt.Errorf("larger than %d bytes", maxJWKS)
	}
	return parseKeys(b)
}
