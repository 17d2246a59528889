package kube

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// serverTransport plays an API server: answers come in their order, the last one again and again.
type serverTransport struct {
	answers  []any // an error, or a status code, or a body with code 200
	requests []string
}

func (s *serverTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	s.requests = append(s.requests, req.Method+" "+req.URL.Path)
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}
	switch a := a.(type) {
	case error:
		return nil, a
	case int:
		resp.StatusCode = a
	case string:
		resp.Body = io.NopCloser(strings.NewReader(a))
	case io.Reader:
		resp.Body = io.NopCloser(a)
	}
	return resp, nil
}

// breakingBody ends in the middle.
type breakingBody struct{}

func (breakingBody) Read(p []byte) (int, error) { return copy(p, "{"), io.ErrUnexpectedEOF }

const (
	configMapSent  = `{"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"pwdeploy/instance": "x"}}}`
	configMapOther = `{"kind": "ConfigMap", "metadata": {"name": "a", "labels": {"pwdeploy/instance": "y"}}}`
	leaseSent      = `{"kind": "Lease", "metadata": {"name": "a", "labels": {"pwdeploy/instance": "x"}}}`
)

// TestPersistenceEachKind: an internal error is tried again for a second of its own, whatever else there was before.
func TestPersistenceEachKind(t *testing.T) {
	for name, test := range map[string]struct {
		answers []any
		code    int
	}{
		"after a while of throttling":   {[]any{429, 429, 429, 429, 429, 429, 500, 200}, 200},
		"after a while of unavailable":  {[]any{503, 502, 504, 503, 503, 503, 500, 200}, 200},
		"throttled after some of them":  {[]any{500, 500, 429, 429, 429, 429, 500, 200}, 200},
		"nothing but them for a second": {[]any{500}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLink(Options{}, "")
				l.connect()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x/version", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				resp, err := (&persistentTransport{&serverTransport{answers: test.answers}, l}).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != test.code {
					t.Errorf("got %d after %s", resp.StatusCode, time.Since(begin))
				}
				if test.code == 500 && time.Since(begin) > 3*time.Second {
					t.Errorf("it took %s to tell", time.Since(begin))
				}
			})
		})
	}
}

// TestPersistence: what is safe to repeat is repeated, and nothing else.
func TestPersistence(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for name, test := range map[string]struct {
		method, contentType, body string
		answers                   []any
		code                      int   // of the answer; 0: an error
		err                       error // that the error is
		sent                      int   // requests
	}{
		"answered":                     {answers: []any{200}, code: 200, sent: 1},
		"refused for a while":          {answers: []any{refused, refused, 200}, code: 200, sent: 3},
		"reset":                        {answers: []any{syscall.ECONNRESET, 200}, code: 200, sent: 2},
		"broken off in the middle":     {answers: []any{breakingBody{}, "{}"}, code: 200, sent: 2},
		"throttled":                    {method: "POST", body: `{}`, answers: []any{429, 429, 201}, code: 201, sent: 3},
		"unavailable":                  {answers: []any{503, 502, 504, 200}, code: 200, sent: 4},
		"an internal error":            {answers: []any{500, 200}, code: 200, sent: 2},
		"forbidden":                    {answers: []any{403}, code: 403, sent: 1},
		"cancelled":                    {answers: []any{context.Canceled}, err: context.Canceled, sent: 1},
		"an apply":                     {method: "PATCH", contentType: "application/apply-patch+yaml", body: configMapSent, answers: []any{io.EOF, 200}, code: 200, sent: 2},
		"a JSON patch":                 {method: "PATCH", contentType: "application/json-patch+json", body: `[]`, answers: []any{io.EOF, 200}, err: io.EOF, sent: 1},
		"a JSON patch that never left": {method: "PATCH", contentType: "application/json-patch+json", body: `[]`, answers: []any{refused, 200}, code: 200, sent: 2},
		"a review":                     {method: "POST", body: `{}`, answers: []any{io.EOF, 201}, code: 201, sent: 2},
		"deleted twice":                {method: "DELETE", answers: []any{io.EOF, 404}, code: 200, sent: 2},
		"not there to be deleted":      {method: "DELETE", answers: []any{404}, code: 404, sent: 1},
		"made twice":                   {method: "POST", body: configMapSent, answers: []any{io.EOF, 409, configMapSent}, code: 201, sent: 3},
		"made by somebody else":        {method: "POST", body: configMapSent, answers: []any{io.EOF, 409, configMapOther}, code: 409, sent: 3},
		"there before":                 {method: "POST", body: configMapSent, answers: []any{409}, code: 409, sent: 1},
		"a lock":                       {method: "POST", body: leaseSent, answers: []any{io.EOF, 409}, code: 409, sent: 2},
		"one without a name":           {method: "POST", body: `{"kind": "Pod"}`, answers: []any{io.EOF}, err: io.EOF, sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its patience ends by the clock
				server := &serverTransport{answers: test.answers}
				l := newLink(Options{}, "")
				l.connect()
				url := "https://x/api/v1/namespaces/n/configmaps"
				if name == "a review" {
					url = "https://x/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
				}
				req, err := http.NewRequestWithContext(t.Context(), orGet(test.method), url, strings.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", test.contentType)
				resp, err := (&persistentTransport{server, l}).RoundTrip(req)
				if test.err != nil && !errors.Is(err, test.err) || test.err == nil && err != nil {
					t.Fatalf("got the error %v, want %v", err, test.err)
				}
				if err == nil {
					defer resp.Body.Close()
					if resp.StatusCode != test.code {
						t.Errorf("got %d, want %d", resp.StatusCode, test.code)
					}
				}
				if len(server.requests) != test.sent {
					t.Errorf("sent %v, want %d", server.requests, test.sent)
				}
			})
		})
	}
}

func orGet(method string) string {
	if method == "" {
		return http.MethodGet
	}
	return method
}

// TestPersistenceOfSecrets: Helm makes its records by the typed client, whose requests have to be readable.
func TestPersistenceOfSecrets(t *testing.T) {
	var sent atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sent.Add(1) == 1 {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	config := tune(&rest.Config{Host: server.URL}, Options{}, slog.New(slog.DiscardHandler))
	l := newLink(Options{}, server.URL)
	l.connect()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &persistentTransport{next, l} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "sh.helm.release.v1.redis.v1", Labels: map[string]string{"owner": "helm"}}}
	made, err := client.CoreV1().Secrets("redis").Create(t.Context(), secret, metav1.CreateOptions{})
	if err != nil || made.Name != secret.Name || sent.Load() != 2 {
		t.Errorf("%+v, %v, sent %d times", made, err, sent.Load())
	}
}

// TestPersistenceEnds: before the first answer nobody is waited for, later until the deadline, and the error says both
// what was met and that the time was up.
func TestPersistenceEnds(t *testing.T) {
	for name, connected := range map[string]bool{"at first": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &serverTransport{answers: []any{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}}
				var told []string
				l := newLink(Options{Tell: func(m string) { told = append(told, m) }}, "https://x")
				if connected {
					l.connect()
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://x/api", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				_, err = (&persistentTransport{server, l}).RoundTrip(req) //nolint:bodyclose // there is no answer
				var away *AwayError
				if !errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &away) != connected || errors.Is(err, context.DeadlineExceeded) != connected {
					t.Errorf("got %v", err)
				}
				want := []string{}
				if connected {
					want = []string{"the API server at https://x is away (connection refused): trying again until it is back"}
				}
				if !slices.Equal(told, want) && len(told)+len(want) > 0 {
					t.Errorf("told %q", told)
				}
			})
		})
	}
}
