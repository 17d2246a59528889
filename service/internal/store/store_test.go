package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parrot is a Redis that answers every command with the same line. It shows
// states that a real one cannot be brought into at will.
func parrot(t *testing.T, line string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go repeat(conn, line)
		}
	}()
	return listener.Addr().String()
}

// repeat reads commands, arrays of bulk strings, and answers each with line.
func repeat(conn net.Conn, line string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var words, length int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		for range words {
			if _, err := fmt.Fscanf(in, "$%d\r\n", &length); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, in, int64(length)+2); err != nil {
				return
			}
		}
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			return
		}
	}
}

// outcome is an Observer that remembers.
type outcome struct {
	up     bool
	reason Reason
}

func (o *outcome) RedisUp(up bool)           { o.up = up }
func (o *outcome) RedisFailed(reason Reason) { o.reason = reason }

func open(t *testing.T, addr string, log io.Writer) (*Redis, *outcome) {
	t.Helper()
	seen := &outcome{}
	r, err := Open(Options{Addr: addr, Log: slog.New(slog.NewTextHandler(log, nil)), Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, seen
}

func TestReplies(t *testing.T) {
	tests := []struct {
		reply string
		want  Reason
		up    bool
	}{
		{"-LOADING Redis is loading the dataset in memory", Loading, false},
		{"-NOAUTH Authentication required.", Refused, false},
		{"-WRONGPASS invalid username-password pair or user is disabled.", Refused, false},
		{"-NOPERM this user has no permissions to run the 'get' command", Refused, false},
		{"-READONLY You can't write against a read only replica.", ReadOnly, true},
		{"-MISCONF Redis is configured to save RDB snapshots", ReadOnly, true},
		{"-NOREPLICAS Not enough good replicas to write.", ReadOnly, true},
		{"-OOM command not allowed when used memory > 'maxmemory'.", OutOfMemory, true},
		{"-BUSY Redis is busy running a script.", Busy, false},
		{"-ERR max number of clients reached", Busy, false},
		{"-ERR unknown command 'get', with args beginning with: 'private'", Failed, false},
		{"-MASTERDOWN Link with MASTER is down", Failed, false},
	}
	for _, tt := range tests {
		t.Run(tt.reply, func(t *testing.T) {
			var log bytes.Buffer
			r, seen := open(t, parrot(t, tt.reply), &log)
			seen.up = true
			_, err := r.Get(context.Background(), "private")
			var unavailable *UnavailableError
			if !errors.As(err, &unavailable) || unavailable.Reason != tt.want {
				t.Fatalf("got %v, want reason %s", err, tt.want)
			}
			if seen.reason != tt.want || seen.up != tt.up {
				t.Errorf("the observer saw %+v, want %s, up %t", *seen, tt.want, tt.up)
			}
			if text := log.String() + err.Error(); strings.Contains(text, "private") {
				t.Errorf("an argument is in the log or the error: %s", text)
			}
		})
	}
}

// TestNameUnknown: a name that nobody knows is told apart from a Redis that is away.
func TestNameUnknown(t *testing.T) {
	err := classify(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "redis.invalid", IsNotFound: true}})
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || unavailable.Reason != NameUnknown {
		t.Errorf("got %v", err)
	}
	err = classify(&net.DNSError{Err: "i/o timeout", Name: "redis.invalid", IsTimeout: true})
	if !errors.As(err, &unavailable) || unavailable.Reason != NameUnknown {
		t.Errorf("a name server that does not answer: got %v", err)
	}
}

func TestWrongTypeIsNotAFailure(t *testing.T) {
	r, seen := open(t, parrot(t, "-WRONGTYPE Operation against a key holding the wrong kind of value"), io.Discard)
	if _, err := r.Get(context.Background(), "k"); !errors.Is(err, ErrWrongType) {
		t.Errorf("got %v, want ErrWrongType", err)
	}
	if !seen.up || seen.reason != "" {
		t.Errorf("the observer saw %+v, want Redis up and no failure", *seen)
	}
}

// TestCallerGone wants nothing counted against Redis when a client hangs up.
func TestCallerGone(t *testing.T) {
	r, seen := open(t, parrot(t, "+OK"), io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if seen.reason != "" {
		t.Errorf("counted as %s", seen.reason)
	}
}

func TestFailuresAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	r, _ := open(t, parrot(t, "-LOADING x"), &log)
	for range 5 {
		r.Ping(context.Background()) //nolint:errcheck // the log is looked at
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 {
		t.Errorf("five failures of a kind made %d lines:\n%s", lines, log.String())
	}
}

func TestReadPassword(t *testing.T) {
	tests := []struct{ name, content, want, err string }{
		{"plain", "secret", "secret", ""},
		{"newline", "secret\n", "secret", ""},
		{"Windows newline", "secret\r\n", "secret", ""},
		{"spaces are part of it", " se cret ", " se cret ", ""},
		{"empty", "", "", "is empty"},
		{"only a newline", "\n", "", "is empty"},
		{"two lines", "secret\nsecret", "", "more than one line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readPassword(path)
			if got != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %q, want %q and no password", err, tt.err)
			}
		})
	}
}
