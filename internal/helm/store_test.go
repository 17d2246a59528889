package helm

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const archivePath = "/redis-23.1.1.tgz"

func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFetchHTTPS(t *testing.T) {
	archive := packed(t, "redis")
	other := packed(t, "ingress-nginx")
	good := serve(archive)
	tests := []struct {
		name     string
		handlers []http.HandlerFunc
		src      Source // Ref is filled in
		requests int
		err      any    // target of errors.As, nil if it is fetched
		contains string // in the error
		hint     string // in the hint
		stall    time.Duration
	}{
		{name: "pinned", handlers: []http.HandlerFunc{good}, src: Source{Version: "23.1.1", Digest: digestOf(archive)}, requests: 1},
		{name: "not pinned", handlers: []http.HandlerFunc{good}, requests: 1},
		{name: "wrong digest", handlers: []http.HandlerFunc{serve(other)}, src: Source{Digest: digestOf(archive)}, requests: 1,
			err: new(*DigestError), contains: "not " + digestOf(archive), hint: "nothing was used of it"},
		{name: "wrong version", handlers: []http.HandlerFunc{good}, src: Source{Version: "23.1.2"}, requests: 1,
			err: new(*VersionError), contains: "it holds redis 23.1.1, not redis 23.1.2"},
		{name: "broken off once", handlers: []http.HandlerFunc{truncate(archive), good}, src: Source{Digest: digestOf(archive)}, requests: 2},
		{name: "broken off always", handlers: []http.HandlerFunc{truncate(archive)}, requests: 4,
			err: new(*brokenBodyError), contains: "the download broke off"},
		{name: "stalls once", handlers: []http.HandlerFunc{stallAfter(archive), good}, requests: 2, stall: 5 * time.Second},
		{name: "stalls always", handlers: []http.HandlerFunc{stallAfter(archive)}, requests: 4,
			err: new(*brokenBodyError), contains: "nothing arrived for 100ms", stall: 100 * time.Millisecond},
		{name: "429, then good", handlers: []http.HandlerFunc{status(429, "Retry-After", "0"), good}, requests: 2},
		{name: "503 twice, then good", handlers: []http.HandlerFunc{status(503), status(502), good}, requests: 3},
		{name: "429 for an hour", handlers: []http.HandlerFunc{status(429, "Retry-After", "3600")}, requests: 1,
			err: new(*StatusError), contains: "429 Too Many Requests", hint: "limits anonymous downloads"},
		{name: "500 always", handlers: []http.HandlerFunc{status(500)}, requests: 4, err: new(*StatusError), contains: "500", hint: "try again later"},
		{name: "401", handlers: []http.HandlerFunc{status(401)}, requests: 1, err: new(*StatusError), contains: "401 Unauthorized", hint: "helm registry login"},
		{name: "404", handlers: []http.HandlerFunc{status(404)}, requests: 1, err: new(*StatusError), contains: "404 Not Found", hint: "check the reference and the version"},
		{name: "a page", handlers: []http.HandlerFunc{serve([]byte("<html>log in</html>"))}, requests: 1, err: new(error), contains: "it is not a chart"},
		{name: "huge", handlers: []http.HandlerFunc{serve(make([]byte, maxArchive+1))}, requests: 1, err: new(error), contains: "larger than 20 MiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, dir := newServer(t), t.TempDir()
			server.on(archivePath, tt.handlers...)
			tt.src.Ref = server.URL + archivePath
			store := server.store(dir)
			if tt.stall > 0 {
				store.stall = tt.stall
			}
			chart, err := store.Fetch(t.Context(), tt.src)
			if got := server.count(archivePath); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
			if tt.err != nil {
				checkRefused(t, err, tt.err, tt.contains, tt.hint)
				if kept := files(t, dir); len(kept) > 0 {
					t.Errorf("kept: %v", kept)
				}
				return
			}
			checkChart(t, chart, err, digestOf(archive), tt.src.Ref)
			checkCached(t, server, dir, tt.src)
		})
	}
}

func checkRefused(t *testing.T, err error, target any, contains, hint string) {
	t.Helper()
	var fetch *FetchError
	if !errors.As(err, &fetch) || !errors.As(err, target) {
		t.Fatalf("error %T: %v", err, err)
	}
	if !strings.Contains(err.Error(), contains) {
		t.Errorf("error %q lacks %q", err, contains)
	}
	if !strings.Contains(fetch.Hint(), hint) {
		t.Errorf("hint %q lacks %q", fetch.Hint(), hint)
	}
}

