package stack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// UnfinishedError is why a command that changes a deployment did not come to its end, and the state in which it left
// the cluster. The same command goes on from there.
type UnfinishedError struct {
	Command string // up, down or rollback
	State   State
	Err     error // the context's, if the run was interrupted
}

func (e *UnfinishedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// State is what a run that did not come to its end left behind.
type State struct {
	Changed    bool             // false: nothing in the cluster was changed
	Components []ComponentState // in the order in which they are shown; none if the run touched none
	Previous   kube.Previous    // what goes on serving of the app's version before
}

// ComponentState is how a run left a component.
type ComponentState struct {
	Name     Component
	Message  string          // "ready, chart redis 23.1.1 installed"
	Problems []*kube.Problem // what was seen to be in its way
}

// phase is how far a run got with a component.
type phase int

const (
	notBegun phase = iota
	underWay       // what is done to it has not come to its end
	carried        // it was done, and is not ready yet
	leaving        // it was deleted, and is not all gone yet
	settled        // as it should be
)

// part is a component as a run knows it.
type part struct {
	phase phase
	text  string           // what is done to it, or was
	then  string           // of what is under way: what that means if it does not come to its end
	waits []kube.Readiness // what is not ready of it, as seen last
}

// ledger keeps how far a run got with each component, for its last words. It may be used from anywhere at any time.
type ledger struct {
	mu    sync.Mutex
	parts map[Component]part
}

func newLedger() *ledger { return &ledger{parts: map[Component]part{}} }

// plan notes what is to be worked on.
func (l *ledger) plan(components ...Component) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range components {
		if _, ok := l.parts[c]; !ok {
			l.parts[c] = part{}
		}
	}
}

func (l *ledger) set(c Component, p part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts[c] = p
}

func (l *ledger) begin(c Component, text, then string) {
	l.set(c, part{phase: underWay, text: text, then: then})
}

func (l *ledger) settle(c Component, text string) { l.set(c, part{phase: settled, text: text}) }

func (l *ledger) leave(c Component, text string) { l.set(c, part{phase: leaving, text: text}) }

// carry notes what was done to a component that is waited for from now on, or is already.
func (l *ledger) carry(c Component, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := part{phase: carried, text: text}
	if was := l.parts[c]; was.phase == carried {
		now.waits = was.waits
	}
	l.parts[c] = now
}

// saw notes what is waited for.
func (l *ledger) saw(c Component, states []kube.Readiness) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parts[c]
	p.waits = slices.DeleteFunc(slices.Clone(states), func(s kube.Readiness) bool { return s.Ready })
	l.parts[c] = p
}

// forget drops a component that goes without saying from now on.
func (l *ledger) forget(c Component) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parts, c)
}

// phase tells how far the run got with a component.
func (l *ledger) phase(c Component) phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[c].phase
}

// states words how everything was left. Where nothing was changed, what was only about to be done is left out.
func (l *ledger) states(changed, cutOff bool) []ComponentState {
	l.mu.Lock()
	defer l.mu.Unlock()
	worth := changed
	var out []ComponentState
	for _, c := range Components() {
		if p, ok := l.parts[c]; ok {
			worth = worth || p.phase > underWay
			out = append(out, ComponentState{Name: c, Message: p.message(cutOff), Problems: p.problems()})
		}
	}
	if !worth {
		return nil
	}
	return out
}

// message words a component's state.
func (p part) message(cutOff bool) string {
	switch p.phase {
	case notBegun:
		return "not begun"
	case underWay:
		how := " failed"
		if cutOff {
			how = " was cut off"
		}
		return p.text + how + sentence(", waiting for ", waitedFor(p.waits, false)) + sentence("; ", p.then)
	case carried:
		return p.text + ", not ready" + sentence(": ", waitedFor(p.waits, true))
	case leaving:
		return p.text + ", not all gone yet"
	case settled:
	}
	return p.text
}

// sentence is text after what leads up to it, or nothing.
func sentence(lead, text string) string {
	if text == "" {
		return ""
	}
	return lead + text
}

// waitedFor lists objects, and what they wait for.
func waitedFor(states []kube.Readiness, why bool) string {
	parts := make([]string, 0, len(states))
	for _, s := range states {
		parts = append(parts, s.Ref.Kind+" "+s.Ref.Name)
		if why && !s.Unread {
			parts[len(parts)-1] += " " + s.Message
		}
	}
	return strings.Join(parts, ", ")
}

// problems are what every start has to get over left out.
func (p part) problems() []*kube.Problem {
	var out []*kube.Problem
	for _, s := range p.waits {
		if s.Problem != nil && !s.Problem.Usual {
			out = append(out, s.Problem)
		}
	}
	return out
}

// unfinished adds to the error that ended a command what it left behind.
func (e *Engine) unfinished(ctx context.Context, command string, err error) *UnfinishedError {
	var lost *kube.LockLostError
	changed, cutOff := e.kube.Wrote(), ctx.Err() != nil || errors.As(err, &lost)
	return &UnfinishedError{Command: command, Err: err, State: State{
		Changed: changed, Components: e.ledger.states(changed, cutOff), Previous: e.previous(ctx),
	}}
}

// previous is what goes on serving while a rollout has not come to its end. Where that can't be read, nothing is known of
// any.
func (e *Engine) previous(ctx context.Context) kube.Previous {
	if at := e.ledger.phase(App); at != underWay && at != carried {
		return kube.Previous{}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endGrace)
	defer cancel()
	previous, err := e.kube.Previous(ctx, e.deploymentRef())
	if err != nil {
		return kube.Previous{}
	}
	return previous
}
