package api

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const golden = "testdata/openapi.json"

// memory is a Store that always works.
type memory map[string]string

func (m memory) Get(_ context.Context, key string) (string, error) { return m[key], nil }

func (m memory) Set(_ context.Context, key, value string) error {
	m[key] = value
	return nil
}

func (m memory) Delete(context.Context, string) (int64, error) { return 0, nil }

func newRouter(t *testing.T) *Router {
	t.Helper()
	router := &Router{}
	if err := Register(router, memory{}, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	return router
}

func get(handler http.Handler, target string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, target, nil))
	return rec
}

func TestOpenAPIDocument(t *testing.T) {
	rec := get(newRouter(t), "/openapi.json")
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d %s", rec.Code, rec.Header().Get("Content-Type"))
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, rec.Body.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.WriteFile(golden, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("the document differs from %s (-update writes it anew):\n%s", golden, diff)
	}
}

// TestDocumentIsWhole checks what the golden file alone does not: there are
// the four operations and no others, and every reference leads somewhere.
func TestDocumentIsWhole(t *testing.T) {
	body := get(newRouter(t), "/openapi.json").Body.Bytes()
	var doc struct {
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			got[method+" "+path] = true
		}
	}
	want := map[string]bool{"get /pw": true, "post /pw/{key}/{value}": true, "get /pw/{key}": true, "delete /pw/{key}": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations: %s", diff)
	}
	for _, part := range strings.Split(string(body), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("the document refers to the schema %s, which it does not hold", name)
		}
	}
}

func TestAcceptHeaderChangesNothing(t *testing.T) {
	for _, accept := range []string{"", "*/*", "text/html", "application/cbor", "application/problem+json"} {
		request := httptest.NewRequest(http.MethodPost, "/pw/a/b", nil)
		request.Header.Set("Accept", accept)
		rec := httptest.NewRecorder()
		newRouter(t).ServeHTTP(rec, request)
		if rec.Header().Get("Content-Type") != "application/json" || rec.Body.String() != `{"key":"a","value":"b"}` {
			t.Errorf("Accept %q: %s %s", accept, rec.Header().Get("Content-Type"), rec.Body)
		}
	}
}

func TestBodyIsIgnored(t *testing.T) {
	rec := httptest.NewRecorder()
	newRouter(t).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/pw/a/b", strings.NewReader("{not json")))
	if rec.Code != http.StatusOK {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

func FuzzRouter(f *testing.F) {
	for _, seed := range []string{"/", "/pw", "/pw/", "/pw/a", "/pw/a/b", "//", "/pw//b", "/pw/%2F", "/pw/../x", "/pw/%00"} {
		f.Add(seed)
	}
	router := &Router{}
	if err := Register(router, memory{}, "1"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		request, err := http.NewRequest(http.MethodPost, "http://x"+path, nil)
		if err != nil || request.URL.Host != "x" {
			return
		}
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, request)
		if location := rec.Header().Get("Location"); strings.HasPrefix(location, "//") {
			t.Errorf("%q redirects to another host: %s", path, location)
		}
		if rec.Code == http.StatusOK && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%q is answered by %q", path, rec.Body)
		}
	})
}
