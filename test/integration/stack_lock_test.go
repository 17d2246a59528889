package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// TestTwoAtOnce: the second run names the first and does nothing, or waits for it.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	_, lock := mustLock(t, connect(t, nil), lockAs(s.App, "anna@laptop pid 7"))
	before := s.snapshot(t)
	for _, args := range [][]string{{"up", "--replicas", "3"}, {"down", "--yes"}} {
		r := s.Pwdeploy(t.Context(), args...)
		requireRefused(t, r, 5, "another run is at work on this deployment: anna@laptop pid 7, pwdeploy up, since ", "--lock-timeout")
	}
	requireUntouched(t, before, s.snapshot(t))
	if again := s.up(t); again.Changed { // nothing to change: no lock is needed
		t.Error("it changed something")
	}

	finished := make(chan result, 1)
	go func() { finished <- s.Pwdeploy(t.Context(), "up", "--replicas", "3", "--lock-timeout", "1m") }()
	select {
	case r := <-finished:
		t.Fatalf("it did not wait: exit code %d\n%s", r.Code, r.Errors)
	case <-time.After(7 * time.Second): // longer than it takes to see that the holder is alive
	}
	if err := lock.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-finished
	if r.Code != 0 || !strings.Contains(r.Errors, "lock           held by anna@laptop pid 7, pwdeploy up") || !strings.Contains(r.Errors, "ours now") {
		t.Errorf("exit code %d\n%s", r.Code, r.Errors)
	}
	requireSpec(t, harness.Read(t, s.deployment()), []string{"--replicas", "3"})
	if harness.Read(t, lockRef(s.App)) != nil {
		t.Error("the lock was not released")
	}
}

// TestUpKilled: the lock of a run that was killed is taken over when it has expired, by itself.
func TestUpKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	edge := s.ForeignController(t)
	edge.Close() // nobody answers: up waits, and holds the lock
	kill := s.start(t, "up")
	harness.Eventually(t, "the app is applied", func() bool { return harness.Read(t, s.deployment()) != nil })
	kill()
	if harness.Read(t, lockRef(s.App)) == nil {
		t.Fatal("the lock of the dead is gone")
	}
	begin := time.Now()
	s.Env = append(s.Env, "PWDEPLOY_TIMEOUT=90s")
	r := s.Pwdeploy(t.Context(), "up")                                      // still nobody answers
	if took := time.Since(begin); took < kube.LeaseDuration-6*time.Second { // the heartbeat may be 5 s old
		t.Errorf("taken over after %s", took)
	}
	if r.Code != 1 || !strings.Contains(r.Errors, "is not served") || !strings.Contains(r.Errors, "ours now") {
		t.Errorf("exit code %d\n%s", r.Code, r.Errors)
	}
}

// TestDownAfterData: with the app's namespace gone there is still a lock to take for the rest.
func TestDownAfterData(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	empty := s.snapshot(t)
	s.up(t)
	s.down(t)
	if harness.Read(t, s.password()) == nil || harness.Read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App}) != nil {
		t.Fatal("the data is gone, or the app's namespace is not")
	}
	if r := s.Pwdeploy(t.Context(), "down", "--yes"); r.Code != 0 || !strings.Contains(r.Out, "Nothing to take away") {
		t.Errorf("down again: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	s.down(t, "--delete-data")
	requireUntouched(t, empty, s.snapshot(t))
}