func checkChart(t *testing.T, chart *Chart, err error, digest, origin string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want := Chart{Name: "redis", Version: "23.1.1", AppVersion: "8.2.1", Digest: digest, Origin: origin}
	got := *chart
	got.contents, got.load = "", nil
	if got.Name != want.Name || got.Version != want.Version || got.AppVersion != want.AppVersion ||
		got.Digest != want.Digest || got.Origin != want.Origin || got.Cached || got.CacheErr != nil {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// checkCached fetches again without a server.
func checkCached(t *testing.T, s *server, dir string, src Source) {
	t.Helper()
	before := s.total()
	chart, err := s.store(dir).Fetch(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if !chart.Cached || s.total() != before {
		t.Errorf("cached %v, %d requests", chart.Cached, s.total()-before)
	}
	if loaded, err := chart.load(); err != nil || loaded.Name() != chart.Name {
		t.Errorf("the cached chart does not load: %v", err)
	}
}

func TestFetchFollowsRedirects(t *testing.T) {
	server, archive := newServer(t), packed(t, "redis")
	server.on("/download", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, archivePath+"?signature=secret", http.StatusFound)
	})
	server.on("/insecure", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+server.registryHost()+archivePath, http.StatusFound)
	})
	server.on("/circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/circle", http.StatusFound) })
	server.on(archivePath, serve(archive))
	if _, err := server.store(t.TempDir()).Fetch(t.Context(), Source{Ref: server.URL + "/download"}); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{"/insecure": "without encryption", "/circle": "redirects for ever"} {
		_, err := server.store(t.TempDir()).Fetch(t.Context(), Source{Ref: server.URL + path})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestErrorsTellNoSecrets(t *testing.T) {
	server := newServer(t)
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://127.0.0.1:1/x.tgz?signature=hush", http.StatusFound)
	}
	server.on("/redirect.tgz", redirect)
	server.on("/404.tgz", status(404))
	for _, path := range []string{"/redirect.tgz", "/404.tgz"} {
		ref := strings.Replace(server.URL, "https://", "https://user:hush@", 1) + path + "?token=hush"
		_, err := server.store(t.TempDir()).Fetch(t.Context(), Source{Ref: ref, Version: "1.0.0"})
		if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "user") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestFetchSendsCredentialsOfTheReference(t *testing.T) {
	server, archive := newServer(t), packed(t, "redis")
	server.on(archivePath, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "hush" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(archive)
	})
	dir := t.TempDir()
	chart, err := server.store(dir).Fetch(t.Context(), Source{Ref: strings.Replace(server.URL, "://", "://me:hush@", 1) + archivePath})
	checkChart(t, chart, err, digestOf(archive), server.URL+archivePath)
	for _, name := range files(t, dir) {
		data, err := os.ReadFile(name)
		if err != nil || bytes.Contains(data, []byte("hush")) {
			t.Errorf("%s holds the password (%v)", name, err)
		}
	}
}

