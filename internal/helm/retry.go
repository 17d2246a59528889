package helm

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/retry"
)

// retryPolicy says how often and how soon a request is sent again.
type retryPolicy struct {
	attempts int           // retries, the first request not counted
	first    time.Duration // before the first retry; doubled for each further one
	longest  time.Duration // a server that asks for more with Retry-After is given up on
	total    time.Duration // no retry begins later than this after the first request
}

var defaultRetry = retryPolicy{attempts: 3, first: 250 * time.Millisecond, longest: 30 * time.Second, total: time.Minute}

// wait gives the pause before retry number attempt, counted from 0, and whether there is one. resp may
// be nil.
func (p retryPolicy) wait(attempt int, resp *http.Response) (time.Duration, bool) {
	if attempt >= p.attempts {
		return 0, false
	}
	if asked, ok := retry.After(resp); ok {
		return asked, asked <= p.longest
	}
	return retry.Pause(p.first, p.longest, attempt), true
}

// retryTransport sends requests again that failed in a way that may pass: refused and broken
// connections, 429, and the 5xx that don't say the server lacks something.
type retryTransport struct {
	next   http.RoundTripper
	policy retryPolicy
}

// RoundTrip implements http.RoundTripper.
func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	start := time.Now()
	for attempt := 0; ; attempt++ {
		resp, err := t.next.RoundTrip(req)
		if !passing(resp, err) || time.Since(start) > t.policy.total {
			return resp, err
		}
		wait, again := t.policy.wait(attempt, resp)
		next, rewindErr := retry.Rewind(req)
		if !again || rewindErr != nil {
			return resp, err
		}
		retry.Discard(resp)
		if err := retry.Sleep(req.Context(), wait); err != nil {
			return nil, err
		}
		req = next
	}
}

// passing reports whether a failure may pass by itself.
func passing(resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout ||
			resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
	}
	var (
		cert *tls.CertificateVerificationError
		name *net.DNSError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, &cert):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	default:
		return true
	}
}
