package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
)

func verify(t *testing.T, ca *certs.Authority, pair certs.Pair, opts x509.VerifyOptions) error {
	t.Helper()
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	opts.Roots = x509.NewCertPool()
	opts.Roots.AppendCertsFromPEM(ca.Cert)
	_, err = cert.Leaf.Verify(opts)
	return err
}

func TestIssue(t *testing.T) {
	ca, err := certs.NewAuthority("test-ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Issue(certs.Request{CommonName: "server", Hosts: []string{"example.test", "198.18.0.2"}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue(certs.Request{CommonName: "admin", Organizations: []string{"system:masters"}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	clientUse := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, tc := range []struct {
		name string
		pair certs.Pair
		opts x509.VerifyOptions
		ok   bool
	}{
		{"server by name", server, x509.VerifyOptions{DNSName: "example.test"}, true},
		{"server by address", server, x509.VerifyOptions{DNSName: "198.18.0.2"}, true},
		{"server by another name", server, x509.VerifyOptions{DNSName: "other.test"}, false},
		{"server as client", server, x509.VerifyOptions{KeyUsages: clientUse}, false},
		{"client", client, x509.VerifyOptions{KeyUsages: clientUse}, true},
		{"client as server", client, x509.VerifyOptions{}, false},
		{"expired", server, x509.VerifyOptions{CurrentTime: time.Now().Add(2 * time.Hour)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := verify(t, ca, tc.pair, tc.opts); (err == nil) != tc.ok {
				t.Fatalf("verify: %v, want ok=%v", err, tc.ok)
			}
		})
	}
}

func TestSaveAndLoadAuthority(t *testing.T) {
	dir := t.TempDir()
	ca, err := certs.NewAuthority("test-ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("ca.key: %v %v, want mode 0600", info.Mode(), err)
	}
	loaded, err := certs.LoadAuthority(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := loaded.Issue(certs.Request{CommonName: "x", Hosts: []string{"x.test"}, Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, ca, pair, x509.VerifyOptions{DNSName: "x.test"}); err != nil {
		t.Fatal(err)
	}
}
