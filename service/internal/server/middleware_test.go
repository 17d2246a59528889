package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPanicIsAnswered(t *testing.T) {
	var log bytes.Buffer
	broken := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("out of order") })
	metrics := NewMetrics("test")
	handler := watch(broken, metrics, slog.New(slog.NewTextHandler(&log, nil)))
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/pw/private", nil))
	if rec.Code != http.StatusInternalServerError || rec.Body.String() != `{"detail":"Internal Server Error"}` {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if !strings.Contains(log.String(), "out of order") || strings.Contains(log.String(), "private") {
		t.Errorf("the log should name the panic and no path:\n%s", log.String())
	}
	scraped := httptest.NewRecorder()
	metrics.handler().ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`code="500"`, "crud_http_requests_in_flight 0"} {
		if !strings.Contains(scraped.Body.String(), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// TestPanicAfterAnAnswer must not write a second answer into the first.
func TestPanicAfterAnAnswer(t *testing.T) {
	broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		panic("too late")
	})
	rec := httptest.NewRecorder()
	watch(broken, NewMetrics("test"), slog.New(slog.DiscardHandler)).
		ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if rec.Code != http.StatusOK || rec.Body.Len() != 0 {
		t.Errorf("got %d %q", rec.Code, rec.Body)
	}
}
