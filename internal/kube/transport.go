package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/internal/retry"
)

// How long a request is sent again, from its first failure on. What is sent again at all is safe to repeat: see
// repeatable. An API server that is away, or asks by 429 to be left alone, is waited for as long as the command lasts.
const (
	retryFirst   = 100 * time.Millisecond
	retryLongest = 2 * time.Second

	// connectPatience bounds it for a cluster that has not answered yet. One where nothing listens is not tried twice.
	connectPatience = 3 * time.Second
	// unavailablePatience is for 502, 503 and 504: a load balancer with no API server behind it, or an API that is served
	// by an extension that is down for good.
	unavailablePatience = 15 * time.Second
	// internalPatience is for 500, which is also how an admission webhook that does not work looks: that has to be told soon.
	internalPatience = time.Second
)

// persistentTransport sends requests to the API server again that failed in a way that may pass by itself: Helm's, the
// watches' and all others go through it. An answer is read to its end here, so that one that breaks off counts as none.
type persistentTransport struct {
	next http.RoundTripper
	link *link
}

// RoundTrip implements http.RoundTripper.
func (t *persistentTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Upgrade") != "" { // port-forward
		return t.next.RoundTrip(req)
	}
	var begin, since time.Time // of all that failed, and of failures like the last one without another between
	var before *failure
	maybeDone := false // an earlier attempt may have been carried out
	for attempt := 0; ; attempt++ {
		resp, err := t.once(req)
		f := failureOf(resp, err)
		if f == nil && err != nil {
			return nil, err
		}
		if f == nil {
			t.link.answered(attempt)
			return t.settle(req, resp, maybeDone)
		}
		now := time.Now()
		if before == nil {
			begin = now
		}
		if before == nil || f.kind() != before.kind() {
			since = now
		}
		before = f
		maybeDone = maybeDone || f.maybeDone
		next, rewindErr := retry.Rewind(req)
		if rewindErr != nil || maybeDone && !repeatable(req) || now.Sub(since) > t.link.patience(f) {
			return resp, f.final(time.Since(begin), attempt)
		}
		t.link.trouble(f, time.Since(begin))
		retry.Discard(resp)
		wait, asked := retry.After(resp)
		if !asked {
			wait = retry.Pause(retryFirst, retryLongest, attempt)
		}
		if err := t.link.sleep(req.Context(), wait); err != nil {
			return nil, &AwayError{For: time.Since(begin), Err: f.cause(), stopped: err}
		}
		req = next
	}
}

// once sends a request, reads the answer, and tells if that takes long.
func (t *persistentTransport) once(req *http.Request) (*http.Response, error) {
	if streams(req) {
		return t.next.RoundTrip(req)
	}
	timer := time.AfterFunc(slowAfter, func() { t.link.slow(req) })
	defer timer.Stop()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// streams tells requests whose answer has no end that could be waited for.
func streams(req *http.Request) bool {
	q := req.URL.Query()
	return q.Get("watch") == "true" || q.Get("watch") == "1" || q.Get("follow") == "true"
}

// failure is why a request may be sent again.
type failure struct {
	err       error // of the connection; nil if the server answered
	code      int   // of the answer
	absent    bool  // nothing was there to connect to
	maybeDone bool  // the server may have carried the request out
}

// kind groups failures that are waited out alike, each for its own time: an error of a moment is not given up for what
// came before it.
func (f *failure) kind() int {
	if f.err == nil && f.code > http.StatusInternalServerError {
		return http.StatusServiceUnavailable
	}
	return f.code
}

// failureOf says in which way a request failed that may succeed later, or nil.
func failureOf(resp *http.Response, err error) *failure {
	if err != nil {
		if permanent(err) {
			return nil
		}
		return &failure{err: err, absent: absent(err), maybeDone: !absent(err)}
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests: // priority and fairness turns requests away before anything is done
		return &failure{code: resp.StatusCode}
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &failure{code: resp.StatusCode, maybeDone: true}
	}
	return nil
}

// permanent tells failures that trying again does not mend: the caller gave up, the server is not to be trusted, or the
// lock is lost, without which nothing may be written.
func permanent(err error) bool {
	var (
		cert     *tls.CertificateVerificationError
		notTLS   tls.RecordHeaderError
		badAlert tls.AlertError
		lost     *LockLostError
	)
	return errors.As(err, &lost) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &cert) || errors.As(err, &notTLS) || errors.As(err, &badAlert)
}

