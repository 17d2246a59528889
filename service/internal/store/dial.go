package store

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds the question for Redis' address; what is left of
	// stepTimeout is for the connection.
	lookupTimeout = 200 * time.Millisecond
	// memory is for how long an address is taken for Redis' when nobody can be
	// asked: as long as a name server's restart, not so long that another's
	// address could have become of it.
	memory = 5 * time.Minute
)

// dialer connects to Redis and remembers where it was. A cluster's name server
// that restarts, or an answer that is lost, then costs no request.
type dialer struct {
	net.Dialer
	lookup func(ctx context.Context, host string) ([]string, error)

	mu    sync.Mutex
	known []string
	asked time.Time
}

func newDialer() *dialer {
	return &dialer{Dialer: net.Dialer{Timeout: stepTimeout}, lookup: net.DefaultResolver.LookupHost}
}

// dial connects to address, host:port; it is a go-redis dialer.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, each := range addresses {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(each, port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// resolve asks for the host's addresses, and takes the last known ones where
// there is no answer. A name that is said to be unknown is no answer either: a
// name server that has just started says so too, and when one of the questions
// for IPv4 and IPv6 is lost, that is what the resolver makes of the other.
func (d *dialer) resolve(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := d.lookup(ctx, host)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.known, d.asked = addresses, time.Now()
	} else if len(d.known) > 0 && time.Since(d.asked) < memory {
		return d.known, nil
	}
	return addresses, err
}
