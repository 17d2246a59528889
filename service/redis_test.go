package main

import (
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	unavailable = `{"detail":"Redis is unavailable"}`
	refused     = `{"detail":"Redis refused the credentials"}`
	tooSlow     = `{"detail":"Redis did not answer in time"}`
	ok          = `{"status":"ok"}`
)

// quick is the time within which a request must fail whatever Redis does.
const quick = 2 * time.Second

func (s *service) wantQuickly(method, path string, status int, body string) {
	s.t.Helper()
	if got := s.want(method, path, status, body); got.took > quick {
		s.t.Fatalf("%s %s took %s, more than %s", method, path, got.took, quick)
	}
}

func (s *service) wantUnavailable(body string) {
	s.t.Helper()
	s.wantQuickly("GET", "/pw/a", 503, body)
	s.wantQuickly("POST", "/pw/a/b", 503, body)
	s.wantQuickly("DELETE", "/pw/a", 503, body)
	s.wantQuickly("GET", "/readyz", 503, body)
	s.wantQuickly("GET", "/healthz", 200, ok)
	s.wantQuickly("GET", "/pw", 200, `"Your redis crud server is running!"`)
}

func (s *service) wantRecovery() {
	s.t.Helper()
	eventually(s.t, "the service recovers by itself", func() bool {
		got, err := s.try("POST", "/pw/back/again")
		return err == nil && got.status == 200
	})
	s.want("GET", "/pw/back", 200, `"again"`)
	s.want("GET", "/readyz", 200, ok)
}

func TestRedisDownAtStart(t *testing.T) {
	redisServer := newRedis(t)
	svc := startService(t, redisServer.addr())
	svc.wantUnavailable(unavailable)
	redisServer.start()
	svc.wantRecovery()
}

func TestRedisGoesAwayAndComesBack(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	svc.want("POST", "/pw/a/b", 200, `{"key":"a","value":"b"}`)
	redisServer.stop()
	svc.wantUnavailable(unavailable)
	if got := svc.do("GET", "/pw/a").header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After: got %q, want 1", got)
	}
	if !strings.Contains(svc.scrape(), "crud_redis_up 0") {
		t.Error("the metrics do not say that Redis is down")
	}
	redisServer.start()
	svc.wantRecovery()
	if !strings.Contains(svc.scrape(), "crud_redis_up 1") {
		t.Error("the metrics do not say that Redis is up")
	}
	if log := svc.log.String(); strings.Count(log, "Redis answers again") != 1 {
		t.Errorf("the log should report the recovery once:\n%s", log)
	}
}

func TestRedisStandsStill(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	svc.want("POST", "/pw/a/b", 200, `{"key":"a","value":"b"}`)
	if err := redisServer.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	svc.wantUnavailable(tooSlow)
	if err := redisServer.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	svc.wantRecovery()
}

func TestRedisIsSlow(t *testing.T) {
	redisServer := startRedis(t)
	between := startProxy(t, redisServer.addr())
	svc := startService(t, between.listener.Addr().String())
	svc.want("POST", "/pw/a/b", 200, `{"key":"a","value":"b"}`)
	between.slow(200 * time.Millisecond)
	svc.want("GET", "/pw/a", 200, `"b"`)
	between.slow(5 * time.Second)
	svc.wantUnavailable(tooSlow)
	between.slow(0)
	svc.wantRecovery()
}

// TestSlowRedisUnderLoad has more requests waiting than there are connections.
func TestSlowRedisUnderLoad(t *testing.T) {
	redisServer := startRedis(t)
	between := startProxy(t, redisServer.addr())
	svc := startService(t, between.listener.Addr().String())
	between.slow(5 * time.Second)
	var wg sync.WaitGroup
	for range 150 {
		wg.Go(func() {
			if got, err := svc.try("GET", "/pw/a"); err != nil || got.status != 503 || got.took > quick {
				t.Errorf("got %+v, %v; want a 503 within %s", got, err, quick)
			}
		})
	}
	wg.Wait()
	between.slow(0)
	svc.wantRecovery()
}

