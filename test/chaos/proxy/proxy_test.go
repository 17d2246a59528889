package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// server stands for an API server, and counts what it did.
type server struct {
	*httptest.Server
	acted atomic.Int32
}

func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.acted.Add(1)
		switch {
		case r.Header.Get("Authorization") != "Bearer cluster":
			http.Error(w, "who are you?", http.StatusUnauthorized)
		case r.Header.Get("Upgrade") != "":
			echo(t, w)
		case isStream(r):
			stream(w, r)
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// stream sends a line at a time until the client goes.
func stream(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		fmt.Fprintln(w, "event")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		pause(r.Context(), 5*time.Millisecond)
	}
}

// echo becomes another protocol: what comes is sent back.
func echo(t *testing.T, w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(conn, conn)
}

// fixture is a proxy in front of a server, and a client.
type fixture struct {
	*Proxy
	server     *server
	kubeconfig string
	config     *rest.Config
	client     *http.Client
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{server: startServer(t), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	var err error
	f.Proxy, err = Start(t.Context(), &rest.Config{Host: f.server.URL, BearerToken: "cluster", TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// begin starts a session and connects its client.
func (f *fixture) begin(t *testing.T, s Session) {
	t.Helper()
	if err := f.Begin(s, f.kubeconfig); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	f.config = config
	if f.client, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.CloseIdleConnections)
	f.server.acted.Store(0)
}

// post sends what no client sends again by itself.
func (f *fixture) post(t *testing.T) (*http.Response, error) {
	t.Helper()
	return f.client.Post(f.config.Host+"/api/v1/things?x=y", "application/json", strings.NewReader("body"))
}

func TestFaults(t *testing.T) {
	const passedOn = "POST /api/v1/things?x=y body"
	for _, test := range []struct {
		kind  Kind
		acted int32  // how often the server did
		code  int    // 0: no answer
		body  string // a part of it
		calls string // what happened to the client
	}{
		{kind: None, acted: 1, code: 200, body: passedOn},
		{kind: KillBefore, acted: 0, calls: "killed"},
		{kind: KillAfter, acted: 1, calls: "killed"},
		{kind: DropBefore, acted: 0},
		{kind: DropAfter, acted: 1},
		{kind: Delay, acted: 1, code: 200, body: passedOn},
		{kind: TooMany, acted: 0, code: 429, body: `"reason":"TooManyRequests"`},
		{kind: Internal, acted: 0, code: 500, body: `"reason":"InternalError"`},
		{kind: Conflict, acted: 0, code: 409, body: `"reason":"Conflict"`},
		{kind: Garbage, acted: 0, code: 200, body: "<html>"},
		{kind: Cut, acted: 1, code: 200, body: passedOn},
		{kind: Interrupt, acted: 1, code: 200, body: passedOn, calls: "interrupted"},
		{kind: Away, acted: 0},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			f := start(t)
			var calls string
			f.begin(t, Session{
				Plan: At(2, test.kind), Delay: time.Millisecond, Away: time.Hour,
				Kill: func() { calls += "killed" }, Interrupt: func() { calls += "interrupted" },
			})
			if resp, err := f.post(t); err != nil {
				t.Fatal(err)
			} else {
				resp.Body.Close()
			}
			f.server.acted.Store(0)
			resp, err := f.post(t)
			code, body := 0, ""
			if err == nil {
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				code, body = resp.StatusCode, string(text)
			}
			if code != test.code || !strings.Contains(body, test.body) || f.server.acted.Load() != test.acted || calls != test.calls {
				t.Errorf("got %d %q, the server acted %d times, client %q", code, body, f.server.acted.Load(), calls)
			}
			if test.kind == TooMany && resp.Header.Get("Retry-After") != "1" {
				t.Error("it is not said when to come again")
			}
			requests := f.End()
			if len(requests) != 2 || requests[1].Fault != test.kind || requests[1].Code != test.code || !requests[1].Writes() {
				t.Errorf("noted: %+v", requests)
			}
		})
	}
}

// TestWatch: a watch comes as it is sent, and can be cut.
func TestWatch(t *testing.T) {
	watch := func(t *testing.T, f *fixture) *bufio.Scanner {
		t.Helper()
		resp, err := f.client.Get(f.config.Host + "/api/v1/things?watch=true")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	t.Run("by a later request", func(t *testing.T) {
		f := start(t)
		f.begin(t, Session{Plan: At(2, Cut)})
		lines := watch(t, f)
		if !lines.Scan() || lines.Text() != "event" {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
		if resp, err := f.post(t); err != nil {
			t.Fatal(err)
		} else {
			resp.Body.Close()
		}
		for lines.Scan() {
		}
		if !errors.Is(lines.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("the watch ended with %v", lines.Err())
		}
	})
	t.Run("by itself", func(t *testing.T) {
		f := start(t)
		f.begin(t, Session{Plan: At(1, Cut)})
		lines, n := watch(t, f), 0
		for lines.Scan() {
			n++
		}
		if n != 1 || !errors.Is(lines.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("%d lines came, then %v", n, lines.Err())
		}
	})
	t.Run("dropped", func(t *testing.T) {
		f := start(t)
		f.begin(t, Session{Plan: func(int) Kind { return DropAfter }})
		resp, err := f.client.Get(f.config.Host + "/api/v1/things?watch=true")
		if err == nil {
			resp.Body.Close()
			t.Error("there was an answer")
		}
	})
	t.Run("the server goes away", func(t *testing.T) {
		f := start(t)
		f.begin(t, Session{Plan: At(2, Away), Away: time.Hour})
		lines := watch(t, f)
		for i := range 3 {
			if resp, err := f.post(t); err == nil {
				resp.Body.Close()
				t.Errorf("request %d was answered", i)
			}
		}
		for lines.Scan() {
		}
		if lines.Err() == nil {
			t.Error("the watch was not cut")
		}
	})
}

// TestUpgrade: a connection that becomes something else goes through, both ways.
func TestUpgrade(t *testing.T) {
	f := start(t)
	f.begin(t, Session{Plan: Undisturbed})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.config.Host+"/portforward", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "echo")
	resp, err := f.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	tunnel, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("got %s", resp.Status)
	}
	fmt.Fprintln(tunnel, "hello")
	if line, err := bufio.NewReader(tunnel).ReadString('\n'); line != "hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestSession: what a client of the last session sends late is not counted, and not passed on.
func TestSession(t *testing.T) {
	f := start(t)
	f.begin(t, Session{Plan: Undisturbed})
	old := *f
	f.begin(t, Session{Plan: Undisturbed})
	resp, err := old.post(t)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || f.server.acted.Load() != 0 || len(f.End()) != 0 {
		t.Errorf("%s, the server acted %d times, noted %v", resp.Status, f.server.acted.Load(), f.End())
	}
}

// TestEnd: it waits for what a killed client has begun.
func TestEnd(t *testing.T) {
	f := start(t)
	f.begin(t, Session{Plan: Undisturbed, Latency: 50 * time.Millisecond})
	ctx, kill := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.config.Host+"/x?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	resp.Body.Close()
	if requests := f.End(); len(requests) != 1 || requests[0].Writes() {
		t.Errorf("noted: %+v", requests)
	}
}

func TestPlans(t *testing.T) {
	faults := func(plan Plan) []Kind {
		var out []Kind
		for n := 1; n <= 10000; n++ {
			out = append(out, plan(n))
		}
		return out
	}
	first := faults(Randomly(1, 0.05, DropBefore, TooMany))
	if !slices.Equal(first, faults(Randomly(1, 0.05, DropBefore, TooMany))) {
		t.Error("the same seed gives another plan")
	}
	if slices.Equal(first, faults(Randomly(2, 0.05, DropBefore, TooMany))) {
		t.Error("another seed gives the same plan")
	}
	count := map[Kind]int{}
	for _, k := range first {
		count[k]++
	}
	if n := count[DropBefore] + count[TooMany]; n < 400 || n > 600 || count[DropBefore] == 0 || count[TooMany] == 0 {
		t.Errorf("faults: %v", count)
	}
	if at := faults(At(3, Cut)); at[2] != Cut || at[1] != None || at[3] != None {
		t.Errorf("faults: %v", at[:5])
	}
}

// TestWrites tells what the cluster stores from what it doesn't.
func TestWrites(t *testing.T) {
	for request, writes := range map[Request]bool{
		{Method: "GET", URI: "/api/v1/pods"}:                                                     false,
		{Method: "POST", URI: "/api/v1/namespaces/a/secrets?fieldManager=x"}:                     true,
		{Method: "PATCH", URI: "/api/v1/namespaces/a?dryRun=All&force=false"}:                    false,
		{Method: "POST", URI: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}:          false,
		{Method: "DELETE", URI: "/apis/apps/v1/namespaces/a/deployments/b"}:                      true,
		{Method: "POST", URI: "/api/v1/namespaces/a/pods/b/portforward?timeout=1s"}:              false,
		{Method: "GET", URI: "/api/v1/namespaces/a/pods/b/portforward?ports=80", Code: 101}:      false,
		{Method: "POST", URI: "/apis/coordination.k8s.io/v1/namespaces/a/leases?fieldManager=x"}: true,
	} {
		if request.Writes() != writes {
			t.Errorf("%s %s: %v", request.Method, request.URI, !writes)
		}
	}
}
