package helm

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// retryPolicy says how often and how soon a request is sent again.
type retryPolicy struct {
	attempts int           // retries, the first request not counted
	first    time.Duration // before the first retry; doubled for each further one
	longest  time.Duration // a server that asks for more with Retry-After is given up on
	total    time.Duration // no retry begins later than this after the first request
}

var defaultRetry = retryPolicy{attempts: 4, first: 250 * time.Millisecond, longest: 30 * time.Second, total: time.Minute}

// wait gives the pause before retry number attempt, counted from 0, and whether there is one. resp may
// be nil. The pause varies by a quarter, so that many clients don't come back at once.
func (p retryPolicy) wait(attempt int, resp *http.Response) (time.Duration, bool) {
	if attempt >= p.attempts {
		return 0, false
	}
	if asked, ok := retryAfter(resp); ok {
		return asked, asked <= p.longest
	}
	pause := p.first << attempt
	return pause*3/4 + rand.N(pause/2+1), true
}

// retryAfter reads the header, which holds seconds or a date (RFC 9110, 10.2.3).
func retryAfter(resp *http.Response) (time.Duration, bool) {
	if resp == nil {
		return 0, false
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date)), true
	}
	return 0, false
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
		next, rewindErr := rewind(req)
		if !again || rewindErr != nil {
			return resp, err
		}
		discard(resp)
		if err := sleep(req.Context(), wait); err != nil {
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

// rewind gives a request that can be sent again, or an error if its body is gone.
func rewind(req *http.Request) (*http.Request, error) {
	next := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return next, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("the body can't be sent again")
	}
	body, err := req.GetBody()
	next.Body = body
	return next, err
}

// discard empties an answer so that its connection can be used again.
func discard(resp *http.Response) {
	if resp == nil {
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// sleep waits, or gives the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
