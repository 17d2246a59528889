package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const goodConfig = "[redis]\nhost = \"127.0.0.1\"\nport = 6379\n"

// runToEnd runs the service and returns its exit code and streams.
func runToEnd(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := command(t, dir, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() }) //nolint:errcheck // the exit code tells
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// wantOneLine checks that a refusal to start is one clear line.
func wantOneLine(t *testing.T, stderr, want string) {
	t.Helper()
	if !strings.HasPrefix(stderr, "crudservice: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("want one line that begins with the program's name, got:\n%s", stderr)
	}
	if !strings.Contains(stderr, want) {
		t.Errorf("got %q, want it to say %q", stderr, want)
	}
}

func TestBrokenConfiguration(t *testing.T) {
	tests := []struct{ name, content, want string }{
		{"empty", "", `section [redis] is missing`},
		{"not INI", "host: x\nnonsense", `not an INI file`},
		{"unclosed section", "[redis\nhost = x", `not an INI file`},
		{"unclosed quote", "[redis]\nhost = \"x\nport = 1", `host "\"x" is neither`},
		{"no section", "host = x\nport = 1\n", `key "host" stands outside a section`},
		{"unknown section", goodConfig + "[http]\nport = 1\n", `unknown section [http]`},
		{"unknown empty section", goodConfig + "[http]\n", `unknown section [http]`},
		{"section in capitals", "[Redis]\nhost = x\nport = 1\n", `unknown section [Redis]`},
		{"unknown key", goodConfig + "prot = 1\n", `unknown key "prot" in [redis]; known are host, port`},
		{"password", goodConfig + "password = x\n", `unknown key "password"`},
		{"host missing", "[redis]\nport = 1\n", `key "host" is missing in [redis]`},
		{"host empty", "[redis]\nhost = \"\"\nport = 1\n", `key "host" in [redis] is empty`},
		{"host with port", "[redis]\nhost = redis:6379\nport = 1\n", `the port goes in a key of its own`},
		{"host as URL", "[redis]\nhost = redis://x\nport = 1\n", `neither a host name nor an IP address`},
		{"host twice", "[redis]\nhost = a\nhost = b\nport = 1\n", `key "host" is given more than once`},
		{"host twice alike", "[redis]\nhost = a\nhost = a\nport = 1\n", `key "host" is given more than once`},
		{"port missing", "[redis]\nhost = x\n", `key "port" is missing in [redis]`},
		{"port not a number", "[redis]\nhost = x\nport = http\n", `port "http" is not a number`},
		{"port with sign", "[redis]\nhost = x\nport = +1\n", `port "+1" is not a number`},
		{"port negative", "[redis]\nhost = x\nport = -1\n", `port "-1" is not a number`},
		{"port zero", "[redis]\nhost = x\nport = 0\n", `port 0 is out of range; it must be 1 to 65535`},
		{"port too big", "[redis]\nhost = x\nport = 65536\n", `port 65536 is out of range`},
		{"port absurd", "[redis]\nhost = x\nport = 99999999999999999999999\n", `is out of range`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := writeFile(t, filepath.Join(dir, "broken.cfg"), tt.content)
			code, _, stderr := runToEnd(t, dir, "--config", path)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			wantOneLine(t, stderr, tt.want)
			wantOneLine(t, stderr, path)
		})
	}
}

