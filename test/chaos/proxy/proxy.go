// Package proxy stands between a client and an API server, counts the requests, and does something bad to the n-th.
package proxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Proxy passes requests on to one API server, watches as they come and upgrades (port-forward) too. It listens on
// loopback, speaks HTTP/1.1, and lets in only who has its kubeconfig.
type Proxy struct {
	url       string
	ca        []byte
	target    *url.URL
	transport http.RoundTripper
	forward   *httputil.ReverseProxy

	mu       sync.Mutex
	token    string // of the session; empty between sessions
	session  Session
	requests []Request
	watches  map[int]context.CancelFunc // that are open, by the number of the request
	away     time.Time                  // until then
	underWay sync.WaitGroup
}

// Session is one run of a client.
type Session struct {
	Plan      Plan
	Pick      func(Request) Kind // instead of Plan: by what a request is; may be nil
	Latency   time.Duration      // before each request is passed on
	Delay     time.Duration      // of a request that is delayed
	Away      time.Duration      // of the API server, when it is away
	Kill      func()             // returns when the client is dead; needed by plans that kill
	Interrupt func()             // sends the client a signal; needed by plans that interrupt
}

// Request is one that came.
type Request struct {
	Method string
	URI    string
	Agent  string
	Fault  Kind
	Code   int // of the answer that was passed on; 0 if none was
}

// Writes reports whether it changes what the cluster stores: it is no read, no dry run, no question about permissions
// and no tunnel.
func (r Request) Writes() bool {
	u, err := url.Parse(r.URI)
	if err != nil || r.Method == http.MethodGet || r.Method == http.MethodHead || u.Query().Has("dryRun") {
		return false
	}
	return !strings.HasPrefix(u.Path, "/apis/authorization.k8s.io/") && !strings.HasSuffix(u.Path, "/portforward")
}

// Start starts one in front of the API server of config, until ctx ends.
func Start(ctx context.Context, config *rest.Config) (*Proxy, error) {
	p := &Proxy{watches: map[int]context.CancelFunc{}}
	if err := p.forwardTo(config); err != nil {
		return nil, err
	}
	server := httptest.NewUnstartedServer(p) // without HTTP/2: there a connection can't be dropped for one request only
	server.Config.ReadHeaderTimeout = 30 * time.Second
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that went away in the middle
	server.StartTLS()
	context.AfterFunc(ctx, func() { server.Config.Close() })
	p.url, p.ca = server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return p, nil
}

func (p *Proxy) forwardTo(config *rest.Config) error {
	var err error
	if p.target, _, err = rest.DefaultServerUrlFor(config); err != nil {
		return err
	}
	config = rest.CopyConfig(config)
	config.DisableCompression = true // bodies go through as they are
	config.NextProtos = []string{"http/1.1"}
	if p.transport, err = rest.TransportFor(config); err != nil {
		return err
	}
	p.forward = &httputil.ReverseProxy{
		Transport: p.transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: p.rewrite,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { drop() },
	}
	return nil
}

func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(p.target)
	r.Out.Header.Del("Authorization") // the proxy's own; the transport adds the cluster's
}

// Begin starts a session: requests are counted from 1 again. It writes a kubeconfig that is good for this session
// only, so that nothing which a killed client had still under way is taken for the next one's.
func (p *Proxy) Begin(s Session, kubeconfig string) error {
	p.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session, p.requests, p.away, p.token = s, nil, time.Time{}, rand.Text()
	const name = "chaos"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: p.url, CertificateAuthorityData: p.ca}
	config.AuthInfos[name] = &api.AuthInfo{Token: p.token}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, kubeconfig)
}

