package kube

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func lease(version string, lasts int32) *coordinationv1.Lease {
	who := "anna@laptop pid 7/abcdefgh"
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{ResourceVersion: version, Annotations: map[string]string{commandAnnotation: "up"}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &who, LeaseDurationSeconds: &lasts},
	}
}

// A holder is dead when its Lease did not change on our clock for as long as it lasts; what it wrote as times
// does not matter.
func TestHolderIsJudgedByObservation(t *testing.T) {
	begin := time.Now()
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	var s sight
	s.look(lease("1", 15), at(0))
	if s.alive || s.expired(at(14)) || !s.expired(at(15)) {
		t.Errorf("first seen: %+v", s)
	}
	if s.holder.Who != "anna@laptop pid 7" || s.holder.Command != "up" {
		t.Errorf("the holder is %+v", s.holder)
	}
	s.look(lease("1", 15), at(10))
	if s.alive || !s.expired(at(15)) {
		t.Errorf("unchanged: %+v", s)
	}
	s.look(lease("2", 5), at(12))
	if !s.alive || s.aliveAt != at(12) || s.expired(at(16)) || !s.expired(at(17)) {
		t.Errorf("renewed: %+v", s)
	}
	s.look(lease("3", 0), at(13))
	if s.aliveAt != at(12) || s.expired(at(27)) || !s.expired(at(28)) {
		t.Errorf("without a duration: %+v", s)
	}
}

func TestWhatWrites(t *testing.T) {
	for request, want := range map[string]bool{
		"GET /api/v1/pods":                                                    false,
		"POST /api/v1/namespaces/a/secrets":                                   true,
		"PATCH /api/v1/namespaces/a":                                          true,
		"PATCH /api/v1/namespaces/a?dryRun=All":                               false,
		"DELETE /api/v1/namespaces/a":                                         true,
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews":         false,
		"POST /api/v1/namespaces/a/pods/b/portforward":                        false,
		"PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/somebody-elses": true,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := writes(httptest.NewRequestWithContext(t.Context(), method, path, nil)); got != want {
			t.Errorf("%s: %v", request, got)
		}
	}
	ofLock := httptest.NewRequestWithContext(outsideOfLock(t.Context()), http.MethodPut, "/apis/coordination.k8s.io/v1/x", nil)
	if writes(ofLock) {
		t.Error("a request for the lock itself counts as a write")
	}
}

// While the lock is not known to be held a write waits; it is sent when the lock was renewed, and refused when it
// was lost.
func TestWritesNeedTheLock(t *testing.T) {
	newLock := func(age time.Duration) *Lock {
		return &Lock{options: LockOptions{Duration: time.Minute}, renewed: time.Now().Add(-age), news: make(chan struct{}), lose: func(error) {}}
	}
	if err := newLock(0).pass(t.Context()); err != nil {
		t.Errorf("held: %v", err)
	}
	stale := newLock(50 * time.Second)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stale.pass(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("not renewed: %v", err)
	}
	passed := make(chan error, 1)
	go func() { passed <- stale.pass(t.Context()) }()
	if err := stale.take(&coordinationv1.Lease{}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-passed; err != nil {
		t.Errorf("renewed: %v", err)
	}
	lost := newLock(50 * time.Second)
	go func() { passed <- lost.pass(t.Context()) }()
	lost.giveUp(&LockLostError{})
	if err := <-passed; !errors.As(err, new(*LockLostError)) {
		t.Errorf("lost: %v", err)
	}
}

// A write that is under way when a run is interrupted comes to its end, and none begins after it.
func TestWriteOutlastsItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	sent := 0
	client := http.Client{Transport: (&traffic{}).wrap(tripper(func(req *http.Request) (*http.Response, error) {
		sent++
		cancel()
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, req.Context().Err()
	}))}
	post := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://api.test/api/v1/namespaces", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := post(); err != nil {
		t.Errorf("under way: %v", err)
	}
	if err := post(); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if sent != 1 {
		t.Errorf("%d requests were sent", sent)
	}
}

type tripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A write without the lock is refused once: it is not sent again, as it would be to an API server that is away.
func TestLostLockIsNotTriedAgain(t *testing.T) {
	tried := 0
	transport := &persistentTransport{next: tripper(func(*http.Request) (*http.Response, error) {
		tried++
		return nil, &LockLostError{}
	}), link: newLink(Options{}, "")}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://api.test/api/v1/namespaces/a", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_, err = transport.RoundTrip(req) //nolint:bodyclose // there is no answer
	if !errors.As(err, new(*LockLostError)) || tried != 1 {
		t.Errorf("tried %d times: %v", tried, err)
	}
}
