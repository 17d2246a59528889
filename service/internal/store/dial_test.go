package store

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// TestNameServerAway: a name that was once resolved is still dialled while the name server is silent, refuses or
// says that there is no such name, for a while.
func TestNameServerAway(t *testing.T) {
	_, port, err := net.SplitHostPort(parrot(t, "+PONG"))
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("redis.test", port)
	known := func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	silent := func(ctx context.Context, _ string) ([]string, error) {
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), IsTimeout: true}
	}
	refuses := func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "connection refused", IsTemporary: true}
	}
	unknown := func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	d := newDialer()
	steps := []struct {
		name   string
		lookup func(context.Context, string) ([]string, error)
		ok     bool
	}{
		{"silent from the start", silent, false},
		{"answers", known, true},
		{"refuses", refuses, true},
		{"silent", silent, true},
		{"does not know the name", unknown, true},
	}
	for _, step := range steps {
		d.lookup = step.lookup
		conn, err := d.dial(context.Background(), "tcp", address)
		if (err == nil) != step.ok {
			t.Errorf("%s: got %v, want a connection: %t", step.name, err, step.ok)
		}
		if err == nil {
			conn.Close()
		}
	}
	d.known, d.asked, d.lookup = []string{"127.0.0.1"}, time.Now().Add(-memory), refuses
	var failed *net.DNSError
	if _, err := d.dial(context.Background(), "tcp", address); !errors.As(err, &failed) {
		t.Errorf("an address from long ago was dialled: %v", err)
	}
}
