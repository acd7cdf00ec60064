package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"godwit/internal/redisset"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// trusted is the authority that this process trusts.
var trusted struct {
	once sync.Once
	authority
}

// TLS is a certificate for servers on this machine whose authority this process
// trusts, as one that SSL_CERT_FILE names: the only way to tell a node of one.
func TLS(t testing.TB) *redisset.TLS {
	t.Helper()
	trusted.once.Do(func() {
		trusted.authority = newAuthority(t)
		file := filepath.Join(t.TempDir(), "ca.pem")
		write(t, file, "CERTIFICATE", trusted.cert.Raw)
		was, set := os.LookupEnv("SSL_CERT_FILE")
		os.Setenv("SSL_CERT_FILE", file)
		_, err := x509.SystemCertPool() // it is read now, and not again
		if set {
			os.Setenv("SSL_CERT_FILE", was)
		} else {
			os.Unsetenv("SSL_CERT_FILE")
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trusted.cert.Verify(x509.VerifyOptions{}); err != nil {
			t.Fatalf("something has read the system's certificates before: %v", err)
		}
	})
	return trusted.server(t)
}

// StrangersTLS is one whose authority nobody trusts.
func StrangersTLS(t testing.TB) *redisset.TLS {
	t.Helper()
	return newAuthority(t).server(t)
}

func newAuthority(t testing.TB) (a authority) {
	t.Helper()
	of := template("godwit tests")
	of.IsCA, of.BasicConstraintsValid, of.KeyUsage = true, true, x509.KeyUsageCertSign
	return sign(t, of, a)
}

// server is files with a certificate for the loopback address.
func (a authority) server(t testing.TB) *redisset.TLS {
	t.Helper()
	of := template("redis")
	of.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	of.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} // replicas are clients
	server := sign(t, of, a)
	key, err := x509.MarshalECPrivateKey(server.key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out := &redisset.TLS{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
		Roots: x509.NewCertPool(),
	}
	out.Roots.AddCert(a.cert)
	write(t, out.CA, "CERTIFICATE", a.cert.Raw)
	write(t, out.Cert, "CERTIFICATE", server.cert.Raw)
	write(t, out.Key, "EC PRIVATE KEY", key)
	return out
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// sign makes a key and its certificate; an authority that is empty is the
// certificate itself.
func sign(t testing.TB, of *x509.Certificate, by authority) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by.cert == nil {
		by = authority{of, key}
	}
	raw, err := x509.CreateCertificate(rand.Reader, of, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func write(t testing.TB, file, kind string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}
