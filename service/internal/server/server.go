// Package server runs the service: the API with its health endpoints on one
// port, the metrics on another, and a stop that loses no request.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pwdeploy/pwdeploy/service/internal/api"
	"github.com/pwdeploy/pwdeploy/service/internal/docs"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	// writeTimeout lets a slow client fetch the documentation's largest file,
	// some 450 kB.
	writeTimeout = 30 * time.Second
	// idleTimeout is longer than the 60 s for which ingress-nginx keeps a
	// connection, so that it is never the server that closes one in use.
	idleTimeout = 90 * time.Second
	// readyTimeout bounds the question behind /readyz; it is less than the one
	// second that a Kubernetes probe waits by default.
	readyTimeout = 800 * time.Millisecond
)

// Store is what the service needs of Redis.
type Store interface {
	api.Store
	Ping(ctx context.Context) error
}

// Options says how to run.
type Options struct {
	// Listen and MetricsListen are host:port; port 0 takes a free one.
	Listen, MetricsListen string
	// ShutdownDelay is how long to go on serving, unready, before draining:
	// time for load balancers to notice.
	ShutdownDelay time.Duration
	// DrainTimeout bounds the wait for requests that are under way.
	DrainTimeout time.Duration
	Version      string
	Store        Store
	Metrics      *Metrics
	Log          *slog.Logger
}

// Server is the service's two HTTP servers.
type Server struct {
	opts     Options
	api      *http.Server
	metrics  *http.Server
	stopping atomic.Bool
}

// New prepares a server; nothing listens before Run.
func New(opts Options) (*Server, error) {
	s := &Server{opts: opts}
	router := &api.Router{}
	if err := api.Register(router, opts.Store, opts.Version); err != nil {
		return nil, err
	}
	router.Register(http.MethodGet, "/healthz", http.HandlerFunc(s.healthz))
	router.Register(http.MethodGet, "/readyz", http.HandlerFunc(s.readyz))
	if err := docs.Register(router); err != nil {
		return nil, err
	}
	s.api = s.newHTTP(watch(router, opts.Metrics, opts.Log), api.MaxRequestBytes)
	s.metrics = s.newHTTP(opts.Metrics.handler(), 0)
	return s, nil
}

// newHTTP bounds everything that a client could draw out.
func (s *Server) newHTTP(handler http.Handler, maxHeaderBytes int) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
}

type health struct {
	Status string `json:"status"`
}

// healthz says that the process answers, Redis or not: a restart would not
// bring Redis back.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	api.WriteJSON(w, http.StatusOK, health{Status: "ok"})
}

// readyz says whether requests should be sent here.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if s.stopping.Load() {
		api.WriteError(w, http.StatusServiceUnavailable, "Shutting down")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.opts.Store.Ping(ctx); err != nil {
		api.WriteError(w, http.StatusServiceUnavailable, api.Unavailable(err))
		return
	}
	api.WriteJSON(w, http.StatusOK, health{Status: "ok"})
}

// Run serves until a signal arrives, then stops in order and returns nil. A
// second signal ends the waiting at once. It returns an error if it cannot
// listen or a server breaks.
func (s *Server) Run(ctx context.Context, signals <-chan os.Signal) error {
	apiListener, metricsListener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	broken := make(chan error, 2)
	go serve(s.api, apiListener, broken)
	go serve(s.metrics, metricsListener, broken)
	s.opts.Log.Info("serving", "version", s.opts.Version,
		"listen", apiListener.Addr().String(), "metrics", metricsListener.Addr().String())
	select {
	case err := <-broken:
		return errors.Join(err, s.api.Close(), s.metrics.Close())
	case received := <-signals:
		s.stop(ctx, received, signals)
		return nil
	}
}

func (s *Server) listen(ctx context.Context) (apiListener, metricsListener net.Listener, err error) {
	var config net.ListenConfig
	if apiListener, err = config.Listen(ctx, "tcp", s.opts.Listen); err != nil {
		return nil, nil, fmt.Errorf("--listen: %w", err)
	}
	if metricsListener, err = config.Listen(ctx, "tcp", s.opts.MetricsListen); err != nil {
		apiListener.Close()
		return nil, nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	return apiListener, metricsListener, nil
}

func serve(srv *http.Server, listener net.Listener, broken chan<- error) {
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		broken <- fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
}

// stop fails readiness, waits for load balancers to notice, and lets requests
// under way finish. An interrupt from a keyboard does not wait: nobody balances
// load onto a developer's terminal.
func (s *Server) stop(ctx context.Context, received os.Signal, signals <-chan os.Signal) {
	s.stopping.Store(true)
	delay := s.opts.ShutdownDelay
	if received != syscall.SIGTERM {
		delay = 0
	}
	s.opts.Log.Info("stopping: readiness fails from now on", "signal", received.String(), "delay", delay.String())
	drain, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-time.After(delay):
		go func() {
			select {
			case <-signals:
				cancel()
			case <-drain.Done():
			}
		}()
	case <-signals:
		cancel()
	}
	s.drain(drain)
}

// drain stops listening and waits for requests under way, until ctx ends or
// the drain timeout is over.
func (s *Server) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.DrainTimeout)
	defer cancel()
	if err := s.api.Shutdown(ctx); err != nil {
		s.opts.Log.Warn("stopped with requests still under way", "error", err)
		s.api.Close()
	}
	s.metrics.Close()
	s.opts.Log.Info("stopped")
}
