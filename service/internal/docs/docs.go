// Package docs serves the API's two documentation pages, Swagger UI and ReDoc,
// from files embedded in the program: they work where no CDN can be reached.
// update.sh renews the files.
package docs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed pages assets/*.gz
var files embed.FS

// policy allows a page its own server's files and nothing else. Both renderers
// set style attributes; ReDoc searches in a worker made from a blob.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes is fixed here because the standard library's table depends on
// files of the machine.
var contentTypes = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".txt": "text/plain; charset=utf-8",
}

// Registrar takes a handler for a method and a path.
type Registrar interface {
	Register(method, pattern string, handler http.Handler)
}

// Register adds /docs, /redoc and the files that they load.
func Register(router Registrar) error {
	pages := map[string]string{"/docs": "pages/swagger.html", "/redoc": "pages/redoc.html"}
	for pattern, name := range pages {
		body, err := files.ReadFile(name)
		if err != nil {
			return fmt.Errorf("embedded page: %w", err)
		}
		router.Register(http.MethodGet, pattern, page(body))
	}
	assets, err := load()
	if err != nil {
		return err
	}
	for name, a := range assets {
		router.Register(http.MethodGet, "/docs/assets/"+name, a)
	}
	return nil
}

func page(body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

// asset is one embedded file, kept compressed.
type asset struct {
	contentType string
	etag        string
	compressed  []byte
}

// load reads all assets, by the name that a page asks for.
func load() (map[string]*asset, error) {
	assets := map[string]*asset{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) == ".html" {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if path.Ext(name) != ".gz" {
			data = compress(data)
		}
		base := strings.TrimSuffix(path.Base(name), ".gz")
		assets[base] = newAsset(base, data)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("embedded documentation: %w", err)
	}
	return assets, nil
}

func newAsset(name string, compressed []byte) *asset {
	sum := sha256.Sum256(compressed)
	return &asset{
		contentType: contentTypes[path.Ext(name)],
		etag:        hex.EncodeToString(sum[:8]),
		compressed:  compressed,
	}
}

func compress(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data) //nolint:errcheck // a bytes.Buffer takes everything
	w.Close()
	return buf.Bytes()
}

// ServeHTTP sends the file compressed to whoever takes gzip, which is every
// browser, and plain to others.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Cache-Control", "no-cache")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		header.Set("ETag", `"`+a.etag+`-gz"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.compressed))
		return
	}
	plain, err := decompress(a.compressed)
	if err != nil {
		panic(err) // the embedded file is broken; the tests read every one
	}
	header.Set("ETag", `"`+a.etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(plain))
}

func decompress(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// acceptsGzip reads an Accept-Encoding header; "gzip;q=0" is a refusal.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(coding) == "gzip" {
			return !strings.HasPrefix(strings.ReplaceAll(quality, " ", ""), "q=0") || strings.ContainsAny(quality, "123456789")
		}
	}
	return false
}
