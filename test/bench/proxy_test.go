//go:build unix

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestKind(t *testing.T) {
	for _, c := range []struct{ method, uri, want string }{
		{"GET", "/version", kindDiscovery},
		{"GET", "/openapi/v3?timeout=32s", kindDiscovery},
		{"GET", "/api", kindDiscovery},
		{"GET", "/api/v1", kindDiscovery},
		{"GET", "/apis/apps/v1?timeout=32s", kindDiscovery},
		{"GET", "/api/v1/nodes", kindRead},
		{"GET", "/apis/apps/v1/deployments", kindRead},
		{"GET", "/api/v1/namespaces/redis/pods?watch=true", kindWatch},
		{"GET", "/api/v1/namespaces/redis/pods?watch=1", kindWatch},
		{"GET", "/api/v1/namespaces/redis/pods?watch=false", kindRead},
		{"POST", "/api/v1/namespaces", kindWrite},
		{"PATCH", "/api/v1/namespaces/redis?fieldManager=pwdeploy", kindWrite},
		{"PATCH", "/api/v1/namespaces/redis?dryRun=All", kindCheck},
		{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", kindCheck},
		{"POST", "/api/v1/namespaces/a/pods/b/portforward", kindTunnel},
		{"GET", "/api/v1/namespaces/a/pods/b/portforward", kindTunnel},
		{"DELETE", "/api/v1/namespaces/redis", kindWrite},
	} {
		if got := (request{Method: c.method, URI: c.uri}).kind(); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.method, c.uri, got, c.want)
		}
	}
}

// cluster is a stand-in for an API server, and a proxy in front of it.
func cluster(t *testing.T, delay time.Duration, handler http.HandlerFunc) (*proxy, *rest.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	p, err := startProxy(t.Context(), &rest.Config{Host: server.URL, BearerToken: "of the cluster", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, delay)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := p.writeKubeconfig(file); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	return p, config
}

func get(t *testing.T, config *rest.Config, path string) *http.Response {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Get(config.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestProxyNotesWhatItForwards(t *testing.T) {
	const delay = 20 * time.Millisecond
	p, config := cluster(t, delay, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the cluster was asked by %s", r.Proto)
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, r.Header.Get("Authorization"), " ", r.RequestURI)
	})
	for range 2 {
		res := get(t, config, "/api/v1/nodes?limit=1")
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "Bearer of the cluster /api/v1/nodes?limit=1" || res.ProtoMajor != 2 {
			t.Errorf("%q by %s, %v", body, res.Proto, err)
		}
	}
	requests, connections := p.noted()
	if len(requests) != 2 || connections != 1 {
		t.Fatalf("%d requests by %d connections", len(requests), connections)
	}
	first := requests[0]
	if first.Method != http.MethodGet || first.URI != "/api/v1/nodes?limit=1" || first.Code != http.StatusNotFound || first.Took < delay || requests[1].At < first.At+delay {
		t.Errorf("noted %+v", requests)
	}
	p.reset()
	if requests, connections := p.noted(); len(requests) != 0 || connections != 0 {
		t.Errorf("after reset: %d requests, %d connections", len(requests), connections)
	}
}

func TestProxyIsForItsKubeconfigOnly(t *testing.T) {
	p, config := cluster(t, 0, func(http.ResponseWriter, *http.Request) { t.Error("the cluster was asked") })
	config.BearerToken = "guessed"
	res := get(t, config, "/api/v1/secrets")
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("answered %s", res.Status)
	}
	if requests, _ := p.noted(); len(requests) != 0 {
		t.Errorf("noted %+v", requests)
	}
}

func TestProxyPassesWatchesOnAsTheyCome(t *testing.T) {
	p, config := cluster(t, 0, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first event")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	config.Timeout = 10 * time.Second
	res := get(t, config, "/api/v1/pods?watch=true")
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || line != "first event\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if requests, _ := p.noted(); len(requests) != 1 || requests[0].kind() != kindWatch || requests[0].Took != 0 {
		t.Errorf("noted %+v", requests)
	}
}

func TestProxyLetsUpgradesThrough(t *testing.T) {
	for _, protocol := range []string{"websocket", "SPDY/3.1"} {
		t.Run(protocol, func(t *testing.T) {
			p, config := cluster(t, 0, echo(t))
			conn := dial(t, p)
			fmt.Fprintf(conn, "GET /api/v1/namespaces/a/pods/b/portforward HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", config.BearerToken, protocol)
			reader := bufio.NewReader(conn)
			res, err := http.ReadResponse(reader, nil)
			if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("answered %+v, %v", res, err)
			}
			defer res.Body.Close()
			fmt.Fprintln(conn, "through the tunnel")
			if line, err := reader.ReadString('\n'); err != nil || line != "through the tunnel\n" {
				t.Errorf("read %q, %v", line, err)
			}
		})
	}
}

// echo takes an upgrade and sends back what it gets.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if _, err := io.Copy(conn, buffered); err != nil {
			t.Log(err)
		}
	}
}

func dial(t *testing.T, p *proxy) *tls.Conn {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.ca)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