// TestRestartUnderLoad wants nothing but contract answers while Redis restarts.
func TestRestartUnderLoad(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := svc.try("GET", "/pw/a")
				if err != nil || got.status != 404 && got.status != 503 {
					t.Errorf("got %+v, %v", got, err)
					return
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	redisServer.stop()
	time.Sleep(100 * time.Millisecond)
	redisServer.start()
	svc.wantRecovery()
	close(done)
	wg.Wait()
}

func TestPasswordFile(t *testing.T) {
	redisServer := startRedis(t, "--requirepass", "first-secret")
	file := writeFile(t, filepath.Join(t.TempDir(), "password"), "first-secret\n")
	svc := startService(t, redisServer.addr(), "--password-file", file)
	svc.want("POST", "/pw/a/b", 200, `{"key":"a","value":"b"}`)

	// The password changes, and the file with it: no request fails.
	redisServer.do("first-secret", "CONFIG", "SET", "requirepass", "second-secret")
	writeFile(t, file, "second-secret")
	redisServer.do("second-secret", "CLIENT", "KILL", "TYPE", "normal")
	svc.want("GET", "/pw/a", 200, `"b"`)

	// The file lags behind, as a mounted Secret does: 503 until it is there.
	redisServer.do("second-secret", "CONFIG", "SET", "requirepass", "third-secret")
	redisServer.do("third-secret", "CLIENT", "KILL", "TYPE", "normal")
	svc.wantUnavailable(refused)
	writeFile(t, file, "third-secret")
	svc.want("GET", "/pw/a", 200, `"b"`)
	svc.want("GET", "/readyz", 200, ok)
	if log := svc.log.String(); strings.Contains(log, "-secret") {
		t.Errorf("the log holds a password:\n%s", log)
	}
}

func TestPasswordFileVanishes(t *testing.T) {
	redisServer := startRedis(t, "--requirepass", "right")
	file := writeFile(t, filepath.Join(t.TempDir(), "password"), "wrong")
	svc := startService(t, redisServer.addr(), "--password-file", file)
	svc.wantUnavailable(refused)
	writeFile(t, file, "")
	svc.wantUnavailable(refused)
	if !strings.Contains(svc.log.String(), "cannot read the Redis password again") {
		t.Errorf("the log does not tell why:\n%s", svc.log.String())
	}
	writeFile(t, file, "right\r\n")
	svc.wantRecovery()
}

func TestNoPasswordWhereOneIsNeeded(t *testing.T) {
	redisServer := startRedis(t, "--requirepass", "secret")
	svc := startService(t, redisServer.addr())
	svc.wantUnavailable(refused)
	redisServer.do("secret", "CONFIG", "SET", "requirepass", "")
	svc.wantRecovery()
}

func TestPermissionTakenAndGiven(t *testing.T) {
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	redisServer.do("", "ACL", "SETUSER", "default", "-get")
	svc.wantQuickly("GET", "/pw/a", 503, refused)
	redisServer.do("", "ACL", "SETUSER", "default", "+@all")
	svc.want("GET", "/pw/a", 404, `{"detail":"Key not found"}`)
}

func TestWritesRefused(t *testing.T) {
	tests := []struct {
		name string
		make []any
		undo []any
		want string
	}{
		{"a replica", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"},
			`{"detail":"Redis does not accept writes"}`},
		{"no memory", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"},
			`{"detail":"Redis is out of memory"}`},
	}
	redisServer := startRedis(t)
	svc := startService(t, redisServer.addr())
	redisServer.do("", "SET", "a", "b")
	for _, tt := range tests {
		t.Run(tt.name, func(*testing.T) {
			redisServer.do("", tt.make...)
			svc.wantQuickly("POST", "/pw/c/d", 503, tt.want)
			svc.wantQuickly("GET", "/pw/a", 200, `"b"`)
			svc.wantQuickly("GET", "/readyz", 200, ok)
			redisServer.do("", tt.undo...)
			svc.want("POST", "/pw/c/d", 200, `{"key":"c","value":"d"}`)
		})
	}
}
