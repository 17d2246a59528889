package stack

import (
	"fmt"
	"sync"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// Component is a part of the deployment that is reported on as one.
type Component string

// The components, in the order in which they are shown.
const (
	Redis    Component = "redis"
	Ingress  Component = "ingress-nginx"
	App      Component = "app"
	Endpoint Component = "endpoint" // the address under which the app is served

	Data       Component = "data"       // Redis', where down deletes it: only in its last words
	Namespaces Component = "namespaces" // down waits for them
	Lock       Component = "lock"       // told of only where another run holds it, or it can't be renewed
	Cluster    Component = "cluster"    // the API server: only when it makes trouble
)

// Components are all of them, in the order in which they are shown.
func Components() []Component {
	return []Component{Lock, Redis, Ingress, App, Endpoint, Data, Namespaces, Cluster}
}

// EventKind says what an event means for its component.
type EventKind string

// The kinds of events.
const (
	Started  EventKind = "started"
	Progress EventKind = "progress" // what it is doing, or waiting for, now
	Problem  EventKind = "problem"  // something is in the way; the run goes on
	Warning  EventKind = "warning"  // worth knowing, not in the way
	Done     EventKind = "done"
	Failed   EventKind = "failed"
)

// Event is something that a run has to tell. Events of one component come in order.
type Event struct {
	Time      time.Time     `json:"time"`
	Component Component     `json:"component"`
	Kind      EventKind     `json:"kind"`
	Message   string        `json:"message"`
	Evidence  []string      `json:"evidence,omitempty"` // of a problem: the last lines of a log
	Hint      string        `json:"hint,omitempty"`
	Elapsed   time.Duration `json:"elapsed,omitempty"` // of a component that is done or failed: since it started, in nanoseconds
}

// emitter serializes events from the components' goroutines and times each component.
type emitter struct {
	mu      sync.Mutex
	sink    func(Event)
	started map[Component]time.Time
	last    map[Component]string
	told    map[string]bool // the problems that were told already, by what to do about them: pods take turns in having the same one
}

func newEmitter(sink func(Event)) *emitter {
	if sink == nil {
		sink = func(Event) {}
	}
	return &emitter{sink: sink, started: map[Component]time.Time{}, last: map[Component]string{}, told: map[string]bool{}}
}

// emit sends an event, unless it repeats the component's last one.
func (e *emitter) emit(c Component, kind EventKind, message, hint string) {
	e.send(Event{Component: c, Kind: kind, Message: message, Hint: hint})
}

// problem tells what is in the way of an object, and whether waiting goes on.
func (e *emitter) problem(c Component, p *kube.Problem) {
	e.send(Event{Component: c, Kind: Problem, Message: p.String(), Evidence: p.Evidence, Hint: fmt.Sprintf("%s (%s)", p.Hint, p.Verdict())})
}

func (e *emitter) send(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if _, ok := e.started[event.Component]; !ok {
		e.started[event.Component] = now
	}
	if e.repeats(event) {
		return
	}
	event.Time = now
	if event.Kind == Done || event.Kind == Failed {
		event.Elapsed = now.Sub(e.started[event.Component])
	}
	e.sink(event)
}

// repeats reports whether an event tells nothing new.
func (e *emitter) repeats(event Event) bool {
	if event.Kind == Problem {
		key := string(event.Component) + event.Hint
		told := e.told[key]
		e.told[key] = true
		return told
	}
	same := e.last[event.Component] == event.Message
	e.last[event.Component] = event.Message
	return same && event.Kind == Progress
}

func (e *emitter) start(c Component, message string)    { e.emit(c, Started, message, "") }
func (e *emitter) progress(c Component, message string) { e.emit(c, Progress, message, "") }
func (e *emitter) warn(c Component, message string)     { e.emit(c, Warning, message, "") }
func (e *emitter) done(c Component, message string)     { e.emit(c, Done, message, "") }
