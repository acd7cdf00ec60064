package redisset

import (
	"crypto/tls"
	"crypto/x509"
)

// TLS is what servers show, and what they and their clients trust.
type TLS struct {
	CA, Cert, Key string // files, in PEM
	Roots         *x509.CertPool
}

// client is how a server is asked.
func (t *TLS) client() *tls.Config {
	if t == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.Roots}
}

// port are the arguments by which a server listens.
func (t *TLS) port(port string) []string {
	if t == nil {
		return []string{"--port", port}
	}
	return []string{
		"--port", "0", "--tls-port", port,
		"--tls-cert-file", t.Cert, "--tls-key-file", t.Key, "--tls-ca-cert-file", t.CA,
		"--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

// scheme is that of a URL, with TLS or without: the first part of it has an s more.
func scheme(t *tls.Config, plain string) string {
	if t == nil {
		return plain
	}
	return "rediss" + plain[len("redis"):]
}
