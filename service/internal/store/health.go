package store

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// quiet is how long a warning of one kind is not repeated. With Redis away
// every request fails the same way, and a line a request helps nobody.
const quiet = 10 * time.Second

// health watches the outcomes of calls: it counts them, logs a failure once in
// a while and the recovery once.
type health struct {
	log      *slog.Logger
	observer Observer

	down   atomic.Bool
	mu     sync.Mutex
	warned map[string]time.Time
}

func (h *health) note(err error) {
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		h.setDown(false)
		return
	}
	h.observer.RedisFailed(unavailable.Reason)
	h.warn(string(unavailable.Reason), "Redis cannot serve", unavailable.Err)
	if meansDown(unavailable.Reason) {
		h.setDown(true)
	}
}

// meansDown leaves out the refusals of writes alone: a read may well succeed
// in the same moment.
func meansDown(reason Reason) bool {
	return reason != ReadOnly && reason != OutOfMemory
}

func (h *health) setDown(down bool) {
	h.observer.RedisUp(!down)
	if h.down.Swap(down) == down || down {
		return
	}
	h.mu.Lock()
	h.warned = nil // the next failure is news again
	h.mu.Unlock()
	h.log.Info("Redis answers again", "kind", "ok")
}

// warn logs at most one line of a kind in a quiet period.
func (h *health) warn(kind, message string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.warned[kind]) < quiet {
		return
	}
	if h.warned == nil {
		h.warned = map[string]time.Time{}
	}
	h.warned[kind] = time.Now()
	h.log.Warn(message, "kind", kind, "error", err)
}
