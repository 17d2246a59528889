package helm

import (
	"context"
	"errors"
	"net/http"
)

// Store fetches charts and keeps them on disk.
type Store struct {
	dir       string
	transport http.RoundTripper
}

// StoreOption changes how a Store works.
type StoreOption func(*Store)

// WithTransport makes the Store send its requests through rt instead of a transport of its own that
// honours HTTPS_PROXY, NO_PROXY and the system's certificates. It is a seam for tests.
func WithTransport(rt http.RoundTripper) StoreOption { return func(s *Store) { s.transport = rt } }

// NewStore makes a Store that keeps charts in dir, which need not exist.
func NewStore(dir string, opts ...StoreOption) *Store {
	s := &Store{dir: dir}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Chart is a chart that was fetched and verified. It does not change and may be used concurrently.
type Chart struct {
	Name, Version, AppVersion string
	Digest                    string // what Source.Digest pins; for a folder, of its files
	Origin                    string // where it came from, without credentials
	Cached                    bool   // it was on disk: nothing was fetched
	// CacheErr says why the chart could not be kept on disk: it will be fetched again next time. The
	// chart itself is sound.
	CacheErr error
}

// Fetch gives the chart that src names.
func (s *Store) Fetch(_ context.Context, src Source) (*Chart, error) {
	return nil, &FetchError{Source: src, Err: errors.ErrUnsupported}
}
