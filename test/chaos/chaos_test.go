package chaos

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
)

// What make chaos may ask for. go test ./... asks for nothing, and gets a few lives in which pwdeploy is killed.
var (
	sample = flag.Bool("sample", false, "a few requests of every command, spread over them")
	full   = flag.Bool("full", false, "every request of every command")
	every  = flag.Int("every", 0, "every so many requests of every command")
	shard  = flag.String("shard", "1/1", "`i/N`: the i-th of N parts of it")
	kinds  = flag.String("kinds", "", "what happens to requests, separated by commas; kill is both ways to kill (default: all for a sample, else kill)")
	only   = flag.String("course", "", "foreign, own or recreate: only lives that take that course")
)

// quickLives is how many lives go test ./... has, which is run with every change.
const quickLives = 2

// chosenKinds are what happens to requests.
func chosenKinds(t *testing.T) []proxy.Kind {
	t.Helper()
	text := *kinds
	switch {
	case text == "" && *sample && sampled():
		return proxy.Kinds()
	case text == "":
		text = "kill"
	}
	var out []proxy.Kind
	for _, name := range strings.Split(text, ",") {
		switch kind := proxy.Kind(name); {
		case name == "kill":
			out = append(out, proxy.KillBefore, proxy.KillAfter)
		case name == "drop":
			out = append(out, proxy.DropBefore, proxy.DropAfter)
		case slices.Contains(proxy.Kinds(), kind):
			out = append(out, kind)
		default:
			t.Fatalf("-kinds: there is no %q, but kill, drop, %v", name, proxy.Kinds())
		}
	}
	return out
}

func sampled() bool { return !*full && *every == 0 }

// quick reports whether nothing was asked for.
func quick() bool { return sampled() && !*sample }

// fault is what happens in one stage of a life. Its zero value is nothing.
type fault struct {
	n    int // the request, counted from 1
	kind proxy.Kind
}

// faults chooses those of a stage that takes so many requests: spread over them in a sample, with another kind each.
func faults(requests, lives int, kinds []proxy.Kind, shift int) []fault {
	var out []fault
	if sampled() {
		for i := range lives {
			place := (float64(i) + 0.5) / float64(lives)
			out = append(out, fault{n: 1 + int(place*float64(requests)), kind: kinds[(i+shift)%len(kinds)]})
		}
		return out
	}
	for n := 1; n <= requests; n += max(1, *every) {
		for _, kind := range kinds {
			out = append(out, fault{n, kind})
		}
	}
	return out
}

// lifePlan is the faults of a life, by stage.
type lifePlan []fault

// lifePlans make lives of the faults of all stages: the first life has the first fault of each.
func lifePlans(ref reference, lives int, kinds []proxy.Kind, shift int) []lifePlan {
	var plans []lifePlan
	for i, requests := range ref.requests {
		for k, f := range faults(requests, lives, kinds, shift+5*i) {
			if k == len(plans) {
				plans = append(plans, make(lifePlan, len(ref.requests)))
			}
			plans[k][i] = f
		}
	}
	return plans
}

// shardOf gives the part of the lives that this run is for.
func shardOf(t *testing.T, plans []lifePlan) []lifePlan {
	t.Helper()
	var i, n int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &i, &n); err != nil || i < 1 || i > n {
		t.Fatalf("-shard %s: it has to be like 1/4", *shard)
	}
	var out []lifePlan
	for k, plan := range plans {
		if k%n == i-1 {
			out = append(out, plan)
		}
	}
	return out
}

