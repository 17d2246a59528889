package helm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Store fetches charts and keeps them on disk, content addressed: a chart that was fetched once needs no
// network any more. What lies there is verified at every use; what is damaged is fetched again. Several
// Stores and processes may share a folder.
//
// A Source without a digest is trusted on first use: the digest that arrives is remembered under the
// reference and version, and another one is refused from then on, until the Source pins the digest that
// is wanted.
type Store struct {
	blobs     blobs
	seen      seen
	transport http.RoundTripper
	log       *slog.Logger
	retry     retryPolicy
	stall     time.Duration

	mu    sync.Mutex
	locks map[string]chan struct{}
}

// StoreOption changes how a Store works.
type StoreOption func(*Store)

// WithTransport makes the Store send its requests through rt. Without it they go through a transport of
// its own that honours HTTPS_PROXY, NO_PROXY and the system's certificates (SSL_CERT_FILE where Go reads
// it).
func WithTransport(rt http.RoundTripper) StoreOption { return func(s *Store) { s.transport = rt } }

// WithLog makes the Store log what it does, at debug level.
func WithLog(l *slog.Logger) StoreOption { return func(s *Store) { s.log = l } }

// NewStore makes a Store that keeps charts in dir, which need not exist.
func NewStore(dir string, opts ...StoreOption) *Store {
	s := &Store{
		blobs:     newBlobs(dir),
		seen:      newSeen(dir),
		transport: newTransport(),
		log:       slog.New(slog.DiscardHandler),
		retry:     defaultRetry,
		stall:     30 * time.Second,
		locks:     map[string]chan struct{}{},
	}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Fetch gives the chart that src names, from the disk if it is there. What goes wrong is a *FetchError;
// it wraps a *DigestError, *VersionError or *StatusError where that is the cause.
func (s *Store) Fetch(ctx context.Context, src Source) (*Chart, error) {
	chart, err := s.fetch(ctx, src)
	if err != nil {
		return nil, &FetchError{Source: src, Advice: advice(err), Err: err}
	}
	return chart, nil
}

func (s *Store) fetch(ctx context.Context, src Source) (*Chart, error) {
	kind, err := src.kind()
	if err != nil {
		return nil, err
	}
	switch kind {
	case kindFolder:
		return folderChart(src)
	case kindArchive:
		return localArchive(src)
	default:
		return s.fetchRemote(ctx, src, kind)
	}
}

func (s *Store) fetchRemote(ctx context.Context, src Source, kind kind) (*Chart, error) {
	unlock, err := s.lock(ctx, src.key())
	if err != nil {
		return nil, err
	}
	defer unlock()

	want := src.Digest
	if want == "" {
		want = s.seen.digest(src)
	}
	if archive := s.cached(kind, want); archive != nil {
		s.log.DebugContext(ctx, "the chart is on disk", "chart", src.String(), "digest", want)
		return newChart(src, want, archive, true)
	}
	got, err := s.download(ctx, src, kind)
	if err != nil {
		return nil, err
	}
	if want != "" && got.digest != want {
		return nil, &DigestError{Want: want, Got: got.digest, Remembered: src.Digest == ""}
	}
	chart, err := newChart(src, got.digest, got.archive, false)
	if err != nil {
		return nil, err
	}
	chart.CacheErr = s.keep(src, got)
	return chart, nil
}

// cached gives the archive that belongs to a digest, or nil. For oci the digest is the manifest's, which
// names the archive's.
func (s *Store) cached(kind kind, digest string) []byte {
	if digest == "" {
		return nil
	}
	if kind != kindOCI {
		return s.blobs.get(digest, maxArchive)
	}
	manifest := s.blobs.get(digest, maxManifest)
	if manifest == nil {
		return nil
	}
	layer, err := chartLayer(manifest)
	if err != nil {
		return nil
	}
	return s.blobs.get(layer.Digest, maxArchive)
}

// downloaded is what arrived: digest is what a Source pins, manifest is nil but for oci.
type downloaded struct {
	digest            string
	manifest, archive []byte
}

func (s *Store) download(ctx context.Context, src Source, kind kind) (downloaded, error) {
	s.log.DebugContext(ctx, "fetching the chart", "chart", src.String())
	if kind == kindOCI {
		return s.pull(ctx, src)
	}
	archive, err := s.get(ctx, s.client(), request{url: src.Ref, limit: maxArchive})
	return downloaded{digest: digestOf(archive), archive: archive}, err
}

// keep writes what arrived to the disk, the archive before what refers to it.
func (s *Store) keep(src Source, got downloaded) error {
	err := s.blobs.put(got.archive)
	if err == nil && got.manifest != nil {
		err = s.blobs.put(got.manifest)
	}
	if err == nil {
		err = s.seen.remember(src, got.digest)
	}
	if err != nil {
		return fmt.Errorf("keep chart %s on disk: %w", src, err)
	}
	return nil
}

// lock lets one goroutine at a time fetch a source: the second finds it on disk. Other processes may
// fetch it at the same time; that costs a download and nothing else.
func (s *Store) lock(ctx context.Context, key string) (unlock func(), err error) {
	s.mu.Lock()
	held, ok := s.locks[key]
	if !ok {
		held = make(chan struct{}, 1)
		s.locks[key] = held
	}
	s.mu.Unlock()
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// advice says what to do about a chart that could not be had.
func advice(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return networkAdvice(err)
}
