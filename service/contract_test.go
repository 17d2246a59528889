package main

import (
	"net/http"
	"strings"
	"testing"
)

const asJSON = "application/json"

// row is one row of the service's contract.
type row struct {
	name         string
	set          map[string]string // what Redis holds before
	method, path string

	status  int
	body    string
	headers map[string]string // "" means absent
	holds   map[string]string // what Redis must hold afterwards
}

// contract is the table of README.md, row by row.
var contract = []row{
	{name: "the service says that it runs", method: "GET", path: "/pw",
		status: 200, body: `"Your redis crud server is running!"`},
	{name: "a slash too many redirects", method: "GET", path: "/pw/",
		status: 307, headers: map[string]string{"Location": "/pw", "Content-Type": ""}},
	{name: "create", method: "POST", path: "/pw/a/b",
		status: 200, body: `{"key":"a","value":"b"}`, holds: map[string]string{"a": "b"}},
	{name: "read", set: map[string]string{"a": "b"}, method: "GET", path: "/pw/a",
		status: 200, body: `"b"`},
	{name: "read a key that is not set", method: "GET", path: "/pw/nokey",
		status: 404, body: `{"detail":"Key not found"}`},
	{name: "delete", set: map[string]string{"a": "b"}, method: "DELETE", path: "/pw/a",
		status: 200, body: `1`, holds: map[string]string{}},
	{name: "delete a key that is not set", method: "DELETE", path: "/pw/a",
		status: 200, body: `0`},
	{name: "percent-encoded UTF-8", method: "POST", path: "/pw/x/%E2%82%AC",
		status: 200, body: `{"key":"x","value":"€"}`, holds: map[string]string{"x": "€"}},
	{name: "a space in a key", set: map[string]string{"k x": "v"}, method: "GET", path: "/pw/k%20x",
		status: 200, body: `"v"`},
	{name: "an encoded slash", method: "POST", path: "/pw/k/v%2Fy",
		status: 404, body: `{"detail":"Not Found"}`, holds: map[string]string{}},
	{name: "a method that a key does not have", method: "POST", path: "/pw/a",
		status: 405, body: `{"detail":"Method Not Allowed"}`, headers: map[string]string{"Allow": "DELETE, GET"}},
	{name: "a method that a pair does not have", method: "PUT", path: "/pw/a/b",
		status: 405, body: `{"detail":"Method Not Allowed"}`, headers: map[string]string{"Allow": "POST"}},
	{name: "the root", method: "GET", path: "/",
		status: 404, body: `{"detail":"Not Found"}`},
	{name: "an unknown path", method: "GET", path: "/nothing/here",
		status: 404, body: `{"detail":"Not Found"}`},
}

