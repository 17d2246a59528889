package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Router finds the handler of a request by whole path segments. The standard
// library's mux would redirect "//" and ".." away, which are or hold keys
// here, and answers 404 and 405 in plain text; the service's contract wants
// the answers of the framework that it was first written with. A Router is
// safe for concurrent use once all handlers are registered.
type Router struct {
	routes []*route
}

// route is a path such as /pw/{key} with a handler a method.
type route struct {
	pattern  string
	segments []string
	methods  map[string]http.Handler
}

var _ huma.Adapter = (*Router)(nil)

// Handle registers an operation; it makes a Router a huma.Adapter.
func (rt *Router) Handle(op *huma.Operation, handler func(huma.Context)) {
	rt.Register(op.Method, op.Path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	}))
}

// Register adds a handler for a method and a pattern, whose segments are fixed
// or, as in {name}, match any non-empty one. Patterns must not overlap. A GET
// handler answers HEAD as well.
func (rt *Router) Register(method, pattern string, handler http.Handler) {
	for _, known := range rt.routes {
		if known.pattern == pattern {
			known.methods[method] = handler
			return
		}
	}
	rt.routes = append(rt.routes, &route{
		pattern:  pattern,
		segments: strings.Split(pattern[1:], "/"),
		methods:  map[string]http.Handler{method: handler},
	})
}

// ServeHTTP answers 404 for an unknown path, 307 for a known one with a slash
// behind it, 405 for a method the path does not have, and otherwise what the
// handler says. The request's Pattern is set to the route's, for logs and
// metrics.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if hasEncodedSlash(r) {
		WriteError(w, http.StatusNotFound, "Not Found")
		return
	}
	found := rt.match(path)
	if found == nil {
		rt.redirectOrNotFound(w, r)
		return
	}
	r.Pattern = found.pattern
	handler := found.handler(r.Method)
	if handler == nil {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(found.methods)), ", "))
		WriteError(w, http.StatusMethodNotAllowed, "Method Not Allowed")
		return
	}
	found.setPathValues(r)
	handler.ServeHTTP(w, r)
}

// hasEncodedSlash finds the one character that a key or value cannot hold:
// decoded it would be taken for the slash between the two.
func hasEncodedSlash(r *http.Request) bool {
	return strings.Contains(r.URL.RawPath, "%2F") || strings.Contains(r.URL.RawPath, "%2f")
}

func (rt *Router) redirectOrNotFound(w http.ResponseWriter, r *http.Request) {
	trimmed := strings.TrimRight(r.URL.Path, "/")
	if trimmed == r.URL.Path || rt.match(trimmed) == nil {
		WriteError(w, http.StatusNotFound, "Not Found")
		return
	}
	target := strings.TrimRight(r.URL.EscapedPath(), "/")
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func (rt *Router) match(path string) *route {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	for _, candidate := range rt.routes {
		if candidate.matches(path[1:]) {
			return candidate
		}
	}
	return nil
}

func (rt *route) matches(path string) bool {
	for i, want := range rt.segments {
		segment, rest, more := strings.Cut(path, "/")
		if more != (i < len(rt.segments)-1) || segment == "" {
			return false
		}
		if segment != want && !isParameter(want) {
			return false
		}
		path = rest
	}
	return true
}

func (rt *route) handler(method string) http.Handler {
	if method == http.MethodHead && rt.methods[method] == nil {
		method = http.MethodGet
	}
	return rt.methods[method]
}

func (rt *route) setPathValues(r *http.Request) {
	path := r.URL.Path[1:]
	for _, name := range rt.segments {
		segment, rest, _ := strings.Cut(path, "/")
		if isParameter(name) {
			r.SetPathValue(name[1:len(name)-1], segment)
		}
		path = rest
	}
}

func isParameter(segment string) bool {
	return strings.HasPrefix(segment, "{")
}
