package kube

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// tellAfter is how long a trouble lasts before it is told: a connection that broke is no news.
	tellAfter = time.Second
	// slowAfter is how long a request goes without an answer before that is told.
	slowAfter = 3 * time.Second
)

// errStopped ends the waiting for an API server when the command is over.
var errStopped = errors.New("the command ends")

// link is the way to the API server as all requests see it. It tells of a trouble that lasts, and when it is over.
type link struct {
	host string
	tell func(message string)
	over <-chan struct{} // closed when the command is over; nil: never
	most time.Duration   // how long an API server that is away is waited for

	mu        sync.Mutex
	connected bool      // it has answered before
	away      time.Time // since when, if that was told; else zero
	throttles bool      // that was told
	isSlow    bool      // that was told
}

func newLink(o Options, host string) *link {
	l := &link{host: host, tell: o.Tell, over: o.Over, most: o.Patience}
	if l.most == 0 {
		l.most = math.MaxInt64
	}
	if l.tell == nil {
		l.tell = func(string) {}
	}
	return l
}

// patience is how long after its first failure a request is still sent again.
func (l *link) patience(f *failure) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case f.code == http.StatusInternalServerError:
		return internalPatience
	case !l.connected && f.absent:
		return -1
	case !l.connected:
		return connectPatience
	case f.err != nil, f.code == http.StatusTooManyRequests:
		return l.most
	}
	return unavailablePatience
}

func (l *link) connect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connected = true
}

// trouble notes a failed attempt of a request that has failed for a while.
func (l *link) trouble(f *failure, lasts time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case lasts < tellAfter || !l.connected:
	case f.code == http.StatusTooManyRequests:
		if !l.throttles {
			l.throttles = true
			l.tell("the API server throttles requests (429 Too Many Requests): they are sent again when it says so")
		}
	case l.away.IsZero():
		l.away = time.Now().Add(-lasts)
		l.tell(fmt.Sprintf("the API server at %s is away (%s): trying again until it is back", l.host, inWords(f.cause())))
	}
}

// answered notes that a request was answered after so many failed attempts.
func (l *link) answered(attempts int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if attempts > 0 && !l.away.IsZero() {
		l.tell(fmt.Sprintf("the API server answers again, after %.0f s", time.Since(l.away).Seconds()))
		l.away = time.Time{}
	}
}

// slow notes that a request is without an answer.
func (l *link) slow(req *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isSlow {
		l.isSlow = true
		l.tell(fmt.Sprintf("the API server is slow: %s %s is without an answer for %.0f s; it, its etcd, or a webhook that it asks may be overloaded",
			req.Method, req.URL.Path, slowAfter.Seconds()))
	}
}

// sleep waits, or gives the reason why there is no more to wait for.
func (l *link) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.over:
		return errStopped
	}
}

// AwayError says that the API server was there and is not any more, and did not come back in time.
type AwayError struct {
	For     time.Duration // since the first request that failed
	Err     error
	stopped error // why it was not waited for any longer
}

func (e *AwayError) Error() string {
	return fmt.Sprintf("the API server has been away for %.0f s: %s", e.For.Seconds(), inWords(e.Err))
}

// Unwrap gives what the last request met.
func (e *AwayError) Unwrap() error { return e.Err }

// Is finds the end of the context, too, by which the waiting ended.
func (e *AwayError) Is(target error) bool { return e.stopped != nil && errors.Is(e.stopped, target) }

// Hint says what to do.
func (e *AwayError) Hint() string {
	return "check the network and the cluster (kubectl get --raw /readyz), then run the same command again: it goes on where this one stopped"
}

// inWords is a network error as people say it.
func inWords(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	}
	return withoutURL(err).Error()
}
