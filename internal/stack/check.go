package stack

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// CheckGroup is what a check is about.
type CheckGroup string

// The groups, in the order in which they are shown.
const (
	CheckCluster     CheckGroup = "cluster"
	CheckPermissions CheckGroup = "permissions"
	CheckStorage     CheckGroup = "storage"
	CheckIngress     CheckGroup = "ingress"
	CheckLeftovers   CheckGroup = "leftovers"
	CheckSources     CheckGroup = "sources"
	CheckRoom        CheckGroup = "room"
	CheckNotes       CheckGroup = "notes"
)

// CheckGroups are all of them, in the order in which they are shown.
func CheckGroups() []CheckGroup {
	return []CheckGroup{CheckCluster, CheckPermissions, CheckStorage, CheckIngress, CheckLeftovers, CheckSources, CheckRoom, CheckNotes}
}

// CheckState is how a check ended.
type CheckState string

// The states of a check.
const (
	CheckOK      CheckState = "ok"
	CheckWarning CheckState = "warning" // worth knowing; up goes on
	CheckFailed  CheckState = "error"   // up fails, or what it makes does not work
	CheckSkipped CheckState = "skipped" // could not be looked at, or is not asked for here
)

// Check is one look at something that up depends on.
type Check struct {
	Group   CheckGroup `json:"group"`
	Name    string     `json:"name"`
	State   CheckState `json:"state"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`

	err    error // what an error was made of; may be nil
	passes bool  // an error that can pass while up waits: up warns and goes on
}

// CheckResult is what was looked at, and how it is.
type CheckResult struct {
	Target   Target  `json:"target"`
	Checks   []Check `json:"checks"`
	Errors   int     `json:"errors"`
	Warnings int     `json:"warnings"`
	Seconds  float64 `json:"seconds"`
}

// CheckError is an error of a check that has no type of its own.
type CheckError struct{ Message, Advice string }

func (e *CheckError) Error() string { return e.Message }

// Hint says what to do.
func (e *CheckError) Hint() string { return e.Advice }

// Check looks at all that up depends on, and changes nothing. It fails only where the configuration can't be
// used or the time is up; all else is in the result.
func (e *Engine) Check(ctx context.Context) (*CheckResult, error) {
	begin := time.Now()
	ctx, cancel := e.limited(ctx)
	defer cancel()
	l := &look{Engine: e, plan: &plan{redis: releasePlan{Plan: helm.Plan{Action: helm.ActionNone}}}}
	if err := l.planAll(ctx); err != nil {
		return nil, err
	}
	l.lookAround(ctx)
	l.checkAll()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return l.result(begin), nil
}

// look is one check under way.
type look struct {
	*Engine
	plan    *plan
	fetched struct{ redis, ingress *helm.Chart }

	mu     sync.Mutex
	checks []Check

	survey    *kube.Survey
	workloads []workload              // what the plan wants to run
	balancer  *string                 // the class of load balancer that the plan asks for; nil: none
	inUp      bool                    // it is the first phase of up
	dead      []kube.DeadWebhookError // in the way of it
}

func (l *look) add(c Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checks = append(l.checks, c)
}

func (l *look) ok(g CheckGroup, name, message string) {
	l.add(Check{Group: g, Name: name, State: CheckOK, Message: message})
}

func (l *look) warn(g CheckGroup, name, message, hint string) {
	l.add(Check{Group: g, Name: name, State: CheckWarning, Message: message, Hint: hint})
}

func (l *look) skip(g CheckGroup, name, message string) {
	l.add(Check{Group: g, Name: name, State: CheckSkipped, Message: message})
}

// fail tells an error in its own words, with its own hint.
func (l *look) fail(g CheckGroup, name string, err error) {
	l.add(Check{Group: g, Name: name, State: CheckFailed, Message: err.Error(), Hint: hintOf(err), err: err})
}

// unseen tells that something could not be looked at, which is no error of the cluster's.
func (l *look) unseen(g CheckGroup, name string, err error) {
	if apierrors.IsForbidden(err) {
		l.skip(g, name, "not looked at, because this user may not: "+err.Error())
		return
	}
	l.skip(g, name, "could not be looked at: "+err.Error())
}

func hintOf(err error) string {
	var hinted kube.Hinted
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// seen adds what came of a look: what it found, that it failed, or that all is well.
func (l *look) seen(g CheckGroup, name string, err error, good string) {
	var refused *kube.PodRefusedError // forbidden, and just what was looked for
	var request *kube.RequestError
	switch {
	case err == nil:
		l.ok(g, name, good)
	case errors.As(err, &refused):
		l.fail(g, name, err)
	case errors.As(err, &request), apierrors.IsForbidden(err):
		l.unseen(g, name, err)
	default:
		l.fail(g, name, err)
	}
}

// result sorts the checks by group, each group's as they were made, and counts what is not well.
func (l *look) result(begin time.Time) *CheckResult {
	r := &CheckResult{Target: l.target, Checks: l.sorted(), Seconds: time.Since(begin).Seconds()}
	for _, c := range r.Checks {
		switch c.State {
		case CheckFailed:
			r.Errors++
		case CheckWarning:
			r.Warnings++
		}
	}
	return r
}

// sorted gives the checks by group and name: they were made side by side.
func (l *look) sorted() []Check {
	groups := CheckGroups()
	slices.SortStableFunc(l.checks, func(a, b Check) int {
		if byGroup := slices.Index(groups, a.Group) - slices.Index(groups, b.Group); byGroup != 0 {
			return byGroup
		}
		return strings.Compare(a.Name, b.Name)
	})
	return l.checks
}

// checkAll judges what was read. All of it is also the first phase of up.
func (l *look) checkAll() {
	l.checkCluster()
	l.checkStorage()
	l.checkEdge()
	l.checkWebhooks()
	l.checkRoles()
	l.checkImages()
	l.checkRoom()
	l.checkNotes()
}

// lookAround reads what checkAll judges, side by side.
func (l *look) lookAround(ctx context.Context) {
	l.workloads = l.planned(ctx)
	var group sync.WaitGroup
	group.Go(func() { l.survey = l.kube.Survey(ctx, helmRelease(ingressRelease)) })
	group.Go(func() { l.readWebhooks(ctx) })
	group.Go(func() { l.lookAtHost(ctx) })
	group.Go(func() { l.tryPods(ctx) })
	group.Wait()
}

// Preflight is the component that up's checks are told under.
const Preflight Component = "check"

// preflight is the first phase of up: what check looks at and the plan does not refuse by itself. Its errors
// come all at once. Where everything is there and as it should be, nothing is looked at: it works already.
func (e *Engine) preflight(ctx context.Context, p *plan) error {
	if p.back || len(p.releases()) == 0 && e.inventory != nil && e.inventory.Complete {
		return nil
	}
	l := &look{Engine: e, plan: p, inUp: true}
	l.lookAround(ctx)
	l.checkAll()
	return l.verdict()
}

// verdict tells the warnings and gives the errors that waiting does not mend.
func (l *look) verdict() error {
	var errs []error
	for _, c := range l.sorted() {
		switch {
		case c.State == CheckFailed && !c.passes:
			errs = append(errs, c.asError())
		case c.State == CheckFailed, c.State == CheckWarning:
			l.events.emit(Preflight, Warning, c.Message, c.Hint)
		}
	}
	return errors.Join(errs...)
}

func (c *Check) asError() error {
	if c.err != nil {
		return c.err
	}
	return &CheckError{Message: c.Message, Advice: c.Hint}
}
