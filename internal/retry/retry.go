// Package retry is what sending HTTP requests again takes: when a server asks for it, and how it is done.
package retry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Pause is first, doubled for each attempt, counted from 0, up to longest. It varies by a quarter, so that many clients
// don't come back at once.
func Pause(first, longest time.Duration, attempt int) time.Duration {
	pause := longest
	if attempt < 16 {
		pause = min(first<<attempt, longest)
	}
	return pause*3/4 + rand.N(pause/2+1)
}

// After reads the header Retry-After, which holds seconds or a date (RFC 9110, 10.2.3). resp may be nil.
func After(resp *http.Response) (time.Duration, bool) {
	if resp == nil {
		return 0, false
	}
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date)), true
	}
	return 0, false
}

// Rewind gives a request that can be sent again, or an error if its body is gone.
func Rewind(req *http.Request) (*http.Request, error) {
	next := req.Clone(req.Context())
	if req.Body == nil || req.Body == http.NoBody {
		return next, nil
	}
	if req.GetBody == nil {
		return nil, errors.New("the body can't be sent again")
	}
	body, err := req.GetBody()
	next.Body = body
	return next, err
}

// Discard empties an answer so that its connection can be used again. resp may be nil.
func Discard(resp *http.Response) {
	if resp == nil {
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

// Sleep waits, or gives the context's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
