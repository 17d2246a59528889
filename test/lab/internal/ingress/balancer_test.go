package ingress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// upstreamClient speaks to an upstream's socket as NGINX does.
func upstreamClient(t *testing.T, b *balancer, name string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socketFile(b.dir, name))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func newPod(t *testing.T, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s %s?%s %s %s", name, r.Host, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("X-Forwarded-Proto"), body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// deadEndpoint is an address that nobody listens on.
func deadEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func post(t *testing.T, client *http.Client) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://demo.test/a%2Fb?q=1;2", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-Proto", "https")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestBalancer(t *testing.T) {
	b := &balancer{dir: t.TempDir(), log: slog.New(slog.DiscardHandler), open: map[string]*pool{}}
	upstream := func(endpoints ...string) []Upstream {
		return []Upstream{{Name: "web", Scheme: "http", Endpoints: endpoints}}
	}
	one, two, dead := newPod(t, "one"), newPod(t, "two"), deadEndpoint(t)
	if err := b.set(upstream(one)); err != nil {
		t.Fatal(err)
	}
	client := upstreamClient(t, b, "web")
	if status, body := post(t, client); status != 200 || body != "one demo.test /a%2Fb?q=1;2 https body" {
		t.Errorf("status %d, %q", status, body)
	}
	if err := b.set(upstream(dead, two)); err != nil {
		t.Fatal(err)
	}
	for range 4 { // whichever is first in turn, a pod that has gone costs nobody the request
		if status, body := post(t, client); status != 200 || !strings.HasPrefix(body, "two") {
			t.Errorf("status %d, %q", status, body)
		}
	}
	for want, endpoints := range map[int][]string{http.StatusBadGateway: {dead}, http.StatusServiceUnavailable: nil} {
		if err := b.set(upstream(endpoints...)); err != nil {
			t.Fatal(err)
		}
		if status, _ := post(t, client); status != want {
			t.Errorf("endpoints %v: status %d, want %d", endpoints, status, want)
		}
	}
	b.prune(nil)
	if len(b.open) != 0 {
		t.Error("an upstream that is gone is still served")
	}
}
