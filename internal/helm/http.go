package helm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/pwdeploy/pwdeploy/internal/retry"
)

const userAgent = "pwdeploy"

// StatusError says that a server answered, and not with what was asked for.
type StatusError struct {
	Host string
	Code int // of HTTP
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.Host, e.Code, http.StatusText(e.Code))
}

// Hint says what to do.
func (e *StatusError) Hint() string {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("check the reference; if the chart is private, log in: helm registry login %s", e.Host)
	case http.StatusNotFound:
		return "there is no such chart or version there: check the reference and the version"
	case http.StatusTooManyRequests:
		return fmt.Sprintf("%s limits anonymous downloads: wait, log in (helm registry login %s), or use a copy of the chart", e.Host, e.Host)
	default:
		return "the server has a problem: try again later, or use a copy of the chart"
	}
}

// newTransport is Go's default one (proxies from the environment, the system's certificates) that gives
// up on a silent server.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyFromEnvironment
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = 30 * time.Second
	return t
}

// client sends requests with retries and follows redirects, but never away from https.
func (s *Store) client() *http.Client {
	return &http.Client{
		Transport: &retryTransport{next: s.transport, policy: s.retry},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Scheme != "https" {
				return fmt.Errorf("%s redirects to %s without encryption", via[0].URL.Host, req.URL.Host)
			}
			if len(via) >= 10 {
				return fmt.Errorf("%s redirects for ever", via[0].URL.Host)
			}
			return nil
		},
	}
}

// request is a GET of at most limit bytes.
type request struct {
	url, accept string
	limit       int64
}

// get fetches a file. The transport retries what fails before an answer comes; a body that breaks off is
// fetched again here.
func (s *Store) get(ctx context.Context, client doer, r request) ([]byte, error) {
	for attempt := 0; ; attempt++ {
		data, err := s.getOnce(ctx, client, r)
		var broken *brokenBodyError
		if err == nil || !errors.As(err, &broken) || ctx.Err() != nil {
			return data, withoutURL(err)
		}
		wait, again := s.retry.wait(attempt, nil)
		if !again {
			return nil, err
		}
		s.log.DebugContext(ctx, "a download broke off", "error", err, "attempt", attempt+1)
		if err := retry.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// brokenBodyError says that an answer broke off.
type brokenBodyError struct{ err error }

func (e *brokenBodyError) Error() string { return fmt.Sprintf("the download broke off: %v", e.err) }
func (e *brokenBodyError) Unwrap() error { return e.err }

func (s *Store) getOnce(ctx context.Context, client doer, r request) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("User-Agent", userAgent)
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{Host: req.URL.Host, Code: resp.StatusCode}
	}
	body := newStallReader(resp.Body, s.stall, cancel)
	defer body.timer.Stop()
	data, err := readAll(body, r.limit)
	if body.failed {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &brokenBodyError{err}
	}
	return data, err
}

// stallReader cancels a download of which nothing has arrived for a while, and tells a body that broke
// off from one that is too large.
type stallReader struct {
	body   io.Reader
	after  time.Duration
	timer  *time.Timer
	failed bool
}

func newStallReader(body io.Reader, after time.Duration, cancel context.CancelCauseFunc) *stallReader {
	stalled := func() { cancel(fmt.Errorf("nothing arrived for %s", after)) }
	return &stallReader{body: body, after: after, timer: time.AfterFunc(after, stalled)}
}

func (r *stallReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.timer.Reset(r.after)
	if err != nil && err != io.EOF {
		r.failed = true
	}
	return n, err
}

// withoutURL takes the URL out of an error: after a redirect it may hold a signature.
func withoutURL(err error) error {
	var (
		answer *errcode.ErrorResponse
		client *url.Error
	)
	switch {
	case errors.As(err, &answer):
		return &StatusError{Host: answer.URL.Host, Code: answer.StatusCode}
	case errors.As(err, &client):
		return hostError(client)
	default:
		return err
	}
}

func hostError(e *url.Error) error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Host == "" {
		return e.Err
	}
	return fmt.Errorf("%s: %w", u.Host, e.Err)
}

// networkAdvice says what to do about a server that could not be reached, or "".
func networkAdvice(err error) string {
	var (
		name      *net.DNSError
		netErr    net.Error
		authority x509.UnknownAuthorityError
		cert      *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &authority), errors.As(err, &cert):
		return "the server's certificate is not trusted: name the authority's file in SSL_CERT_FILE, or check the proxy"
	case errors.As(err, &name), errors.As(err, &netErr):
		return "check the network and HTTPS_PROXY, or use a copy of the chart: its path can stand for the reference"
	default:
		return ""
	}
}
