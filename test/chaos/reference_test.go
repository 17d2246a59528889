package chaos

import (
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
	"github.com/pwdeploy/pwdeploy/test/snapshot"
)

// reference is an undisturbed life: what is true after each stage, and how many requests that took.
type reference struct {
	worlds   []snapshot.Snapshot
	requests []int
}

// liveUndisturbed goes through all stages, each of which has to succeed at once.
func liveUndisturbed(t *testing.T, c course) reference {
	t.Helper()
	l := newLife(t, c)
	var ref reference
	for i, s := range l.stages {
		r := l.run(t, s, proxy.Session{Plan: proxy.Undisturbed})
		if r.code != 0 {
			t.Fatalf("undisturbed %s: exit code %d\n%s", s.name, r.code, r.out)
		}
		ref.worlds = append(ref.worlds, l.settled(t))
		ref.requests = append(ref.requests, len(r.requests))
		if i == 0 && l.addsData {
			l.addData(t)
		}
	}
	return ref
}

// settled gives the world when nothing has changed in it for a while.
func (l *life) settled(t *testing.T) snapshot.Snapshot {
	t.Helper()
	const quiet = 2 * time.Second
	world, since := l.world(t), time.Now()
	for time.Since(since) < quiet {
		time.Sleep(quiet / 10)
		if now := l.world(t); len(world.Diff(now)) > 0 {
			world, since = now, time.Now()
		}
	}
	return world
}