// TestConverge lets bad things happen to every command of deployments' lives, and requires that the same command again
// ends where an undisturbed run does.
//
// Lives with somebody else's controller run side by side; those with our own, one after the other and never beside
// them: it has objects in no namespace, and its admission webhook judges everybody's Ingresses.
func TestConverge(t *testing.T) {
	if *random > 0 {
		t.Skip("faults at random were asked for: TestRandom")
	}
	table := &table{}
	t.Cleanup(func() { table.print(os.Stdout) })
	shift := 0
	for _, c := range chosenCourses(t) {
		t.Run(c.name, func(t *testing.T) {
			ref := liveUndisturbed(t, c)
			plans := shardOf(t, lifePlans(ref, c.lives, chosenKinds(t), shift))
			for i, s := range c.stages {
				table.command(c.name, s.name, ref.requests[i])
			}
			for i, plan := range plans {
				t.Run(fmt.Sprintf("life %d", i+1), func(t *testing.T) {
					if !c.own {
						t.Parallel()
					}
					newLife(t, c).live(t, plan, ref, table)
				})
			}
		})
		shift += c.lives
	}
}

// chosenCourses are the courses that lives take.
func chosenCourses(t *testing.T) []course {
	t.Helper()
	all := courses()
	if quick() {
		all = []course{quickCourse()}
	}
	if *only == "" {
		return all
	}
	i := slices.IndexFunc(all, func(c course) bool { return c.name == *only })
	if i < 0 {
		t.Fatalf("-course: there is no %q", *only)
	}
	return all[i : i+1]
}

// live goes through all stages with a fault in each.
func (l *life) live(t *testing.T, plan lifePlan, ref reference, table *table) {
	t.Helper()
	for i, s := range l.stages {
		fired := l.converge(t, s, plan[i])
		ok := !t.Failed() && l.requireWorld(t, fmt.Sprintf("%s, request %d, %s", s.name, plan[i].n, plan[i].kind), ref.worlds[i])
		if fired {
			table.tried(l.name, s.name, plan[i].kind, ok)
		}
		if !ok {
			t.Logf("what happened:\n%s", l.log.String())
			return
		}
		if i == 0 && l.addsData {
			l.addData(t)
		}
	}
}

// What a fault lasts.
const (
	delay = 3 * time.Second
	away  = 10 * time.Second
)

// reruns is how often a command may be needed again.
const reruns = 3

// converge carries a stage's command out with a fault, and again until it succeeds. It reports whether the fault
// happened.
func (l *life) converge(t *testing.T, s stage, f fault) bool {
	t.Helper()
	first := l.run(t, s, proxy.Session{Plan: proxy.At(f.n, f.kind), Delay: delay, Away: away})
	l.requireOutcome(t, s, f, first)
	last := first
	for i := 0; last.code != 0 && i < reruns; i++ {
		last = l.run(t, s, proxy.Session{Plan: proxy.Undisturbed})
	}
	if last.code != 0 {
		t.Errorf("%s, request %d, %s: it does not converge: exit code %d\n%s", s.name, f.n, f.kind, last.code, last.out)
	}
	return first.fired()
}

// againIsSafe is said at the end of each run that does not come to its end.
const againIsSafe = " again is safe"

// requireOutcome judges the run that a fault happened to.
func (l *life) requireOutcome(t *testing.T, s stage, f fault, r run) {
	t.Helper()
	want := map[int]bool{0: true}
	switch {
	case !r.fired():
	case f.kind.Kills():
		want = map[int]bool{-1: true}
	case f.kind == proxy.Interrupt:
		want[130] = true // or it was over already
	case !f.kind.Passing():
		want[1], want[4] = true, true // failed, or took it for no cluster
	}
	if r.code > 0 && !strings.Contains(r.out, againIsSafe) {
		t.Errorf("%s, request %d, %s (%s): its last words don't say that it can be run again\n%s", s.name, f.n, f.kind, r.at(f.n), r.out)
	}
	if !want[r.code] {
		t.Errorf("%s, request %d, %s (%s): exit code %d\n%s", s.name, f.n, f.kind, r.at(f.n), r.code, r.out)
	}
}

// at words a request.
func (r run) at(n int) string {
	if n < 1 || n > len(r.requests) {
		return "no such request"
	}
	return r.requests[n-1].Method + " " + r.requests[n-1].URI
}
