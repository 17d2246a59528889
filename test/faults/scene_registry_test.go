package faults

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// registryScenes are what a registry answers instead of the app's image, to the container runtime of the nodes.
func registryScenes() []scene {
	// An image that can't be had ends the run early; a registry that is busy is waited for.
	busy := []string{"up", "--timeout", "30s"}
	answers := func(name string, status int, code, message string, command []string, w want) scene {
		if len(command) == 0 {
			command = []string{"up"}
		}
		w.code, w.object, w.state = 1, "Pod {app}/pw-crud", appWaits
		return scene{name: name, provoke: registry(status, code, message), command: command, shown: showsApp(waitsFor("ErrImagePull", "ImagePullBackOff")), want: w}
	}
	plain := scene{name: "registry without TLS", provoke: func(t *testing.T, s *harness.Site) {
		useImageOf(s, serve(t, http.NotFoundHandler()))
	}, shown: showsApp(waitsFor("ErrImagePull", "ImagePullBackOff")),
		want: want{code: 1, object: "Pod {app}/pw-crud", reason: "server gave HTTP response to HTTPS client", says: []string{"ImagePull"}, state: appWaits, hint: "speaks plain HTTP"}}
	private := scene{name: "registry wants a login (token)", provoke: privateRegistry, shown: showsApp(waitsFor("ErrImagePull", "ImagePullBackOff")),
		want: want{code: 1, object: "Pod {app}/pw-crud", reason: "authorization failed", says: []string{"ImagePull"}, state: appWaits, hint: "imagePullSecrets"}}
	return []scene{
		plain, private,
		answers("image not found (404)", http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown", nil,
			want{reason: "not found", says: []string{"ImagePull"}, hint: "check that image"}),
		answers("registry refuses (401)", http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil,
			want{reason: "ImagePull", says: []string{"401 Unauthorized"}, hint: "imagePullSecrets"}),
		answers("registry refuses (403)", http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil,
			want{reason: "403 Forbidden", says: []string{"ImagePull"}, hint: "imagePullSecrets"}),
		answers("registry limits pulls (429)", http.StatusTooManyRequests, "TOOMANYREQUESTS", "you have reached your pull rate limit", busy,
			want{reason: "429 Too Many Requests", says: []string{"The time that --timeout gives is up"}, hint: "limit"}),
		answers("registry is out of order (500)", http.StatusInternalServerError, "UNKNOWN", "unknown error", busy,
			want{reason: "500 Internal Server Error", says: []string{"The time that --timeout gives is up"}, hint: "registry"}),
	}
}

// registry has up deploy an image of a registry that answers everything in one way, by the OCI distribution
// specification.
func registry(status int, code, message string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"errors": [{"code": %q, "message": %q}]}`, code, message)
		}))
		allowPlainHTTP(t, address)
		useImageOf(s, address)
	}
}

// privateRegistry has up deploy an image of a registry that gives everybody a token which is good for nothing, as Docker Hub
// does for images that are private or do not exist (https://distribution.github.io/distribution/spec/auth/token/).
func privateRegistry(t *testing.T, s *harness.Site) {
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token": "of-nobody"}`) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		challenge := fmt.Sprintf(`Bearer realm="http://%s/token",service="registry",scope="repository:pw/crudservice:pull"`, r.Host)
		if r.Header.Get("Authorization") != "" {
			challenge += `,error="insufficient_scope"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	})
	address := serve(t, mux)
	allowPlainHTTP(t, address)
	useImageOf(s, address)
}

// useImageOf has up deploy an image of a registry.
func useImageOf(s *harness.Site, registry string) {
	s.Env = append(s.Env, "PWDEPLOY_IMAGE="+registry+"/pw/crudservice:9")
}

// serve makes a registry without TLS that all nodes of the lab reach, and gives its address.
func serve(t *testing.T, registry http.Handler) string {
	t.Helper()
	route, err := net.Dial("udp", net.JoinHostPort(os.Getenv("LAB_ADDRESS"), "80")) // nothing is sent
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(route.LocalAddr().String())
	route.Close()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: registry}} //nolint:gosec // its clients are the lab's nodes
	server.Start()
	t.Cleanup(server.Close)
	return listener.Addr().String()
}

// allowPlainHTTP tells the container runtimes of all nodes to talk to a registry without TLS.
func allowPlainHTTP(t *testing.T, registry string) {
	t.Helper()
	nodes, err := filepath.Glob(filepath.Join(os.Getenv("LAB_DIR"), "lab-*", "containerd.toml"))
	if err != nil || len(nodes) == 0 {
		t.Fatalf("the lab's nodes are not found: %v", err)
	}
	for _, node := range nodes {
		dir := filepath.Join(filepath.Dir(node), "certs.d", registry)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		hosts := fmt.Sprintf("server = %q\n[host.%[1]q]\n", "http://"+registry)
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
