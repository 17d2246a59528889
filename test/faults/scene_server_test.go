package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// serverScenes are API servers that are not well.
func serverScenes() []scene {
	const (
		inThePlan   = 8  // of about 150 requests of a first up
		inTheMiddle = 25 // the first objects are being made
	)
	now := time.Now()
	away, slow, tooSlow, throttled := make(chan time.Time, 1), make(chan time.Time, 1), make(chan time.Time, 1), make(chan time.Time, 1)
	return []scene{
		{name: "API server away for a while", provoke: through(away, proxy.Session{Plan: proxy.At(inTheMiddle, proxy.Away), Away: 4 * time.Second}), shown: moment(away),
			want: want{code: 0, object: "the API server at https://127.0.0.1:", reason: "is away", says: []string{"the API server answers again, after"}}},
		{name: "API server slow", provoke: through(slow, proxy.Session{Plan: proxy.At(inTheMiddle, proxy.Delay), Delay: 5 * time.Second}), shown: moment(slow),
			want: want{code: 0, reason: "the API server is slow", says: []string{"is without an answer for 3 s"}}},
		{name: "API server too slow for --timeout", provoke: through(tooSlow, proxy.Session{Plan: between(inThePlan, 1000, proxy.Delay), Delay: time.Minute}), shown: after(10 * time.Second),
			command: []string{"up", "--timeout", "10s"},
			want:    want{code: 1, reason: "the 10s of --timeout are over", hint: "set --timeout higher", state: nothingChanged}},
		{name: "API server throttles", provoke: through(throttled, proxy.Session{Plan: between(inTheMiddle, inTheMiddle+20, proxy.TooMany)}), shown: moment(throttled),
			want: want{code: 0, reason: "the API server throttles requests", says: []string{"429 Too Many Requests"}}},
		{name: "API server not there", provoke: changed(func(c *clientcmdapi.Config) { cluster(c).Server = "https://127.0.0.1:1" }),
			want: want{code: 4, object: "https://127.0.0.1:1", reason: "nothing listens", hint: "--context", state: nothingChanged}},
		{name: "certificate of an unknown authority", provoke: certified(now.Add(-time.Hour), now.Add(time.Hour), "127.0.0.1", false),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "signed by an authority that the kubeconfig does not name", hint: "fetch it again", state: nothingChanged}},
		{name: "certificate expired", provoke: certified(now.Add(-2*time.Hour), now.Add(-time.Hour), "127.0.0.1", true),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the API server's certificate expired on ", hint: "check this machine's clock", state: nothingChanged}},
		{name: "certificate not yet valid", provoke: certified(now.Add(time.Hour), now.Add(2*time.Hour), "127.0.0.1", true),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the API server's certificate is not valid before ", hint: "check this machine's clock", state: nothingChanged}},
		{name: "certificate for another name", provoke: certified(now.Add(-time.Hour), now.Add(time.Hour), "elsewhere.test", true),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the API server's certificate is for another name", hint: "tls-server-name", state: nothingChanged}},
		{name: "certificate of the user expired", provoke: loggedIn(now.Add(-2*time.Hour), now.Add(-time.Hour)),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the user's certificate in the kubeconfig expired on ", hint: "fetch the kubeconfig again", state: nothingChanged}},
		{name: "certificate of the user not yet valid", provoke: loggedIn(now.Add(time.Hour), now.Add(2*time.Hour)),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the user's certificate in the kubeconfig is not valid before ", hint: "check this machine's clock", state: nothingChanged}},
		{name: "clock skew", provoke: clock(10 * time.Minute),
			want: want{code: 1, object: "this machine's clock", reason: "behind the cluster's", hint: "NTP", state: nothingChanged}},
	}
}

func cluster(c *clientcmdapi.Config) *clientcmdapi.Cluster {
	return c.Clusters[c.Contexts[c.CurrentContext].Cluster]
}

// between does one thing to the requests from the first to the last.
func between(first, last int, kind proxy.Kind) proxy.Plan {
	return func(n int) proxy.Kind {
		if n >= first && n <= last {
			return kind
		}
		return proxy.None
	}
}

// after returns when a --timeout is over.
func after(timeout time.Duration) func(*testing.T, *harness.Site) time.Time {
	return func(*testing.T, *harness.Site) time.Time { return time.Now().Add(timeout) }
}

// through puts a proxy that disturbs between pwdeploy and the API server, and notes when it begins.
func through(began chan time.Time, session proxy.Session) func(*testing.T, *harness.Site) {
	plan := session.Plan
	session.Plan = func(n int) proxy.Kind {
		kind := plan(n)
		if kind != proxy.None {
			note(began)
		}
		return kind
	}
	return func(t *testing.T, s *harness.Site) {
		forget(began)
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		t.Cleanup(stop)
		p, err := proxy.Start(ctx, harness.Admin(t).Config)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "kubeconfig")
		if err := p.Begin(session, path); err != nil {
			t.Fatal(err)
		}
		kubeconfigPath(path)(t, s)
	}
}

// certified leads pwdeploy to a server with a certificate of its own, whose authority the kubeconfig names or not.
func certified(from, to time.Time, name string, known bool) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		certificate, authority := certify(t, from, to, name)
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
		server.StartTLS()
		t.Cleanup(server.Close)
		changed(func(c *clientcmdapi.Config) {
			cluster(c).Server = server.URL
			if known {
				cluster(c).CertificateAuthorityData = authority
			}
		})(t, s)
	}
}

// loggedIn has pwdeploy log in by an administrator's certificate that the cluster's own authority signed.
func loggedIn(from, to time.Time) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		certificate, key := harness.SignUser(t, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, NotBefore: from, NotAfter: to,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		changed(func(c *clientcmdapi.Config) {
			c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
		})(t, s)
	}
}

// certify makes a certificate that is its own authority.
func certify(t *testing.T, from, to time.Time, name string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: []string{name},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// clock leads pwdeploy through a proxy that makes the API server's clock go ahead.
func clock(ahead time.Duration) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		admin := harness.Admin(t).Config
		target, err := url.Parse(admin.Host)
		if err != nil {
			t.Fatal(err)
		}
		transport, err := rest.TransportFor(admin)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewTLSServer(&httputil.ReverseProxy{Transport: transport, FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
			ModifyResponse: func(r *http.Response) error {
				r.Header.Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				return nil
			}})
		t.Cleanup(server.Close)
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		changed(func(c *clientcmdapi.Config) {
			cluster(c).Server, cluster(c).CertificateAuthorityData = server.URL, authority
		})(t, s)
	}
}

// file writes a file of a scene.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
