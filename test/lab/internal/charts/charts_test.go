package charts_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	labcharts "github.com/pwdeploy/pwdeploy/test/lab/charts"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/charts"
)

func TestPackAndRead(t *testing.T) {
	files := fstest.MapFS{
		"Chart.yaml":             {Data: []byte("name: redis\nversion: 23.1.1\n")},
		"templates/_helpers.tpl": {Data: []byte("{{/* hidden from a plain embed */}}")},
	}
	a, err := charts.Pack(files)
	if err != nil {
		t.Fatal(err)
	}
	again, err := charts.Pack(files)
	if err != nil || again.Digest() != a.Digest() {
		t.Errorf("packed twice: %s and %s, %v", a.Digest(), again.Digest(), err)
	}
	read, err := charts.Read(a.Bytes)
	if err != nil || read.Name != "redis" || read.Version != "23.1.1" || !bytes.Equal(read.Metadata, a.Metadata) {
		t.Errorf("read %+v, %v", read, err)
	}
	for name, broken := range map[string]fstest.MapFS{
		"no Chart.yaml": {"values.yaml": {}}, "no version": {"Chart.yaml": {Data: []byte("name: redis")}}, "not YAML": {"Chart.yaml": {Data: []byte("\t:")}},
	} {
		if _, err := charts.Pack(broken); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := charts.Read([]byte("no archive")); err == nil {
		t.Error("reading no archive is no error")
	}
}

func TestStage(t *testing.T) {
	ingress := fstest.MapFS{"Chart.yaml": {Data: []byte("name: ingress-nginx\nversion: 4.15.1\n")}}
	packed, err := charts.Pack(ingress)
	if err != nil {
		t.Fatal(err)
	}
	redis := func(version string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("name: redis\nversion: " + version + "\n")}
	}
	archive := &fstest.MapFile{Data: packed.Bytes}
	for _, tc := range []struct {
		name, err string
		source    fstest.MapFS
	}{
		{"folder and archive", "", fstest.MapFS{"redis/Chart.yaml": redis("23.1.1"), "ingress-nginx-4.15.1.tgz": archive}},
		{"another version", "it is redis 22.0.0", fstest.MapFS{"redis/Chart.yaml": redis("22.0.0"), "ingress-nginx-4.15.1.tgz": archive}},
		{"one missing", "no folder ingress-nginx", fstest.MapFS{"redis/Chart.yaml": redis("23.1.1")}},
		{"two archives", "more than one", fstest.MapFS{"redis/Chart.yaml": redis("23.1.1"), "ingress-nginx-4.15.1.tgz": archive, "ingress-nginx-4.14.0.tgz": archive}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			staged, err := charts.Stage(dir, tc.source)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || len(staged) != 2 {
				t.Fatalf("staged %d, %v", len(staged), err)
			}
			loaded, err := charts.Load(dir, charts.IngressName)
			if err != nil || loaded.Digest() != packed.Digest() {
				t.Errorf("an archive is served with the digest %s, want its own, %s (%v)", loaded.Digest(), packed.Digest(), err)
			}
		})
	}
}

// newClient serves the stand-in charts and returns a client that knows nothing but the proxy and the authority.
func newClient(t *testing.T) (*http.Client, []charts.Archive) {
	t.Helper()
	dir := t.TempDir()
	staged, err := charts.Stage(dir, labcharts.Files)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certs.NewAuthority("test-ca", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &charts.Server{Dir: dir, CA: ca, Log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), listener) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Cert)
	proxy := &url.URL{Scheme: "http", Host: listener.Addr().String()}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, staged
}

func TestServe(t *testing.T) {
	client, staged := newClient(t)
	redis, ingress := staged[0], staged[1]
	manifest, err := redis.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := redis.ManifestDigest()
	if err != nil {
		t.Fatal(err)
	}
	if redis.StandIn == "" || ingress.StandIn == "" {
		t.Error("a chart of the lab doesn't say that it is a stand-in")
	}
	repository := "https://registry-1.docker.io/v2/bitnamicharts/redis"
	for _, tc := range []struct {
		name, url string
		status    int
		body      []byte
	}{
		{"registry", "https://registry-1.docker.io/v2/", 200, nil},
		{"tags", repository + "/tags/list", 200, []byte(`{"name":"bitnamicharts/redis","tags":["23.1.1"]}`)},
		{"manifest by tag", repository + "/manifests/23.1.1", 200, manifest},
		{"manifest by digest", repository + "/manifests/" + digest, 200, manifest},
		{"another tag", repository + "/manifests/1.0.0", 404, nil},
		{"content", repository + "/blobs/" + redis.Digest(), 200, redis.Bytes},
		{"another blob", repository + "/blobs/sha256:00", 404, nil},
		{"another repository", "https://registry-1.docker.io/v2/library/redis/tags/list", 404, nil},
		{"archive", "https://github.com/kubernetes/ingress-nginx/releases/download/helm-chart-4.15.1/ingress-nginx-4.15.1.tgz", 200, ingress.Bytes},
		{"another archive", "https://github.com/kubernetes/ingress-nginx/releases/download/helm-chart-4.0.0/ingress-nginx-4.0.0.tgz", 404, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			response, err := client.Get(tc.url)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tc.status || tc.body != nil && !bytes.Equal(body, tc.body) {
				t.Errorf("status %d, %d bytes; want %d, %d bytes", response.StatusCode, len(body), tc.status, len(tc.body))
			}
		})
	}
}

func TestServeIndex(t *testing.T) {
	client, staged := newClient(t)
	response, err := client.Get("https://kubernetes.github.io/ingress-nginx/index.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"digest: " + strings.TrimPrefix(staged[1].Digest(), "sha256:"), charts.IngressPath} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the index lacks %q:\n%s", want, body)
		}
	}
}

func TestRefusesOtherHosts(t *testing.T) {
	client, _ := newClient(t)
	response, err := client.Get("https://example.com/")
	if err == nil {
		response.Body.Close()
		t.Fatalf("example.com answered %s", response.Status)
	}
	if !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("error %v, want Forbidden", err)
	}
}
