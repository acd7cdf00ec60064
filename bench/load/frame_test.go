package load

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"godwit/bench/floor"
)

func TestOpen_AnAddressWithoutAPortHasThatOfItsScheme(t *testing.T) {
	none := errors.New("nobody is there")
	for addr, want := range map[string]string{
		"ws://chat.test/v1/ws":       "chat.test:80",
		"wss://chat.test/v1/ws":      "chat.test:443",
		"ws://chat.test:8080/v1/ws":  "chat.test:8080",
		"wss://[::1]/v1/ws":          "[::1]:443",
		"wss://chat.test:8443/v1/ws": "chat.test:8443",
	} {
		var dialled string
		_, _, err := open(t.Context(), func(_ context.Context, _, addr string) (net.Conn, error) {
			dialled = addr
			return nil, none
		}, nil, addr)
		if dialled != want || !errors.Is(err, none) {
			t.Errorf("%s: dialled %s, %v; want %s", addr, dialled, err, want)
		}
	}
}

func TestRun_AFleetBehindTLS(t *testing.T) {
	cfg := against(t, Config{Work: "fanout", Rooms: 2, Members: 3, Rate: 100, InFlight: 10, Measure: 0.1, Bye: true})
	s := httptest.NewTLSServer(floor.New())
	t.Cleanup(s.Close)
	cfg.URLs = []string{"wss" + strings.TrimPrefix(s.URL, "https") + "/v1/ws"}
	if _, err := Run(t.Context(), cfg, &marks{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v, want a certificate that nobody vouches for to be refused", err)
	}
	cfg.Roots = x509.NewCertPool()
	cfg.Roots.AddCert(s.Certificate())
	r, _ := run(t, cfg)
	if err := r.Check(); err != nil || r.Accepted != 10 {
		t.Errorf("%+v, %v; want ten messages to two each", r, err)
	}
}
