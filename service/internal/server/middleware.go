package server

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/pwdeploy/pwdeploy/service/internal/api"
)

// unmatched is the route of a request that no route matches.
const unmatched = "none"

// watch counts and logs every request and survives a handler's panic. The log
// names the route, not the path, because keys and values are in the path.
func watch(next http.Handler, m *Metrics, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		m.inFlight.Inc()
		rec := &recorder{ResponseWriter: w}
		callSafely(next, rec, r, log)
		m.inFlight.Dec()
		took, method, route := time.Since(start), methodLabel(r.Method), routeLabel(r.Pattern)
		m.answered(method, route, rec.statusCode(), took)
		log.LogAttrs(r.Context(), slog.LevelDebug, "request",
			slog.String("method", method), slog.String("route", route),
			slog.Int("status", rec.statusCode()), slog.Int64("bytes", rec.bytes),
			slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("remote", r.RemoteAddr))
	})
}

// callSafely answers 500 where the handler panics before it has answered.
func callSafely(next http.Handler, rec *recorder, r *http.Request, log *slog.Logger) {
	defer func() {
		if panicked := recover(); panicked != nil {
			survive(panicked, rec, log)
		}
	}()
	next.ServeHTTP(rec, r)
}

func survive(panicked any, rec *recorder, log *slog.Logger) {
	log.Error("a request ended in a panic", "panic", panicked, "stack", string(debug.Stack()))
	if rec.status == 0 {
		api.WriteError(rec, http.StatusInternalServerError, "Internal Server Error")
	}
}

func routeLabel(pattern string) string {
	if pattern == "" {
		return unmatched
	}
	return pattern
}

// methodLabel keeps made-up methods from making up time series.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "other"
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader notes the first status and passes it on.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write counts the body's bytes and passes them on.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) statusCode() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
