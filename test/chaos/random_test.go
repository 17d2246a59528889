package chaos

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
)

// random asks for runs with faults at random instead of the matrix. The number of a run is the seed of its faults.
var random = flag.Int("random", 0, "`N` first ups with faults at random, each on a slow connection")

// A bad connection.
const (
	faultShare = 0.05 // of the requests
	latency    = 50 * time.Millisecond
	slowDelay  = time.Second
)

// TestRandom: on a bad connection a first up succeeds all the same, at the first attempt.
func TestRandom(t *testing.T) {
	if *random == 0 {
		t.Skip("make chaos ARGS='-random 50' runs it")
	}
	c := quickCourse()
	up := c.stages[0]
	reference := newLife(t, c)
	if r := reference.run(t, up, proxy.Session{Plan: proxy.Undisturbed}); r.code != 0 {
		t.Fatalf("undisturbed: exit code %d\n%s", r.code, r.out)
	}
	world := reference.settled(t)
	passing := []proxy.Kind{proxy.DropBefore, proxy.DropAfter, proxy.TooMany, proxy.Internal, proxy.Delay, proxy.Cut}
	for seed := range *random {
		t.Run(fmt.Sprintf("run %d", seed+1), func(t *testing.T) {
			t.Parallel()
			l := newLife(t, c)
			r := l.run(t, up, proxy.Session{Plan: proxy.Randomly(uint64(seed), faultShare, passing...), Latency: latency, Delay: slowDelay}) //nolint:gosec // no number below 0
			if r.code != 0 || !r.fired() {
				t.Errorf("exit code %d after %d requests\n%s", r.code, len(r.requests), r.out)
				return
			}
			if !l.requireWorld(t, up.name, world) {
				t.Logf("what happened:\n%s", l.log.String())
			}
		})
	}
}
