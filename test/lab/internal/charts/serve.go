package charts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
)

// headerTimeout bounds how long a client may take to ask.
const headerTimeout = 10 * time.Second

// Hosts are the hosts that the proxy answers for.
func Hosts() []string { return []string{RedisHost, IngressHost, IngressIndexHost} }

// Server is a CONNECT proxy that answers for the charts' hosts by itself, with certificates of the lab's authority,
// and refuses every other host.
type Server struct {
	// Dir holds the staged charts.
	Dir string
	CA  *certs.Authority
	Log *slog.Logger
}

// Serve answers on the listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	config, err := s.tlsConfig()
	if err != nil {
		return err
	}
	inner := newPipe(listener.Addr())
	sites := &http.Server{Handler: s.sites(), ReadHeaderTimeout: headerTimeout}
	proxy := &http.Server{Handler: s.connect(config, inner), ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() {
		s.Log.Info("stop", "error", errors.Join(proxy.Close(), sites.Close()))
	})
	defer stop()
	failed := make(chan error, 2)
	go func() { failed <- sites.Serve(inner) }()
	go func() { failed <- proxy.Serve(listener) }()
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) tlsConfig() (*tls.Config, error) {
	pair, err := s.CA.Issue(certs.Request{CommonName: "lab charts", Hosts: Hosts(), Lifetime: 90 * 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("read the charts' certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// connect takes over a connection that a client wants to one of the hosts, and hands it to the sites.
func (s *Server) connect(config *tls.Config, inner *pipe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || port != "443" || !slices.Contains(Hosts(), host) {
			s.Log.Warn("refused", "method", r.Method, "host", r.Host)
			http.Error(w, fmt.Sprintf("the lab has no way to %s: it answers for %s only", r.Host, strings.Join(Hosts(), ", ")), http.StatusForbidden)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
			conn.Close()
			return
		}
		inner.offer(tls.Server(conn, config))
	})
}

// sites is the hosts' content.
func (s *Server) sites() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(RedisHost+"/", registry(RedisRepository, func() (Archive, error) { return Load(s.Dir, RedisName) }))
	mux.HandleFunc("GET "+IngressHost+IngressPath, func(w http.ResponseWriter, _ *http.Request) {
		a, err := Load(s.Dir, IngressName)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		write(w, a.Bytes)
	})
	mux.HandleFunc("GET "+IngressIndexHost+IngressIndexPath, s.serveIndex)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Log.Info("request", "method", r.Method, "host", r.Host, "path", r.URL.Path)
		mux.ServeHTTP(w, r)
	})
}

// serveIndex is the ingress chart's repository index with its one version.
func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	a, err := Load(s.Dir, IngressName)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text, err := index(a)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/yaml")
	write(w, text)
}

func index(a Archive) ([]byte, error) {
	entry := map[string]any{}
	if err := yaml.Unmarshal(a.Metadata, &entry); err != nil {
		return nil, err
	}
	entry["digest"] = strings.TrimPrefix(a.Digest(), "sha256:")
	entry["urls"] = []string{"https://" + IngressHost + IngressPath}
	return yaml.Marshal(map[string]any{"apiVersion": "v1", "entries": map[string]any{a.Name: []any{entry}}})
}

// write sends a body; a client that has gone is its own affair.
func write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	if _, err := w.Write(body); err != nil {
		return
	}
}

// pipe is a listener whose connections are handed to it.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	addr   net.Addr
}

func newPipe(addr net.Addr) *pipe {
	return &pipe{conns: make(chan net.Conn), closed: make(chan struct{}), addr: addr}
}

func (p *pipe) offer(c net.Conn) {
	select {
	case p.conns <- c:
	case <-p.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr implements net.Listener.
func (p *pipe) Addr() net.Addr { return p.addr }
