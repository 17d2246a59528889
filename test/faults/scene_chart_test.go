package faults

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// chartScenes are charts that can't be had, and a cache that can't keep them.
func chartScenes() []scene {
	answers := func(code int) func(*testing.T, *harness.Site) {
		return chartFrom(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, http.StatusText(code), code) })
	}
	return []scene{
		{name: "chart download: refused", provoke: func(t *testing.T, s *harness.Site) { useChart(t, s, "https://127.0.0.1:1/redis.tgz") },
			want: want{code: 1, object: "chart https://127.0.0.1:1/redis.tgz", reason: "connection refused", hint: "check the network and HTTPS_PROXY", state: nothingChanged}},
		{name: "chart download: 401", provoke: answers(http.StatusUnauthorized),
			want: want{code: 1, object: "/redis.tgz", reason: "answers 401 Unauthorized", hint: "helm registry login", state: nothingChanged}},
		{name: "chart download: 404", provoke: answers(http.StatusNotFound),
			want: want{code: 1, object: "/redis.tgz", reason: "answers 404 Not Found", hint: "check the reference and the version", state: nothingChanged}},
		{name: "chart download: 429", provoke: answers(http.StatusTooManyRequests),
			want: want{code: 1, object: "/redis.tgz", reason: "answers 429 Too Many Requests", hint: "limits anonymous downloads", state: nothingChanged}},
		{name: "chart truncated", provoke: chartFrom(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1000))
			_, _ = w.Write([]byte("the beginning"))
		}),
			want: want{code: 1, object: "/redis.tgz", reason: "the download broke off", state: nothingChanged}},
		{name: "chart with another digest", provoke: func(t *testing.T, s *harness.Site) {
			archive := pack(t, map[string]string{"redis/Chart.yaml": "apiVersion: v2\nname: redis\nversion: 1.0.0\n"})
			chartFrom(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })(t, s)
			s.Env = append(s.Env, "PWDEPLOY_REDIS_CHART_DIGEST=sha256:"+strings.Repeat("0", 64))
		},
			want: want{code: 1, object: "/redis.tgz", reason: "not sha256:0000", says: []string{"as pinned"}, hint: "nothing was used of it", state: nothingChanged}},
		{name: "chart that does not render", provoke: func(t *testing.T, s *harness.Site) {
			archive := pack(t, map[string]string{
				"redis/Chart.yaml":            "apiVersion: v2\nname: redis\nversion: 1.0.0\n",
				"redis/templates/broken.yaml": `{{ fail "a password is missing" }}`,
			})
			useChart(t, s, file(t, "redis.tgz", archive))
		},
			want: want{code: 1, object: "redis 1.0.0", reason: "a password is missing", state: nothingChanged}},
		{name: "cache folder not writable", provoke: func(t *testing.T, s *harness.Site) {
			useCache(s, filepath.Join(file(t, "file", nil), "cache")) // below a file no folder can be made, by root neither
		},
			want: want{code: 0, object: "redis", reason: "the chart could not be kept for next time", says: []string{"not a directory"}}},
		{name: "disk full in the cache folder", provoke: func(t *testing.T, s *harness.Site) { useCache(s, fullDisk(t)) },
			want: want{code: 0, object: "redis", reason: "the chart could not be kept for next time", says: []string{"no space left on device"}}},
	}
}

// fullDisk is a file system that is too small for a chart. To mount one takes root.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=4k", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir
}

// chartFrom lets a server answer for the chart of Redis.
func chartFrom(answer http.HandlerFunc) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		server := httptest.NewTLSServer(answer)
		t.Cleanup(server.Close)
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		s.Env = append(s.Env, "SSL_CERT_FILE="+file(t, "ca.crt", authority))
		useChart(t, s, server.URL+"/redis.tgz")
	}
}

// useChart names another chart of Redis than the lab's.
func useChart(t *testing.T, s *harness.Site, ref string) {
	settings := file(t, "pwdeploy.yaml", []byte("redis: {chart: {ref: '"+ref+"'}}\n"))
	s.Env = append(s.Env, "PWDEPLOY_CONFIG="+settings)
	s.Unset = append(s.Unset, "PWDEPLOY_REDIS_CHART_DIGEST")
	useCache(s, t.TempDir())
}

func useCache(s *harness.Site, dir string) { s.Env = append(s.Env, "PWDEPLOY_CACHE_DIR="+dir) }

// pack makes a chart archive.
func pack(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for name, text := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