func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, filepath.Join(dir, "good.cfg"), goodConfig)
	empty := writeFile(t, filepath.Join(dir, "empty"), "\n")
	twoLines := writeFile(t, filepath.Join(dir, "two-lines"), "a\nb\n")
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"config missing", []string{"--config", "/nonexistent.cfg"}, "/nonexistent.cfg: no such file"},
		{"config a folder", []string{"--config", dir}, "is a directory"},
		{"password file missing", []string{"--config", good, "--password-file", "/nonexistent"}, "/nonexistent: no such file"},
		{"password file empty", []string{"--config", good, "--password-file", empty}, "is empty"},
		{"password file of two lines", []string{"--config", good, "--password-file", twoLines}, "more than one line"},
		{"unknown flag", []string{"--prot", "1"}, "-prot"},
		{"argument", []string{"serve"}, `unexpected argument "serve"`},
		{"listen without port", []string{"--listen", "localhost"}, `--listen: "localhost" is not host:port`},
		{"listen with a word", []string{"--listen", ":http"}, `--listen: "http" is not a port number`},
		{"metrics port too big", []string{"--metrics-listen", ":70000"}, `--metrics-listen: "70000"`},
		{"log level", []string{"--log-level", "loud"}, "log-level"},
		{"delay negative", []string{"--shutdown-delay", "-1s"}, "cannot be negative"},
		{"delay not a time", []string{"--drain-timeout", "soon"}, "drain-timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, _, stderr := runToEnd(t, dir, tt.args...)
			if code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			wantOneLine(t, stderr, tt.want)
		})
	}
}

func TestConfigFallback(t *testing.T) {
	if _, err := os.Stat("/etc/config/service.cfg"); err == nil {
		t.Skip("this machine has a /etc/config/service.cfg, which comes before ./service.cfg")
	}
	dir := t.TempDir()
	code, _, stderr := runToEnd(t, dir)
	if code != 2 {
		t.Errorf("without any file: exit code %d, want 2", code)
	}
	wantOneLine(t, stderr, "neither /etc/config/service.cfg nor ./service.cfg exists")

	writeFile(t, filepath.Join(dir, "service.cfg"), "[redis]\nhost = x\nport = here\n")
	_, _, stderr = runToEnd(t, dir)
	wantOneLine(t, stderr, `service.cfg: port "here" is not a number`)
	code, _, stderr = runToEnd(t, dir, "--config", "/etc/config/service.cfg")
	if code != 2 {
		t.Errorf("a named file must not fall back: exit code %d, want 2", code)
	}
	wantOneLine(t, stderr, "/etc/config/service.cfg: no such file")
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	cfg := writeFile(t, filepath.Join(dir, "good.cfg"), goodConfig)
	for _, name := range []string{"--listen", "--metrics-listen"} {
		code, _, stderr := runToEnd(t, dir, "--config", cfg, "--log-level", "error",
			"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", name, taken.Addr().String())
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		wantOneLine(t, stderr, name+": listen tcp "+taken.Addr().String())
	}
}

func TestVersionAndHelp(t *testing.T) {
	code, stdout, stderr := runToEnd(t, t.TempDir(), "--version")
	if code != 0 || !strings.HasPrefix(stdout, "crudservice dev go1.") || stderr != "" {
		t.Errorf("--version: %d %q %q", code, stdout, stderr)
	}
	code, stdout, stderr = runToEnd(t, t.TempDir(), "--help")
	if code != 0 || stderr != "" {
		t.Errorf("--help: %d %q", code, stderr)
	}
	for _, name := range []string{"listen", "metrics-listen", "config", "password-file", "log-level",
		"shutdown-delay", "drain-timeout", "check", "version"} {
		if !strings.Contains(stdout, "-"+name) {
			t.Errorf("--help does not mention --%s", name)
		}
	}
}

func TestCheck(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	if code, _, stderr := runToEnd(t, t.TempDir(), "--check", svc.base+"/readyz"); code != 0 {
		t.Errorf("ready: exit code %d: %s", code, stderr)
	}
	redisServer.stop()
	code, _, stderr := runToEnd(t, t.TempDir(), "--check", svc.base+"/readyz")
	if code != 1 {
		t.Errorf("not ready: exit code %d, want 1", code)
	}
	wantOneLine(t, stderr, "503")
}

