package client

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"godwit/wire"
)

const (
	minRenew = time.Second      // between two tries to replace a token
	maxRenew = 30 * time.Second // the same, after many that failed
)

// expiry reads the end of a JWT's life without checking its signature, which is
// the server's to check. False: no JWT, or it says nothing.
func expiry(token string) (time.Time, bool) {
	var claims struct {
		Exp float64 `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !decode(parts[1], &claims) || claims.Exp <= 0 || claims.Exp > 1<<40 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(claims.Exp * 1000)), true
}

// forAnyone says whether the token of an offer is for whichever node is met, without
// checking its signature, which is that node's to check.
func forAnyone(token string) bool {
	var offer struct {
		Audience string `json:"aud"`
	}
	payload, _, _ := strings.Cut(token, ".")
	return decode(payload, &offer) && offer.Audience == "*"
}

// decode reads the payload of a token. False: it is none.
func decode(payload string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// fourFifths of a life: early enough for several tries.
func fourFifths(life time.Duration) time.Duration { return life / 5 * 4 }

// gotToken plans the replacement of a token that hello has taken.
func (c *Client) gotToken(token string) {
	var due time.Time // zero: not to be replaced
	if end, ok := expiry(token); ok {
		due = time.Now().Add(fourFifths(time.Until(end)))
	}
	select {
	case <-c.token: // of a session before
	default:
	}
	c.token <- due
}

// renew replaces the session's token before it expires, for as long as the
// client lives. When it cannot, the server closes the session in the end and
// hello asks for a token again.
func (c *Client) renew() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	wait := minRenew
	for {
		select {
		case <-c.ctx.Done():
			return
		case due := <-c.token:
			timer.Stop()
			if !due.IsZero() {
				timer.Reset(max(time.Until(due), 0))
			}
			wait = minRenew
			continue
		case <-timer.C:
		}
		life, err := c.refresh()
		if err != nil {
			if c.ctx.Err() == nil {
				c.opts.Logger.Warn("token not replaced", "error", err, "retry_in", wait)
			}
			timer.Reset(wait)
			wait = min(2*wait, maxRenew)
			continue
		}
		wait = minRenew
		timer.Reset(max(fourFifths(life), minRenew))
	}
}

// refresh gives the server a new token; the result is its life.
func (c *Client) refresh() (time.Duration, error) {
	token, err := c.opts.Token(c.ctx)
	if err != nil {
		return 0, err
	}
	var out wire.Refreshed
	if err := c.do(c.ctx, ask("hello.refresh", wire.Refresh{Token: token}, &out)); err != nil {
		return 0, err
	}
	return time.Duration(out.ExpiresInMS) * time.Millisecond, nil
}
