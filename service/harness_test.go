package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// asService makes the test program behave as the service itself, so that the
// tests meet a real process with its signals and exit codes, built with the
// same race detector as they are.
const asService = "CRUDSERVICE_TEST_AS_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		main()
	}
	os.Exit(m.Run()) //nolint:forbidigo // this is a main
}

// patience bounds every wait for something that should happen at once.
const patience = 10 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not so after %s", what, patience)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// redisServer is a real redis-server that the test owns.
type redisServer struct {
	t    *testing.T
	port int
	cmd  *exec.Cmd
}

func newRedis(t *testing.T) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("these tests need a redis-server: apt-get install redis-server")
	}
	return &redisServer{t: t, port: freePort(t)}
}

func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	r := newRedis(t)
	r.start(args...)
	return r
}

func (r *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

func (r *redisServer) start(args ...string) {
	r.t.Helper()
	args = append([]string{"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--save", "", "--dir", r.t.TempDir()}, args...)
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.stop)
	eventually(r.t, "redis-server accepts connections", func() bool {
		conn, err := net.Dial("tcp", r.addr())
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func (r *redisServer) stop() {
	if r.cmd == nil {
		return
	}
	if err := r.cmd.Process.Kill(); err != nil {
		r.t.Error(err)
	}
	r.cmd.Wait() //nolint:errcheck // it was killed
	r.cmd = nil
}

// do runs one command as the administrator.
func (r *redisServer) do(password string, args ...any) any {
	r.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.addr(), Password: password})
	defer client.Close()
	result, err := client.Do(context.Background(), args...).Result()
	if err != nil {
		r.t.Fatalf("redis %v: %v", args, err)
	}
	return result
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// service is the service as a process.
type service struct {
	t             *testing.T
	cmd           *exec.Cmd
	base, metrics string
	log           lockedBuffer
	exited        chan struct{}
}

// command prepares the service with a working directory of its own.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asService+"=1")
	cmd.Dir = dir
	return cmd
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startService runs the service against a Redis address until the test ends,
// when it must exit with 0 on SIGTERM.
func startService(t *testing.T, redisAddr string, args ...string) *service {
	t.Helper()
	host, port, err := net.SplitHostPort(redisAddr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := writeFile(t, filepath.Join(dir, "test.cfg"), "[redis]\nhost = \""+host+"\"\nport = "+port+"\n")
	args = append([]string{"--config", cfg, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
		"--shutdown-delay", "0s", "--log-level", "debug"}, args...)
	s := &service{t: t, cmd: command(t, dir, args...), exited: make(chan struct{})}
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait() //nolint:errcheck // stop looks at the exit code
		close(s.exited)
	}()
	t.Cleanup(s.stop)
	s.findAddresses()
	return s
}

// findAddresses reads the free ports that the service took from its log.
func (s *service) findAddresses() {
	s.t.Helper()
	eventually(s.t, "the service says that it serves", func() bool {
		for lines := bufio.NewScanner(strings.NewReader(s.log.String())); lines.Scan(); {
			var line struct{ Msg, Listen, Metrics string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				s.base, s.metrics = "http://"+line.Listen, "http://"+line.Metrics+"/metrics"
				return true
			}
		}
		return false
	})
}

func (s *service) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the service and checks that it ended well.
func (s *service) stop() {
	select {
	case <-s.exited:
	default:
		s.signal(syscall.SIGTERM)
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.cmd.Process.Kill() //nolint:errcheck // the test has failed already
		s.t.Errorf("the service did not stop; its log:\n%s", s.log.String())
		return
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the service exited with %d; its log:\n%s", code, s.log.String())
	}
}

// response is an answer read to its end.
type response struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// direct follows no redirects and reuses no connections.
var direct = &http.Client{
	Timeout:       patience,
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (s *service) try(method, path string) (response, error) {
	request, err := http.NewRequest(method, s.base+path, nil)
	if err != nil {
		return response{}, err
	}
	start := time.Now()
	got, err := direct.Do(request)
	if err != nil {
		return response{}, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	return response{got.StatusCode, got.Header, string(body), time.Since(start)}, err
}

func (s *service) do(method, path string) response {
	s.t.Helper()
	got, err := s.try(method, path)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

// want checks one answer's status and body.
func (s *service) want(method, path string, status int, body string) response {
	s.t.Helper()
	got := s.do(method, path)
	if got.status != status || got.body != body {
		s.t.Fatalf("%s %s: got %d %s, want %d %s", method, path, got.status, got.body, status, body)
	}
	return got
}

func (s *service) scrape() string {
	s.t.Helper()
	got, err := http.Get(s.metrics)
	if err != nil {
		s.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// proxy stands between the service and Redis and can hold back what Redis says.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	delay    time.Duration
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &proxy{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.forward(conn, target)
		}
	}()
	return p
}

// slow holds back every further answer for d.
func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *proxy) forward(conn net.Conn, target string) {
	defer conn.Close()
	upstream, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() {
		io.Copy(upstream, conn) //nolint:errcheck // either side may go away
		upstream.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		time.Sleep(delay)
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}
