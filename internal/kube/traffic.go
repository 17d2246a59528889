package kube

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// writeGrace is how long a write that is under way may still take when its context has ended: a request that
// is cut off leaves it open whether the server acted.
const writeGrace = 5 * time.Second

// traffic is what all of a Client's requests pass, Helm's too. It lets writes through only while the lock,
// where one is held, is known to be held; it counts them; and it brings one that was begun to its end.
type traffic struct {
	writes atomic.Int64

	mu   sync.Mutex
	lock *Lock
}

// Wrote reports whether a request was sent that may have changed something in the cluster: not one that only
// asks, a dry run say, and none for the lock itself.
func (c *Client) Wrote() bool { return c.traffic.writes.Load() > 0 }

// guard makes writes depend on a lock, or on none.
func (t *traffic) guard(l *Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lock = l
}

func (t *traffic) wrap(next http.RoundTripper) http.RoundTripper { return &guarded{t, next} }

type guarded struct {
	*traffic
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if !writes(req) {
		return g.next.RoundTrip(req)
	}
	g.mu.Lock()
	lock := g.lock
	g.mu.Unlock()
	if lock != nil {
		if err := lock.pass(ctx); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	g.writes.Add(1)
	lasting, release := outlasting(ctx, writeGrace)
	resp, err := g.next.RoundTrip(req.WithContext(lasting))
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &releasedBody{resp.Body, release}
	return resp, nil
}

// writes reports whether a request may change something. What asks by a POST does not: reviews of what one
// may do, a port-forward.
func writes(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	path := req.URL.Path
	return req.Context().Value(outsideKey{}) == nil && req.URL.Query().Get("dryRun") == "" &&
		!strings.HasPrefix(path, "/apis/authorization.k8s.io/") && !strings.HasPrefix(path, "/apis/authentication.k8s.io/") &&
		!strings.HasSuffix(path, "/portforward")
}

type outsideKey struct{}

// outsideOfLock marks the requests for the lock itself.
func outsideOfLock(ctx context.Context) context.Context {
	return context.WithValue(ctx, outsideKey{}, true)
}

// outlasting gives a context that ends a while after ctx does.
func outlasting(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(lasting, func() { timer.Stop() })
	})
	return lasting, func() { stop(); cancel() }
}

// releasedBody lets go of a request's context when its answer was read.
type releasedBody struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (b *releasedBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