// TestGracefulStop follows the order of a stop: readiness fails, requests are
// still served, the port closes, what is under way finishes, exit 0.
func TestGracefulStop(t *testing.T) {
	redisServer := startRedis(t)
	between := startProxy(t, redisServer.addr())
	const delay = time.Second
	svc := startService(t, between.listener.Addr().String(), "--shutdown-delay", delay.String())
	svc.want("POST", "/pw/a/b", 200, `{"key":"a","value":"b"}`)
	svc.want("GET", "/readyz", 200, ok)

	start := time.Now()
	svc.signal(syscall.SIGTERM)
	eventually(t, "readiness fails", func() bool { return svc.do("GET", "/readyz").status == 503 })
	svc.want("GET", "/readyz", 503, `{"detail":"Shutting down"}`)
	svc.want("GET", "/healthz", 200, ok)
	svc.want("GET", "/pw/a", 200, `"b"`)

	// A request that is under way when the port closes.
	between.slow(400 * time.Millisecond)
	time.Sleep(delay - 200*time.Millisecond - time.Since(start))
	got := svc.do("GET", "/pw/a")
	if finished := time.Since(start); finished < delay {
		t.Fatalf("the request finished after %s, before the drain began", finished)
	}
	if got.status != 200 || got.body != `"b"` {
		t.Errorf("the request under way got %d %s", got.status, got.body)
	}
	if _, err := svc.try("GET", "/healthz"); err == nil {
		t.Error("the port is still open")
	}
	svc.stop()
}

func TestDrainIsBounded(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr(), "--drain-timeout", "300ms")
	conn, err := net.Dial("tcp", strings.TrimPrefix(svc.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A request that never ends: its header is not finished.
	if _, err := conn.Write([]byte("GET /pw HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	svc.want("GET", "/healthz", 200, ok)
	start := time.Now()
	svc.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if !strings.Contains(svc.log.String(), "still under way") {
		t.Errorf("the log does not say that a request was cut:\n%s", svc.log.String())
	}
}

func TestImpatientStops(t *testing.T) {
	tests := []struct {
		name    string
		signals []os.Signal
	}{
		{"an interrupt does not wait", []os.Signal{os.Interrupt}},
		{"a second signal ends the waiting", []os.Signal{syscall.SIGTERM, syscall.SIGTERM}},
	}
	redisServer := startRedis(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := startService(t, redisServer.addr(), "--shutdown-delay", "1m")
			for i, sig := range tt.signals {
				if i > 0 {
					eventually(t, "the stop has begun", func() bool { return strings.Contains(svc.log.String(), "stopping") })
				}
				svc.signal(sig)
			}
			svc.stop()
		})
	}
}

func TestMetrics(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	svc.do("POST", "/pw/private-key/private-value")
	svc.do("GET", "/pw/private-key")
	svc.do("GET", "/pw/missing")
	svc.do("GET", "/private-path")
	svc.do("BREW", "/pw")
	redisServer.stop()
	svc.do("GET", "/pw/private-key")
	text := svc.scrape()
	for _, want := range []string{
		`crud_http_requests_total{code="200",method="POST",route="/pw/{key}/{value}"} 1`,
		`crud_http_requests_total{code="200",method="GET",route="/pw/{key}"} 1`,
		`crud_http_requests_total{code="404",method="GET",route="/pw/{key}"} 1`,
		`crud_http_requests_total{code="503",method="GET",route="/pw/{key}"} 1`,
		`crud_http_requests_total{code="404",method="GET",route="none"} 1`,
		`crud_http_requests_total{code="405",method="other",route="/pw"} 1`,
		`crud_http_request_duration_seconds_count{method="GET",route="/pw/{key}"} 3`,
		`crud_http_requests_in_flight 0`,
		`crud_redis_up 0`,
		`crud_redis_failures_total{reason="unreachable"} 1`,
		`crud_build_info{`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if both := text + svc.log.String(); strings.Contains(both, "private") {
		t.Error("a key, value or path is in the metrics or the log")
	}
}

var link = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

// TestPages loads both documentation pages and everything they name.
func TestPages(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	for _, page := range []string{"/docs", "/redoc"} {
		got := svc.do("GET", page)
		if got.status != 200 || got.header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %s", page, got.status, got.header.Get("Content-Type"))
		}
		links := link.FindAllStringSubmatch(got.body, -1)
		if len(links) < 4 {
			t.Errorf("%s names only %d files", page, len(links))
		}
		for _, match := range links {
			if target := match[1]; target != "data:," && svc.do("GET", target).status != http.StatusOK {
				t.Errorf("%s: %s is not served here", page, target)
			}
		}
	}
}