// absent tells that no connection came about, so that nothing was sent.
func absent(err error) bool {
	var (
		op   *net.OpError
		name *net.DNSError
	)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &name) || errors.As(err, &op) && op.Op == "dial"
}

func (f *failure) cause() error {
	if f.err != nil {
		return f.err
	}
	return fmt.Errorf("it answers %d %s", f.code, http.StatusText(f.code))
}

// final is what the caller gets besides the answer, when no more is tried: what lasted is said with how long.
func (f *failure) final(lasted time.Duration, attempts int) error {
	if f.err == nil || attempts == 0 {
		return f.err
	}
	return &AwayError{For: lasted, Err: f.err}
}

// repeatable tells requests that may be sent again when nobody knows whether the server carried them out. A DELETE of
// what is gone and a POST of what is there are brought to a good end by settle.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	case http.MethodPatch:
		switch types.PatchType(req.Header.Get("Content-Type")) {
		case types.ApplyPatchType, types.MergePatchType, types.StrategicMergePatchType: // they set values; a JSON patch may add
			return true
		}
	case http.MethodPost:
		return strings.HasSuffix(req.URL.Path, "reviews") || sentObject(req).Metadata.Name != "" // a review stores nothing
	}
	return false
}

// settle reads the answer to a request of which an earlier attempt may have been carried out.
func (t *persistentTransport) settle(req *http.Request, resp *http.Response, maybeDone bool) (*http.Response, error) {
	switch {
	case resp == nil || !maybeDone:
		return resp, nil
	case req.Method == http.MethodDelete && resp.StatusCode == http.StatusNotFound:
		return substitute(req, resp, http.StatusOK, []byte(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}`)), nil
	case req.Method == http.MethodPost && resp.StatusCode == http.StatusConflict:
		if made := t.findOurs(req); made != nil {
			return substitute(req, resp, http.StatusCreated, made), nil
		}
	}
	return resp, nil
}

// substitute puts a better answer in the place of resp.
func substitute(req *http.Request, resp *http.Response, code int, body []byte) *http.Response {
	header := resp.Header.Clone()
	header.Set("Content-Type", "application/json")
	header.Del("Content-Length")
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: header, Request: req, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
}

// identity is what of an object says whose it is.
type identity struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// sentObject reads the object that a request makes; it has no name if that can't be read.
func sentObject(req *http.Request) identity {
	var o identity
	if req.GetBody == nil {
		return o
	}
	body, err := req.GetBody()
	if err != nil {
		return o
	}
	defer body.Close()
	if json.NewDecoder(body).Decode(&o) != nil {
		return identity{}
	}
	return o
}

// findOurs gives the object that is there already if it is the one that req wanted to make: it has all labels and
// annotations. A Lease is never taken for ours: whose it is stands in its spec.
func (t *persistentTransport) findOurs(req *http.Request) []byte {
	sent := sentObject(req)
	if sent.Kind == LeaseKind.Kind || len(sent.Metadata.Labels) == 0 {
		return nil
	}
	get := req.Clone(req.Context())
	get.Method, get.Body, get.GetBody, get.ContentLength = http.MethodGet, nil, nil, 0
	get.URL.Path, get.URL.RawQuery = path.Join(req.URL.Path, sent.Metadata.Name), ""
	get.Header.Del("Content-Type")
	get.Header.Set("Accept", "application/json")
	resp, err := t.RoundTrip(get)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var there identity
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &there) != nil ||
		!contains(there.Metadata.Labels, sent.Metadata.Labels) || !contains(there.Metadata.Annotations, sent.Metadata.Annotations) {
		return nil
	}
	return body
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}
