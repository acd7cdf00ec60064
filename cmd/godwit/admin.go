package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
)

const (
	// adminWithin bounds one request; a node may take six seconds to answer.
	adminWithin = 15 * time.Second
	// adminMost is the largest answer that is read, in bytes.
	adminMost = 8 << 20
)

// operator is the admin API of some node, as the commands call it.
type operator struct {
	env   []string
	url   string
	token string
	name  string // of whoever types, for the nodes' log; empty: nobody knows
	web   *http.Client
}

// flags lets a command say where the API is, and the token.
func (a *operator) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.url, "admin", "http://127.0.0.1:8081", "admin listener of any node of the fleet")
	c.Flags().StringVar(&a.token, "token", "", "admin token; prefer GODWIT_ADMIN_TOKEN or GODWIT_ADMIN_TOKEN_FILE, which no process list shows")
}

// open checks what was given; close ends what it took.
func (a *operator) open() (closed func(), err error) {
	vars := environment(a.env)
	if err := fromFile(vars, "GODWIT_ADMIN_TOKEN"); err != nil {
		return nil, usage{err}
	}
	a.name = vars["USER"]
	if host, err := os.Hostname(); err == nil && a.name != "" {
		a.name += "@" + host
	}
	a.token = cmp.Or(a.token, vars["GODWIT_ADMIN_TOKEN"])
	if a.token == "" {
		return nil, usage{errors.New("no admin token: give GODWIT_ADMIN_TOKEN, GODWIT_ADMIN_TOKEN_FILE or --token")}
	}
	u, err := url.Parse(a.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usage{errors.New("--admin: expected an http:// or https:// URL")}
	}
	a.url = strings.TrimSuffix(a.url, "/") + "/admin/v1"
	way := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: adminWithin}).DialContext}
	a.web = &http.Client{Transport: way, Timeout: adminWithin}
	return way.CloseIdleConnections, nil
}

// refusal is a problem that the API answers.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string { return r.detail }

// passing says whether a failure may be over the next time: who watches asks
// again.
func passing(err error) bool {
	var r *refusal
	return !errors.As(err, &r) || r.status >= http.StatusInternalServerError
}

// call makes one request of the API. A body or an answer may be nil.
func (a *operator) call(ctx context.Context, method, path string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, sent)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	if a.name != "" {
		req.Header.Set("X-Operator", a.name)
	}
	resp, err := a.web.Do(req)
	if err != nil {
		return fmt.Errorf("ask the fleet: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, adminMost))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refused(resp.StatusCode, b)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", a.url, err)
	}
	return nil
}

// refused reads a problem; what is none tells at least its status.
func refused(status int, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Detail == "" {
		p.Detail = http.StatusText(status)
		if status == http.StatusNotFound {
			p.Detail = "there is no admin API: --admin is the address of an admin listener (GODWIT_ADMIN_LISTEN)"
		}
	}
	for _, e := range p.Errors {
		p.Detail += "; " + e.Location + ": " + e.Message
	}
	return &refusal{status, fmt.Sprintf("%s (%d)", plain(p.Detail), status)}
}
