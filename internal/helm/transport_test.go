package helm

import (
	"bufio"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// connectProxy leads every CONNECT to one address, and notes what was asked for.
type connectProxy struct {
	*httptest.Server
	target string
	mu     sync.Mutex
	asked  []string
}

func newConnectProxy(t *testing.T, target string) *connectProxy {
	t.Helper()
	p := &connectProxy{target: target}
	p.Server = httptest.NewServer(http.HandlerFunc(p.connect))
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) connect(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		server.Close()
		return
	}
	_, _ = client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	go func(r *bufio.Reader) { _, _ = io.Copy(server, r); server.Close() }(buffered.Reader)
	_, _ = io.Copy(client, server)
	client.Close()
}

// The proxy and the certificates of the environment are read once in a process: the fetch runs in one of
// its own.
func TestProxyAndCertificatesOfTheEnvironment(t *testing.T) {
	if dir := os.Getenv("PWDEPLOY_TEST_FETCH"); dir != "" {
		if _, err := NewStore(dir).Fetch(t.Context(), Source{Ref: "https://example.com" + archivePath}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("Go reads SSL_CERT_FILE on Unix systems other than macOS only")
	}
	server := newServer(t) // its certificate is for example.com
	server.on(archivePath, serve(packed(t, "redis")))
	proxy := newConnectProxy(t, server.registryHost())
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(certificate, block, 0o600); err != nil {
		t.Fatal(err)
	}
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	self.Env = append(os.Environ(), "HTTPS_PROXY="+proxy.URL, "https_proxy=", "NO_PROXY=", "no_proxy=",
		"SSL_CERT_FILE="+certificate, "PWDEPLOY_TEST_FETCH="+t.TempDir())
	if out, err := self.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !slices.Contains(proxy.asked, "CONNECT example.com:443") {
		t.Errorf("the proxy was asked for %v", proxy.asked)
	}
}
