package docs

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// routes is a Registrar that looks handlers up by path.
type routes map[string]http.Handler

func (r routes) Register(_, pattern string, handler http.Handler) { r[pattern] = handler }

func register(t *testing.T) routes {
	t.Helper()
	r := routes{}
	if err := Register(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func fetch(handler http.Handler, path string, header http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header = header
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, request)
	return rec
}

var (
	absolute = regexp.MustCompile(`(?i)(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	cssURL   = regexp.MustCompile(`url\(\s*["']?([^"')]{0,20})`)
)

// TestOwnFilesNameNoOtherHost reads the files written here, where no address
// of another host has any business.
func TestOwnFilesNameNoOtherHost(t *testing.T) {
	all := register(t)
	for _, path := range []string{"/docs", "/redoc", "/docs/assets/swagger.js", "/docs/assets/redoc.js", "/docs/assets/redoc.css"} {
		if found := absolute.FindString(fetch(all[path], path, nil).Body.String()); found != "" {
			t.Errorf("%s names %s", path, found)
		}
	}
}

// TestBundlesLoadNothingFromElsewhere looks for the ways in which the bundles
// have been known to fetch from elsewhere. The content security policy forbids
// all of them; this keeps a page from depending on what is forbidden.
func TestBundlesLoadNothingFromElsewhere(t *testing.T) {
	for path, handler := range register(t) {
		body := fetch(handler, path, nil).Body.String()
		for _, host := range []string{"cdn.", "fonts.googleapis.com", "fonts.gstatic.com", "unpkg.com", "jsdelivr"} {
			if strings.Contains(body, "//"+host) {
				t.Errorf("%s names %s", path, host)
			}
		}
		if !strings.HasSuffix(path, ".css") {
			continue
		}
		for _, match := range cssURL.FindAllStringSubmatch(body, -1) {
			if !strings.HasPrefix(match[1], "data:") {
				t.Errorf("%s loads %s", path, match[1])
			}
		}
	}
	swagger := fetch(register(t)["/docs/assets/swagger.js"], "/", nil).Body.String()
	if !strings.Contains(swagger, "validatorUrl: null") {
		t.Error("Swagger UI would ask its public validator")
	}
}

func TestPolicy(t *testing.T) {
	all := register(t)
	for _, path := range []string{"/docs", "/redoc"} {
		got := fetch(all[path], path, nil).Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(got, "default-src 'none'; script-src 'self';") || absolute.MatchString(got) {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

func TestAssets(t *testing.T) {
	types := map[string]string{
		"swagger-ui-bundle.js":             "text/javascript; charset=utf-8",
		"swagger-ui.css":                   "text/css; charset=utf-8",
		"redoc.standalone.js":              "text/javascript; charset=utf-8",
		"swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
		"redoc.standalone.js.LICENSE.txt":  "text/plain; charset=utf-8",
	}
	all := register(t)
	for name, contentType := range types {
		t.Run(name, func(t *testing.T) {
			path := "/docs/assets/" + name
			if all[path] == nil {
				t.Fatal("not served")
			}
			plain := fetch(all[path], path, nil)
			if got := plain.Header().Get("Content-Type"); got != contentType {
				t.Errorf("content type %q, want %q", got, contentType)
			}
			packed := fetch(all[path], path, http.Header{"Accept-Encoding": {"br, gzip"}})
			if packed.Header().Get("Content-Encoding") != "gzip" {
				t.Error("not compressed for a browser")
			}
			if !bytes.Equal(unzip(t, packed.Body), plain.Body.Bytes()) || plain.Body.Len() == 0 {
				t.Error("compressed and plain differ")
			}
			again := fetch(all[path], path, http.Header{"If-None-Match": {plain.Header().Get("ETag")}})
			if again.Code != http.StatusNotModified {
				t.Errorf("with its ETag: %d, want 304", again.Code)
			}
		})
	}
}

func unzip(t *testing.T, in io.Reader) []byte {
	t.Helper()
	r, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAcceptsGzip(t *testing.T) {
	tests := map[string]bool{
		"": false, "gzip": true, "deflate, gzip;q=0.5": true, "gzip;q=0": false,
		"gzip; q=0.0": false, "gzip;q=0.01": true, "br": false, "gzipped": false,
	}
	for header, want := range tests {
		if got := acceptsGzip(header); got != want {
			t.Errorf("%q: got %t", header, got)
		}
	}
}
