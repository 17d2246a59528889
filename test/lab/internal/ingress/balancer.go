package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// connectTimeout bounds one try to reach a pod: one that doesn't answer at once is gone.
	connectTimeout = 2 * time.Second
	// tries is how many pods a request is offered to. Only one that took no connection is followed by another.
	tries = 3
	// endpointHeader tells NGINX, for its log, which pod answered.
	endpointHeader = "X-Lab-Endpoint"
)

// errNoEndpoints is what a request ends with when no pod is ready for it.
var errNoEndpoints = errors.New("the service has no ready endpoints")

// balancer hands NGINX's requests to pods. NGINX knows an upstream as one socket, so that pods come and go without a
// reload, which would close the connections that its clients keep. (ingress-nginx does the same in Lua.)
type balancer struct {
	dir  string
	log  *slog.Logger
	mu   sync.Mutex
	open map[string]*pool
}

func socketFile(dir, upstream string) string { return filepath.Join(dir, upstream+".sock") }

// set makes the upstreams what they are to be. Those that are gone are closed by prune, after NGINX's reload.
func (b *balancer) set(upstreams []Upstream) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range upstreams {
		p := b.open[u.Name]
		if p == nil {
			var err error
			if p, err = newPool(socketFile(b.dir, u.Name), u.Scheme, b.log); err != nil {
				return err
			}
			b.open[u.Name] = p
		}
		p.endpoints.Store(&u.Endpoints)
	}
	return nil
}

// prune closes the upstreams that are not among those.
func (b *balancer) prune(upstreams []Upstream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, p := range b.open {
		if !slices.ContainsFunc(upstreams, func(u Upstream) bool { return u.Name == name }) {
			p.close()
			delete(b.open, name)
		}
	}
}

// pool is an upstream: a socket for NGINX and the pods behind it.
type pool struct {
	endpoints atomic.Pointer[[]string]
	next      atomic.Uint64
	transport *http.Transport
	server    *http.Server
}

func newPool(socket, scheme string, log *slog.Logger) (*pool, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	p := &pool{transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		// Pods serve certificates that nobody signed; NGINX by default doesn't look at them either.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { rewrite(r, scheme) },
		Transport:     p,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { refuse(w, r, err, log) },
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	p.server = &http.Server{Handler: proxy, ReadHeaderTimeout: time.Minute}
	go func() {
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("serve an upstream", "socket", socket, "error", err)
		}
	}()
	return p, nil
}

// close takes nothing new on and lets what it has end.
func (p *pool) close() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if p.server.Shutdown(ctx) != nil {
			p.server.Close()
		}
		p.transport.CloseIdleConnections()
	}()
}

// rewrite passes on what NGINX made of the request. The proxy drops these headers from untrusted clients; here NGINX
// is the client and has set them.
func rewrite(r *httputil.ProxyRequest, scheme string) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = scheme, "endpoint", r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		r.Out.Header[name] = r.In.Header[name]
	}
}

// RoundTrip offers the request to the pods in turn until one takes it.
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	endpoints := *p.endpoints.Load()
	err := errNoEndpoints
	for range min(tries, len(endpoints)) {
		endpoint := endpoints[p.next.Add(1)%uint64(len(endpoints))]
		try := r.Clone(r.Context())
		try.URL.Host = endpoint
		if r.Body != nil {
			// A transport closes the body when it fails; the next try needs it. The proxy closes it in the end.
			try.Body = io.NopCloser(r.Body)
		}
		var response *http.Response
		if response, err = p.transport.RoundTrip(try); err == nil {
			response.Header.Set(endpointHeader, endpoint)
			return response, nil
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			break
		}
	}
	return nil, err
}

func refuse(w http.ResponseWriter, r *http.Request, err error, log *slog.Logger) {
	status := http.StatusBadGateway
	var slow net.Error
	switch {
	case errors.Is(err, errNoEndpoints):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		status = 499 // as NGINX calls a client that went away
	case errors.As(err, &slow) && slow.Timeout():
		status = http.StatusGatewayTimeout
	}
	log.Warn("request failed", "host", r.Host, "path", r.URL.Path, "status", status, "error", err)
	w.WriteHeader(status)
}