// corners are the answers that follow from the table's rules.
var corners = []row{
	{name: "create replaces", set: map[string]string{"a": "old"}, method: "POST", path: "/pw/a/new",
		status: 200, body: `{"key":"a","value":"new"}`, holds: map[string]string{"a": "new"}},
	{name: "UTF-8 in a key", method: "POST", path: "/pw/%C3%BC/v",
		status: 200, body: `{"key":"ü","value":"v"}`, holds: map[string]string{"ü": "v"}},
	{name: "a plus is a plus", method: "POST", path: "/pw/a+b/1+1",
		status: 200, body: `{"key":"a+b","value":"1+1"}`, holds: map[string]string{"a+b": "1+1"}},
	{name: "a query is ignored", method: "POST", path: "/pw/a/b?c=d",
		status: 200, body: `{"key":"a","value":"b"}`, holds: map[string]string{"a": "b"}},
	{name: "JSON's own characters", method: "POST", path: "/pw/%22%5C/%3C&%0A",
		status: 200, body: `{"key":"\"\\","value":"<&\n"}`, holds: map[string]string{`"\`: "<&\n"}},
	{name: "a percent sign", method: "POST", path: "/pw/100%25/%252F",
		status: 200, body: `{"key":"100%","value":"%2F"}`, holds: map[string]string{"100%": "%2F"}},
	{name: "dots are a key", method: "POST", path: "/pw/%2E%2E/up",
		status: 200, body: `{"key":"..","value":"up"}`, holds: map[string]string{"..": "up"}},
	{name: "an encoded slash in a key", set: map[string]string{"a/b": "c"}, method: "GET", path: "/pw/a%2fb",
		status: 404, body: `{"detail":"Not Found"}`},
	{name: "an encoded slash between two texts", method: "POST", path: "/pw/a%2Fb",
		status: 404, body: `{"detail":"Not Found"}`, holds: map[string]string{}},
	{name: "an empty key", method: "POST", path: "/pw//b",
		status: 404, body: `{"detail":"Not Found"}`, holds: map[string]string{}},
	{name: "an empty value", method: "POST", path: "/pw/a/",
		status: 307, headers: map[string]string{"Location": "/pw/a"}, holds: map[string]string{}},
	{name: "a redirect keeps escapes and query", method: "GET", path: "/pw/k%20x/?q=1",
		status: 307, headers: map[string]string{"Location": "/pw/k%20x?q=1"}},
	{name: "no redirect to another host", method: "GET", path: "//example.com/",
		status: 404, body: `{"detail":"Not Found"}`},
	{name: "too many segments", method: "POST", path: "/pw/a/b/c",
		status: 404, body: `{"detail":"Not Found"}`, holds: map[string]string{}},
	{name: "a method that the status does not have", method: "DELETE", path: "/pw",
		status: 405, body: `{"detail":"Method Not Allowed"}`, headers: map[string]string{"Allow": "GET"}},
	{name: "HEAD is GET without a body", set: map[string]string{"a": "b"}, method: "HEAD", path: "/pw/a",
		status: 200, headers: map[string]string{"Content-Length": "3"}},
	{name: "HEAD of a key that is not set", method: "HEAD", path: "/pw/a",
		status: 404, headers: map[string]string{"Content-Length": "26"}},
	{name: "bytes that are not UTF-8", method: "POST", path: "/pw/%FF/v",
		status: 422, body: `{"detail":"Key is not valid UTF-8"}`, holds: map[string]string{}},
	{name: "a value that is not UTF-8", method: "POST", path: "/pw/k/%C3",
		status: 422, body: `{"detail":"Value is not valid UTF-8"}`, holds: map[string]string{}},
	{name: "the longest key", method: "DELETE", path: "/pw/" + strings.Repeat("k", 8192),
		status: 200, body: `0`},
	{name: "a key too long", method: "GET", path: "/pw/" + strings.Repeat("k", 8193),
		status: 422, body: `{"detail":"Key is longer than 8192 bytes"}`},
	{name: "a value too long", method: "POST", path: "/pw/k/" + strings.Repeat("v", 65537),
		status: 422, body: `{"detail":"Value is longer than 65536 bytes"}`, holds: map[string]string{}},
	{name: "the longest value, every byte encoded", method: "POST", path: "/pw/k/" + strings.Repeat("%76", 65536),
		status: 200, body: `{"key":"k","value":"` + strings.Repeat("v", 65536) + `"}`},
	{name: "alive", method: "GET", path: "/healthz", status: 200, body: `{"status":"ok"}`},
	{name: "ready", method: "GET", path: "/readyz", status: 200, body: `{"status":"ok"}`},
	{name: "metrics are not on this port", method: "GET", path: "/metrics",
		status: 404, body: `{"detail":"Not Found"}`},
}

func TestContract(t *testing.T) { testRows(t, contract) }

func TestCorners(t *testing.T) { testRows(t, corners) }

func testRows(t *testing.T, rows []row) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			redisServer.do("", "FLUSHALL")
			for key, value := range r.set {
				redisServer.do("", "SET", key, value)
			}
			checkAnswer(t, r, svc.do(r.method, r.path))
			if r.holds != nil {
				checkHolds(t, redisServer, r.holds)
			}
		})
	}
}

func checkAnswer(t *testing.T, r row, got response) {
	t.Helper()
	if got.status != r.status || got.body != r.body {
		t.Errorf("got %d %.200s\nwant %d %.200s", got.status, got.body, r.status, r.body)
	}
	if _, set := r.headers["Content-Type"]; !set && r.status != http.StatusTemporaryRedirect {
		if contentType := got.header.Get("Content-Type"); contentType != asJSON {
			t.Errorf("content type: got %q, want %q", contentType, asJSON)
		}
	}
	for name, want := range r.headers {
		if value := got.header.Get(name); value != want {
			t.Errorf("%s: got %q, want %q", name, value, want)
		}
	}
}

func checkHolds(t *testing.T, redisServer *redisServer, want map[string]string) {
	t.Helper()
	if size := redisServer.do("", "DBSIZE"); size != int64(len(want)) {
		t.Errorf("Redis holds %d keys, want %d", size, len(want))
	}
	for key, value := range want {
		if got := redisServer.do("", "GET", key); got != value {
			t.Errorf("key %q holds %q, want %q", key, got, value)
		}
	}
}

func TestRequestLineIsBounded(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	got := svc.do("GET", "/pw/"+strings.Repeat("k", 1<<20))
	if got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want 431", got.status)
	}
}

func TestAnotherType(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	redisServer.do("", "RPUSH", "list", "x")
	svc.want("GET", "/pw/list", 409, `{"detail":"Key does not hold a string"}`)
	svc.want("GET", "/readyz", 200, `{"status":"ok"}`)
	svc.want("DELETE", "/pw/list", 200, `1`)
}