// End ends the session of a client that is gone, waits for what is under way, and gives the requests in the order in
// which they came.
func (p *Proxy) End() []Request {
	p.mu.Lock()
	p.token = ""
	p.mu.Unlock()
	p.cut()
	p.underWay.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, kind, session, ok := p.arrived(r)
	if !ok {
		http.Error(w, "not for you", http.StatusUnauthorized)
		return
	}
	defer p.underWay.Done()
	pause(r.Context(), session.Latency)
	answer := &answer{ResponseWriter: w, note: func(code int) { p.answered(n, code) }}
	switch kind {
	case KillBefore:
		session.Kill()
		drop()
	case KillAfter:
		p.swallow(r)
		session.Kill()
		drop()
	case DropBefore:
		drop()
	case DropAfter:
		p.swallow(r)
		drop()
	case Away:
		p.cut()
		drop()
	case TooMany:
		w.Header().Set("Retry-After", "1")
		fail(answer, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	case Internal:
		fail(answer, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case Conflict:
		fail(answer, http.StatusConflict, metav1.StatusReasonConflict)
	case Garbage:
		answer.Header().Set("Content-Type", "text/html")
		answer.WriteHeader(http.StatusOK)
		fmt.Fprint(answer, "<html><body>Welcome to the hotel's network</body></html>")
	case Interrupt:
		session.Interrupt()
		p.pass(answer, r, n, false)
	case Delay:
		pause(r.Context(), session.Delay)
		p.pass(answer, r, n, false)
	case Cut:
		p.cut()
		p.pass(answer, r, n, true)
	case None:
		p.pass(answer, r, n, false)
	}
}

// arrived notes a request of the session's client and says what happens to it.
func (p *Proxy) arrived(r *http.Request) (n int, kind Kind, session Session, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+p.token)) != 1 {
		return 0, None, Session{}, false
	}
	p.underWay.Add(1)
	n = len(p.requests) + 1
	request := Request{Method: r.Method, URI: r.URL.RequestURI(), Agent: r.UserAgent()}
	if p.session.Pick != nil {
		kind = p.session.Pick(request)
	} else {
		kind = p.session.Plan(n)
	}
	switch now := time.Now(); {
	case kind == Away:
		p.away = now.Add(p.session.Away)
	case now.Before(p.away):
		kind = Away
	}
	request.Fault = kind
	p.requests = append(p.requests, request)
	return n, kind, p.session, true
}

func (p *Proxy) answered(n, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests[n-1].Code = code
}

// pass passes a request on, and the answer back. A watch can be cut from then on, or at once, when something has come.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request, n int, atOnce bool) {
	if !isStream(r) {
		p.forward.ServeHTTP(w, r)
		return
	}
	ctx, cut := context.WithCancel(r.Context())
	p.mu.Lock()
	p.watches[n] = cut
	p.mu.Unlock()
	defer func() {
		cut()
		p.mu.Lock()
		delete(p.watches, n)
		p.mu.Unlock()
	}()
	if atOnce {
		w = &answerOnce{ResponseWriter: w, cut: cut}
	}
	p.forward.ServeHTTP(w, r.WithContext(ctx))
	if ctx.Err() != nil {
		drop()
	}
}

// cut ends all watches in the middle.
func (p *Proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cut := range p.watches {
		cut()
	}
}

// swallow lets the API server act and keeps its answer.
func (p *Proxy) swallow(r *http.Request) {
	out := r.Clone(context.WithoutCancel(r.Context()))
	out.RequestURI = ""
	p.rewrite(&httputil.ProxyRequest{In: r, Out: out})
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		return // the client learns nothing in any case
	}
	defer resp.Body.Close()
	if !isStream(r) {
		_, _ = io.Copy(io.Discard, resp.Body) // until the server has said all
	}
}

// drop closes the connection without an answer, or in the middle of one.
func drop() { panic(http.ErrAbortHandler) }

// fail answers as an API server does.
func fail(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: "made by the chaos proxy",
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status) // a client that is gone needs none
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// isStream tells requests whose answer has no end: watches, and connections that become something else.
func isStream(r *http.Request) bool {
	watch := r.URL.Query().Get("watch")
	return watch == "true" || watch == "1" || r.Header.Get("Upgrade") != ""
}

// answer notes the status that is written to it.
type answer struct {
	http.ResponseWriter
	note func(code int)
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	a.note(code)
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController flush and hijack.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// answerOnce takes one piece and cuts the rest.
type answerOnce struct {
	http.ResponseWriter
	cut func()
}

// Write implements http.ResponseWriter.
func (a *answerOnce) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	flushErr := http.NewResponseController(a.ResponseWriter).Flush()
	a.cut()
	if err == nil {
		err = flushErr
	}
	return n, err
}

// Unwrap lets http.ResponseController flush and hijack.
func (a *answerOnce) Unwrap() http.ResponseWriter { return a.ResponseWriter }