func TestFetchStopsAtOnce(t *testing.T) {
	archive := packed(t, "redis")
	for name, handler := range map[string]http.HandlerFunc{
		"in the download":  stallAfter(archive),
		"before an answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"between retries":  status(503, "Retry-After", "30"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newServer(t)
			server.on(archivePath, handler)
			store := server.store(t.TempDir())
			store.retry.longest = time.Minute
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := store.Fetch(ctx, Source{Ref: server.URL + archivePath})
			if took := time.Since(start); took > 20*time.Second || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
}

func TestDamagedCacheIsFetchedAgain(t *testing.T) {
	server, archive, dir := newServer(t), packed(t, "redis"), t.TempDir()
	server.on(archivePath, serve(archive))
	src := Source{Ref: server.URL + archivePath, Digest: digestOf(archive)}
	blob := newBlobs(dir).path(src.Digest)
	for i, damage := range []func() error{
		func() error { return nil },
		func() error { return os.Truncate(blob, 10) },
		func() error { return os.WriteFile(blob, bytes.Repeat([]byte("x"), len(archive)), 0o644) },
		func() error { return os.Remove(blob) },
	} {
		_, first := os.Stat(blob)
		if err := damage(); err != nil && first == nil {
			t.Fatal(err)
		}
		chart, err := server.store(dir).Fetch(t.Context(), src)
		checkChart(t, chart, err, src.Digest, src.Ref)
		if server.total() != i+1 {
			t.Errorf("%d requests, want %d", server.total(), i+1)
		}
		checkCached(t, server, dir, src)
	}
}

func TestTrustOnFirstUse(t *testing.T) {
	server, dir := newServer(t), t.TempDir()
	first := packed(t, "redis")
	second := append(bytes.Clone(first), 0) // another archive of the same chart
	server.on(archivePath, serve(first), serve(second))
	src := Source{Ref: server.URL + archivePath, Version: "23.1.1"}
	if _, err := server.store(dir).Fetch(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(newBlobs(dir).path(digestOf(first))); err != nil {
		t.Fatal(err)
	}
	_, err := server.store(dir).Fetch(t.Context(), src)
	var changed *DigestError
	if !errors.As(err, &changed) || !changed.Remembered || changed.Want != digestOf(first) || changed.Got != digestOf(second) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(err.Error(), "when it was fetched before") {
		t.Errorf("error %q", err)
	}
	// The user's pin has the last word.
	src.Digest = digestOf(second)
	chart, err := server.store(dir).Fetch(t.Context(), src)
	checkChart(t, chart, err, src.Digest, src.Ref)
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	server, archive := newServer(t), packed(t, "redis")
	server.on(archivePath, serve(archive))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	chart, err := server.store(filepath.Join(file, "cache")).Fetch(t.Context(), Source{Ref: server.URL + archivePath})
	if err != nil || chart.Name != "redis" || chart.CacheErr == nil || !strings.Contains(chart.CacheErr.Error(), "keep chart") {
		t.Errorf("%+v, %v", chart, err)
	}
}

func TestParallelFetch(t *testing.T) {
	server, archive, dir := newServer(t), packed(t, "redis"), t.TempDir()
	server.on(archivePath, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond)
		serve(archive)(w, r)
	})
	src := Source{Ref: server.URL + archivePath, Digest: digestOf(archive)}
	stores := []*Store{server.store(dir), server.store(dir)} // two processes that share a folder
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			chart, err := stores[i%2].Fetch(t.Context(), src)
			if err != nil || chart.Digest != src.Digest || chart.CacheErr != nil {
				t.Errorf("%+v, %v", chart, err)
			}
		})
	}
	wg.Wait()
	if n := server.total(); n > 2 {
		t.Errorf("%d downloads for two stores", n)
	}
	for _, name := range files(t, dir) {
		if strings.Contains(name, ".tmp") {
			t.Errorf("left behind: %s", name)
		}
	}
}

func TestFetchLocal(t *testing.T) {
	archive := packed(t, "redis")
	tgz := filepath.Join(t.TempDir(), "mine.tgz")
	if err := os.WriteFile(tgz, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join("testdata", "charts", "redis")
	store := NewStore(filepath.Join(t.TempDir(), "unused"))
	for _, src := range []Source{{Ref: tgz}, {Ref: tgz, Version: "23.1.1", Digest: digestOf(archive)}, {Ref: folder}, {Ref: folder, Version: "23.1.1"}} {
		chart, err := store.Fetch(t.Context(), src)
		if err != nil || chart.Name != "redis" || chart.Origin != src.Ref {
			t.Errorf("%s: %+v, %v", src, chart, err)
		}
	}
	for want, src := range map[string]Source{
		"the digest is":            {Ref: tgz, Digest: digestOf(nil)},
		"not redis 1.0.0":          {Ref: folder, Version: "1.0.0"},
		"can't be pinned":          {Ref: folder, Digest: digestOf(nil)},
		"holds no chart":           {Ref: t.TempDir()},
		"no such file":             {Ref: "nowhere.tgz"},
		"lacks a chart that it de": {Ref: withDependency(t)},
		"of type library":          {Ref: libraryChart(t)},
	} {
		if _, err := store.Fetch(t.Context(), src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", src, err, want)
		}
	}
}

func chartFolder(t *testing.T, chartYAML string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte(chartYAML), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func withDependency(t *testing.T) string {
	return chartFolder(t, "{apiVersion: v2, name: redis, version: 1.0.0, dependencies: [{name: common, version: 2.x.x}]}")
}

func libraryChart(t *testing.T) string {
	return chartFolder(t, "{apiVersion: v2, name: common, version: 1.0.0, type: library}")
}

// A folder's digest follows its files, and what was fetched does not follow the folder.
func TestFolderDigest(t *testing.T) {
	dir := chartFolder(t, "{apiVersion: v2, name: redis, version: 1.0.0}")
	store := NewStore(t.TempDir())
	fetch := func() *Chart {
		chart, err := store.Fetch(t.Context(), Source{Ref: dir})
		if err != nil {
			t.Fatal(err)
		}
		return chart
	}
	before := fetch()
	if again := fetch(); again.Digest != before.Digest {
		t.Errorf("digests %s and %s of the same folder", before.Digest, again.Digest)
	}
	if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte("a: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if after := fetch(); after.Digest == before.Digest {
		t.Error("the digest does not follow the files")
	}
	if loaded, err := before.load(); err != nil || len(loaded.Values) > 0 {
		t.Errorf("the chart changed under its user: %v, %v", loaded.Values, err)
	}
}
