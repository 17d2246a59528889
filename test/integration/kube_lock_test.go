package integration

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

func lockRef(ns string) kube.Ref {
	return kube.Ref{GroupVersionKind: kube.LeaseKind, Namespace: ns, Name: kube.LockName}
}

// lockAs is how a test takes the lock of a deployment.
func lockAs(ns, who string) kube.LockOptions {
	return kube.LockOptions{Namespace: ns, Who: who, Command: "up"}
}

func mustLock(t *testing.T, c *kube.Client, o kube.LockOptions) (context.Context, *kube.Lock) {
	t.Helper()
	ctx, lock, err := c.Lock(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, lock
}

// deadHolder writes a lock that nobody renews. Its clock is an hour ahead.
func deadHolder(t *testing.T, ns string, seconds int32) {
	t.Helper()
	who, now := "dead@elsewhere pid 1/xxxxxxxx", metav1.NewMicroTime(time.Now().Add(time.Hour))
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: kube.LockName, Annotations: map[string]string{"pwdeploy/command": "up"}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &who, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now}}
	if _, err := harness.Admin(t).CoordinationV1().Leases(ns).Create(t.Context(), lease, metav1.CreateOptions{FieldManager: someoneElse}); err != nil {
		t.Fatal(err)
	}
}

// TestLock: one holder at a time. A live one is named, and waited for as long as is asked.
func TestLock(t *testing.T) {
	t.Parallel()
	ns := harness.Namespace(t, nil)
	first, second := connect(t, nil), connect(t, nil)
	_, lock := mustLock(t, first, lockAs(ns, "first@here pid 1"))
	if lock.Contended {
		t.Error("nobody else held it")
	}
	lease := harness.Read(t, lockRef(ns))
	if !kube.Owned(lease, ns) {
		t.Errorf("the Lease is not marked as ours: %v", lease.GetLabels())
	}

	_, _, err := second.Lock(t.Context(), lockAs(ns, "second@here pid 2"))
	var locked *kube.LockedError
	if !errors.As(err, &locked) || locked.Holder.Who != "first@here pid 1" || locked.Holder.Command != "up" ||
		time.Since(locked.Holder.Since) > time.Hour || !strings.Contains(locked.Hint(), "--lock-timeout") {
		t.Fatalf("got %v", err)
	}

	waiting := lockAs(ns, "second@here pid 2")
	waiting.Timeout = time.Minute
	waiting.Waiting = func(h kube.Holder) {
		if h.Who != "first@here pid 1" {
			t.Errorf("waiting for %+v", h)
		}
		go func() {
			if err := lock.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}()
	}
	_, taken := mustLock(t, second, waiting)
	if !taken.Contended {
		t.Error("it is not known that somebody else was at work")
	}
	if err := taken.Release(t.Context()); err != nil || harness.Read(t, lockRef(ns)) != nil {
		t.Errorf("released: %v, and the Lease is there", err)
	}
}

// TestLockOfTheDead is taken over when it has expired by the clock of who waits, and not before.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	ns := harness.Namespace(t, nil)
	const lasts = 3
	deadHolder(t, ns, lasts)
	begin := time.Now()
	_, lock := mustLock(t, connect(t, nil), lockAs(ns, "next@here pid 2"))
	if took := time.Since(begin); took < lasts*time.Second {
		t.Errorf("taken over after %s", took)
	}
	if !lock.Contended {
		t.Error("it is not known that somebody else was at work")
	}
	if err := lock.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLockLost: who loses the lock writes nothing more, and what it was doing ends with the reason.
func TestLockLost(t *testing.T) {
	t.Parallel()
	ns := harness.Namespace(t, nil)
	client := connect(t, nil)
	options := lockAs(ns, "first@here pid 1")
	options.Duration = 3 * time.Second
	ctx, lock := mustLock(t, client, options)
	if client.Wrote() {
		t.Error("taking the lock counts as a change")
	}
	other := "other@there pid 2/yyyyyyyy"
	leases := harness.Admin(t).CoordinationV1().Leases(ns)
	harness.Eventually(t, "the lock is taken away", func() bool {
		lease, err := leases.Get(t.Context(), kube.LockName, metav1.GetOptions{})
		if err != nil {
			return false
		}
		lease.Spec.HolderIdentity = &other
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{FieldManager: someoneElse})
		return err == nil
	})
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the loss was not noticed")
	}
	var lost *kube.LockLostError
	if !errors.As(context.Cause(ctx), &lost) || lost.Holder.Who != "other@there pid 2" {
		t.Errorf("ended by %v", context.Cause(ctx))
	}
	_, _, err := client.Create(t.Context(), object(t, ns, configMap("after", "key", "value")))
	if !errors.As(err, &lost) || client.Wrote() {
		t.Errorf("a write without the lock: %v", err)
	}
	if err := lock.Release(t.Context()); err != nil || harness.Read(t, lockRef(ns)) == nil {
		t.Errorf("somebody else's lock was released: %v", err)
	}
}

// TestLockStalls: while the lock can't be renewed writes wait; they go on when it can.
func TestLockStalls(t *testing.T) {
	t.Parallel()
	ns := harness.Namespace(t, nil)
	var broken atomic.Bool
	client := connect(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if broken.Load() && req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/leases/") {
				return nil, errors.New("cut off by the test")
			}
			return next.RoundTrip(req)
		})
	})
	options := lockAs(ns, "first@here pid 1")
	options.Duration = 3 * time.Second
	stalled := make(chan struct{})
	options.Stalled = func(error) { close(stalled) }
	_, lock := mustLock(t, client, options)
	broken.Store(true)
	<-stalled
	written := make(chan error, 1)
	go func() {
		_, _, err := client.Create(t.Context(), object(t, ns, configMap("waits", "key", "value")))
		written <- err
	}()
	select {
	case err := <-written:
		t.Fatalf("written without the lock: %v", err)
	case <-time.After(time.Second):
	}
	if harness.Read(t, kube.RefOf(object(t, ns, configMap("waits", "key", "value")))) != nil {
		t.Error("written without the lock")
	}
	broken.Store(false)
	if err := <-written; err != nil {
		t.Errorf("after the renewal: %v", err)
	}
	if err := lock.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
