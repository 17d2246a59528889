package helm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
)

// packed gives the archive of a stand-in chart.
func packed(t *testing.T, name string) []byte {
	t.Helper()
	loaded, err := loader.LoadDir(filepath.Join("testdata", "charts", name))
	if err != nil {
		t.Fatal(err)
	}
	file, err := chartutil.Save(loaded, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// server is an https server that counts requests by path.
type server struct {
	*httptest.Server
	t  *testing.T
	mu sync.Mutex
	// handlers answer the requests for a path one after the other; the last one all further ones.
	handlers map[string][]http.HandlerFunc
	hits     map[string]int
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, handlers: map[string][]http.HandlerFunc{}, hits: map[string]int{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := s.hits[r.URL.Path]
	s.hits[r.URL.Path]++
	handlers := s.handlers[r.URL.Path]
	s.mu.Unlock()
	if len(handlers) == 0 {
		http.NotFound(w, r)
		return
	}
	handlers[min(n, len(handlers)-1)](w, r)
}

func (s *server) on(path string, handlers ...http.HandlerFunc) { s.handlers[path] = handlers }

func (s *server) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

func (s *server) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, hits := range s.hits {
		n += hits
	}
	return n
}

// store gives a Store that trusts the server and doesn't wait long.
func (s *server) store(dir string) *Store {
	store := NewStore(dir, WithTransport(s.Client().Transport))
	store.retry = retryPolicy{attempts: 3, first: time.Millisecond, longest: time.Second, total: time.Minute}
	store.stall = time.Minute
	return store
}

// registryHost is how oci references name the server.
func (s *server) registryHost() string { return strings.TrimPrefix(s.URL, "https://") }

func serve(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
}

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// truncate promises all of data, sends half and hangs up.
func truncate(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// stallAfter sends half of data and then nothing until the client goes away.
func stallAfter(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

// chartManifest is what a registry says of a chart.
func chartManifest(t *testing.T, archive []byte, edit func(*ociManifest)) []byte {
	t.Helper()
	m := ociManifest{
		Config: descriptor{MediaType: chartConfigType, Digest: digestOf([]byte("{}")), Size: 2},
		Layers: []descriptor{{MediaType: chartLayerType, Digest: digestOf(archive), Size: int64(len(archive))}},
	}
	if edit != nil {
		edit(&m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fakeRegistry serves a chart as oci://…/charts/<name>, by tag and by digest, to whoever has a token for it,
// and gives tokens to everybody, or to one user if there is one.
type fakeRegistry struct {
	*server
	name   string
	tokens []string // the credentials with which tokens were asked for
	user   string   // "name:password"; empty: everybody
}

func newRegistry(t *testing.T, name, tag string, manifest, archive []byte) *fakeRegistry {
	t.Helper()
	r := &fakeRegistry{server: newServer(t), name: name}
	base := "/v2/charts/" + name
	answer := r.withToken(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", manifestType)
		_, _ = w.Write(manifest)
	})
	r.on(base+"/manifests/"+tag, answer)
	r.on(base+"/manifests/"+digestOf(manifest), answer)
	r.on(base+"/blobs/"+digestOf(archive), r.withToken(serve(archive)))
	r.on("/token", r.giveToken)
	return r
}

func (r *fakeRegistry) withToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer sesame" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:charts/%s:pull"`, r.URL, r.name))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, req)
	}
}

func (r *fakeRegistry) giveToken(w http.ResponseWriter, req *http.Request) {
	name, password, _ := req.BasicAuth()
	given := name + ":" + password
	r.mu.Lock()
	r.tokens = append(r.tokens, given)
	r.mu.Unlock()
	if r.user != "" && given != r.user {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = w.Write([]byte(`{"token":"sesame"}`))
}

func (r *fakeRegistry) ref(name string) string {
	return "oci://" + r.registryHost() + "/charts/" + name
}
