// Package store keeps the service's keys in Redis. It bounds every call in
// time, reads the password again when Redis refuses it, and turns whatever
// Redis or the network answers into a few errors that a caller can act on.
package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// callTimeout bounds one call altogether: waiting for a connection,
	// dialling, and the renewal of a refused password included.
	callTimeout = time.Second
	// stepTimeout bounds getting a connection: waiting for one, and dialling. A
	// command is sent once, so its answer may take what is left of callTimeout.
	stepTimeout = 500 * time.Millisecond
	// poolSize is the number of connections one replica may hold.
	poolSize = 64
	// bufferSize is a connection's read and write buffer, in bytes. Values are
	// small; the library's 32 KiB twice a connection would cost 4 MiB.
	bufferSize = 8 << 10
	// idleTime lets connections go that a burst has left behind.
	idleTime = 5 * time.Minute
)

// Observer is told how Redis fares; the metrics listen to it. It must be safe
// for concurrent use.
type Observer interface {
	// RedisUp is called after every call that shows whether Redis answers.
	RedisUp(up bool)
	// RedisFailed is called for every failed call.
	RedisFailed(reason Reason)
}

// Options says which Redis, and who wants to know.
type Options struct {
	// Addr is host:port.
	Addr string
	// PasswordFile holds the password; empty means that none is sent.
	PasswordFile string
	Log          *slog.Logger
	Observer     Observer
}

// Redis is a client of one Redis. It is safe for concurrent use.
type Redis struct {
	opts    Options
	current atomic.Pointer[link]
	renewMu sync.Mutex
	health  health
	dialer  *dialer
}

// link is a pool of connections that were all made with one password.
type link struct {
	client   *redis.Client
	password string
}

// Open reads the password file and prepares a client. It does not wait for
// Redis: a service that starts before its Redis becomes ready when Redis does.
func Open(opts Options) (*Redis, error) {
	r := &Redis{opts: opts, dialer: newDialer(), health: health{log: opts.Log, observer: opts.Observer}}
	password := ""
	if opts.PasswordFile != "" {
		var err error
		if password, err = readPassword(opts.PasswordFile); err != nil {
			return nil, err
		}
	}
	r.current.Store(r.connect(password))
	return r, nil
}

// Close drops all connections.
func (r *Redis) Close() error {
	return r.current.Load().client.Close()
}

// Get returns the value of key, or ErrNotFound, or ErrWrongType where the key
// holds something else than a string.
func (r *Redis) Get(ctx context.Context, key string) (string, error) {
	var value string
	err := r.call(ctx, func(ctx context.Context, c *redis.Client) (err error) {
		value, err = c.Get(ctx, key).Result()
		return err
	})
	return value, err
}

// Set stores value under key, for ever, whatever was there before.
func (r *Redis) Set(ctx context.Context, key, value string) error {
	return r.call(ctx, func(ctx context.Context, c *redis.Client) error {
		return c.Set(ctx, key, value, 0).Err()
	})
}

// Delete removes key and returns how many keys that were: 1 or 0.
func (r *Redis) Delete(ctx context.Context, key string) (int64, error) {
	var removed int64
	err := r.call(ctx, func(ctx context.Context, c *redis.Client) (err error) {
		removed, err = c.Del(ctx, key).Result()
		return err
	})
	return removed, err
}

// Ping returns nil if Redis answers.
func (r *Redis) Ping(ctx context.Context) error {
	return r.call(ctx, func(ctx context.Context, c *redis.Client) error {
		return c.Ping(ctx).Err()
	})
}

// call runs fn against the current link, and once more if Redis refused the
// password and there is a new one.
func (r *Redis) call(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	used := r.current.Load()
	err := fn(bounded, used.client)
	if refused(err) && r.renew(used) {
		err = fn(bounded, r.current.Load().client)
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // the caller went away; that says nothing about Redis
	}
	err = classify(err)
	r.health.note(err)
	return err
}

// renew replaces the link that Redis refused if the password file has changed
// since, and says whether there is a newer link than used.
func (r *Redis) renew(used *link) bool {
	r.renewMu.Lock()
	defer r.renewMu.Unlock()
	if r.current.Load() != used {
		return true
	}
	if r.opts.PasswordFile == "" {
		return false
	}
	password, err := readPassword(r.opts.PasswordFile)
	if err != nil {
		r.health.warn("password", "cannot read the Redis password again", err)
		return false
	}
	if password == used.password {
		return false
	}
	r.opts.Log.Info("Redis refused the password; going on with the new one from its file")
	r.current.Store(r.connect(password))
	// Calls that are under way on the old link may finish.
	time.AfterFunc(2*callTimeout, func() { used.client.Close() })
	return true
}

// connect prepares a link; nothing is dialled before the first call.
func (r *Redis) connect(password string) *link {
	return &link{password: password, client: redis.NewClient(&redis.Options{
		Addr:     r.opts.Addr,
		Password: password,
		// RESP3's push messages and the client's self-description are of no
		// use here and cost round trips.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// A command is sent once. Repeating a DELETE whose answer was lost would
		// report 0 for a key that was there; who gets a 503 decides.
		MaxRetries:            -1,
		DialerRetries:         1,
		Dialer:                r.dialer.dial,
		DialTimeout:           stepTimeout,
		ReadTimeout:           callTimeout,
		WriteTimeout:          callTimeout,
		PoolTimeout:           stepTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              poolSize,
		MaxActiveConns:        poolSize,
		ConnMaxIdleTime:       idleTime,
		ReadBufferSize:        bufferSize,
		WriteBufferSize:       bufferSize,
		PipelinePoolSize:      -1,
	})}
}
