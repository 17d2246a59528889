package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// corpus is all scenes.
func corpus() []scene {
	return slices.Concat(
		kubeconfigScenes(),
		ingressScenes(),
		checkScenes(),
		podScenes(),
		scheduleScenes(),
		refusalScenes(),
		serverScenes(),
		chartScenes(),
		labScenes(),
	)
}

// stage is where a scene can be made for real.
type stage string

const (
	controlPlane stage = "control plane" // a real API server and controllers; KWOK plays the nodes
	lab          stage = "lab"           // real containers
)

// scene is a cause of failure, and how pwdeploy has to speak of it.
type scene struct {
	name   string // the cause, as people call it
	needs  stage  // empty: controlPlane
	serial bool   // it changes what other scenes use: nodes, default classes

	// provoke brings the cause about before pwdeploy runs. What it makes is taken away by t.Cleanup.
	provoke func(t *testing.T, s *harness.Site)
	// shown returns when the cluster shows the cause; pwdeploy runs meanwhile. nil: the cause is there from the start.
	shown func(t *testing.T, s *harness.Site) time.Time
	// after looks at the cluster when pwdeploy has ended; may be nil.
	after func(t *testing.T, s *harness.Site)

	command []string // of pwdeploy; empty: up
	want    want
}

// want is the diagnosis. In all texts {app}, {redis}, {ingress}, {host} and {class} stand for the scene's names.
type want struct {
	code   int
	object string   // that is named: Deployment {app}/pw-crud
	reason string   // in Kubernetes' word or ours
	says   []string // what else has to be said: evidence
	hint   string   // part of what to do
	state  string   // part of what says at the end what state the cluster is in; every scene of an up that fails has one
}

// nothingChanged is the state where up met the cause before it changed anything.
const nothingChanged = "\n\nNothing was changed. Running pwdeploy up again is safe.\n"

// note sends the time, if nothing was noted before.
func note(at chan time.Time) {
	select {
	case at <- time.Now():
	default:
	}
}

// forget takes back what an earlier try of the same scene noted.
func forget(at chan time.Time) {
	for len(at) > 0 {
		<-at
	}
}

// moment returns what was noted first, or no time if the cause did not come about.
func moment(at chan time.Time) func(*testing.T, *harness.Site) time.Time {
	return func(*testing.T, *harness.Site) time.Time {
		select {
		case begin := <-at:
			return begin
		case <-time.After(giveUp):
			return time.Time{}
		}
	}
}
