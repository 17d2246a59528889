//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// service is the app as its users reach it: through the ingress.
type service struct {
	address string // host:port of the ingress
	host    string // that the app is served under
}

const (
	// probeEvery is between two requests while a command runs.
	probeEvery = 50 * time.Millisecond
	// probeTimeout bounds each: a service that takes longer isn't served.
	probeTimeout = 2 * time.Second
)

// ask stores a value under a key of its own and reads it back, which takes ingress, app, password and Redis.
func (s service) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.address)
		},
	}}
	value := rand.Text()
	path := "/pw/bench-" + value
	if _, err := s.send(ctx, client, http.MethodPost, path+"/"+value); err != nil {
		return err
	}
	got, err := s.send(ctx, client, http.MethodGet, path)
	if err == nil && got != strconv.Quote(value) {
		err = fmt.Errorf("stored %s, read %s", value, got)
	}
	if _, deleteErr := s.send(ctx, client, http.MethodDelete, path); err == nil {
		err = deleteErr
	}
	return err
}

func (s service) send(ctx context.Context, client *http.Client, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.host+path, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

// probing is what a run of questions brought.
type probing struct {
	first  time.Duration // when the first question was answered; 0: none was
	asked  int           // since then
	failed int
}

// probe asks again and again from begin on, until stop is called.
func (s service) probe(ctx context.Context, begin time.Time) (stop func() probing) {
	ctx, cancel := context.WithCancel(ctx)
	var out probing
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			err := s.ask(ctx)
			if ctx.Err() == nil {
				out.count(err, time.Since(begin))
			}
			sleep(ctx, probeEvery)
		}
	})
	return func() probing {
		cancel()
		group.Wait()
		return out
	}
}

func (p *probing) count(err error, at time.Duration) {
	switch {
	case p.first > 0:
		p.asked++
		if err != nil {
			p.failed++
		}
	case err == nil:
		p.first = at
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
