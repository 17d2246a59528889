//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
)

// proxy stands in front of an API server and notes every request. It listens on loopback, speaks HTTP/2 on both sides,
// passes watches on as they come, and upgrades (port-forward, exec) through. Only who has its kubeconfig may use it.
type proxy struct {
	delay  time.Duration
	token  string
	server *http.Server
	url    string
	ca     []byte

	streams  *httputil.ReverseProxy // requests and their answers
	upgrades *httputil.ReverseProxy // connections that become something else, which HTTP/2 can't

	mu          sync.Mutex
	begin       time.Time
	requests    []*request
	connections int
}

// request is one that went through the proxy.
type request struct {
	At     time.Duration // since reset
	Took   time.Duration // until the answer was complete; 0 while it isn't
	Method string
	URI    string
	Code   int
	Agent  string
}

// startProxy starts one in front of the API server of config, until ctx ends. Every request is held back for delay
// first, as the way to a cluster far off would.
func startProxy(ctx context.Context, config *rest.Config, delay time.Duration) (*proxy, error) {
	p := &proxy{delay: delay, begin: time.Now(), token: rand.Text()}
	if err := p.forwardTo(config); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.url = "https://" + listener.Addr().String()
	pair, err := p.certificate()
	if err != nil {
		return nil, err
	}
	p.server = &http.Server{
		Handler: p, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second, ConnState: p.noteConnection,
		ErrorLog: log.New(io.Discard, "", 0), // clients that went away in the middle
	}
	context.AfterFunc(ctx, func() { p.server.Close() })
	go p.server.ServeTLS(listener, "", "") //nolint:errcheck // it ends with ctx; before, the measured commands would say so
	return p, nil
}

func (p *proxy) certificate() (tls.Certificate, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of the proxy: %w", err)
	}
	p.ca = certificate
	return tls.X509KeyPair(certificate, key)
}

func (p *proxy) forwardTo(config *rest.Config) error {
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return err
	}
	if p.streams, err = reverse(config, target); err != nil {
		return err
	}
	plain := rest.CopyConfig(config)
	plain.NextProtos = []string{"http/1.1"}
	p.upgrades, err = reverse(plain, target)
	return err
}

func reverse(config *rest.Config, target *url.URL) (*httputil.ReverseProxy, error) {
	config = rest.CopyConfig(config)
	config.DisableCompression = true // bodies go through as they are
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization") // the proxy's own; the transport adds the cluster's
		},
	}, nil
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+p.token)) != 1 {
		http.Error(w, "not for you", http.StatusUnauthorized)
		return
	}
	done := p.note(r)
	recorded := &answer{ResponseWriter: w, code: http.StatusOK}
	defer func() { done(recorded.code) }()
	time.Sleep(p.delay)
	if r.Header.Get("Upgrade") != "" {
		p.upgrades.ServeHTTP(recorded, r)
		return
	}
	p.streams.ServeHTTP(recorded, r)
}

// answer remembers the status that is written to it.
type answer struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController flush and hijack.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (p *proxy) note(r *http.Request) (done func(code int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	noted := &request{At: time.Since(p.begin), Method: r.Method, URI: r.URL.RequestURI(), Agent: r.UserAgent()}
	p.requests = append(p.requests, noted)
	begin := time.Now()
	return func(code int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		noted.Took, noted.Code = time.Since(begin), code
	}
}

func (p *proxy) noteConnection(_ net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connections++
}

// reset forgets what was noted.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.connections, p.begin = nil, 0, time.Now()
}

// noted gives the requests since reset, in the order in which they came, and the number of connections.
func (p *proxy) noted() ([]request, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]request, 0, len(p.requests))
	for _, r := range p.requests {
		out = append(out, *r)
	}
	return out, p.connections
}

// writeKubeconfig writes one whose only context leads through the proxy.
func (p *proxy) writeKubeconfig(file string) error {
	config := api.NewConfig()
	config.Clusters["bench"] = &api.Cluster{Server: p.url, CertificateAuthorityData: p.ca}
	config.AuthInfos["bench"] = &api.AuthInfo{Token: p.token}
	config.Contexts["bench"] = &api.Context{Cluster: "bench", AuthInfo: "bench"}
	config.CurrentContext = "bench"
	return clientcmd.WriteToFile(*config, file)
}

// The kinds of requests that are counted apart.
const (
	kindRead      = "read"
	kindWrite     = "write"     // what the cluster stores
	kindCheck     = "check"     // dry runs and questions about permissions, which store nothing
	kindWatch     = "watch"     // one that stays open counts once
	kindDiscovery = "discovery" // what the API server serves, and its schemas
	kindTunnel    = "tunnel"    // port-forward, exec
)

// kind says what a request is.
func (r request) kind() string {
	u, err := url.Parse(r.URI)
	if err != nil {
		return kindRead
	}
	query := u.Query()
	switch {
	case query.Get("watch") == "true" || query.Get("watch") == "1":
		return kindWatch
	case isDiscovery(u.Path):
		return kindDiscovery
	case strings.HasSuffix(u.Path, "/portforward"), strings.HasSuffix(u.Path, "/exec"):
		return kindTunnel
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return kindRead
	case query.Has("dryRun"), strings.HasPrefix(u.Path, "/apis/authorization.k8s.io/"):
		return kindCheck
	default:
		return kindWrite
	}
}

// isDiscovery knows /version, /openapi/..., and lists of groups, versions and resources: /api, /api/v1, /apis,
// /apis/GROUP and /apis/GROUP/VERSION.
func isDiscovery(path string) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch parts[0] {
	case "version", "openapi":
		return true
	case "api":
		return len(parts) <= 2
	case "apis":
		return len(parts) <= 3
	default:
		return false
	}
}
