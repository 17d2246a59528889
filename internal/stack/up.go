package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// UpResult is what up did.
type UpResult struct {
	Target     Target            `json:"target"`
	Changed    bool              `json:"changed"` // false: the cluster was as it should be already
	Components []ComponentChange `json:"components"`
	Endpoint   *Served           `json:"endpoint,omitempty"`
	Next       []Step            `json:"next"`
	Seconds    float64           `json:"seconds"`
}

// ComponentChange is what up did to a component.
type ComponentChange struct {
	Name    Component `json:"name"`
	Action  string    `json:"action"`  // installed, upgraded, mended, rolled back, unchanged, reused, applied
	Version string    `json:"version"` // of the chart, or the image
}

// Step is something that the user may want to do next.
type Step struct {
	Why     string `json:"why"`
	Command string `json:"command,omitempty"`
}

// UpError says which components failed. What was done until then stays, and up can be run again.
type UpError struct {
	Failures []ComponentError
	Timeout  bool
	Back     *Revision // what was deployed before, which a rollback returns to; nil if there is none
}

// ComponentError is why a component failed.
type ComponentError struct {
	Component Component
	Err       error
}

func (e *UpError) Error() string {
	parts := make([]string, 0, len(e.Failures))
	for _, f := range e.Failures {
		parts = append(parts, fmt.Sprintf("%s: %v", f.Component, f.Err))
	}
	return strings.Join(parts, "\n")
}

// Unwrap gives the components' errors.
func (e *UpError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failures))
	for _, f := range e.Failures {
		errs = append(errs, f.Err)
	}
	return errs
}

// UpOptions are what one up may do otherwise than the configuration says.
type UpOptions struct {
	TakeOver    bool          // set fields that somebody else has set, too
	Recreate    bool          // delete and make anew what can't be changed in place
	Agreed      *RefusedError // what a person was shown and agreed to: just that is done
	LockTimeout time.Duration // how much longer than it takes to see that it is alive another run is waited for

	back *kube.Revision // deploy this instead of what the configuration says
}

// command is what other runs are told that this one is.
func (o UpOptions) command() string {
	if o.back != nil {
		return "rollback"
	}
	return "up"
}

// Up makes the deployment what the configuration says, waits until it is ready and proves it by a
// request. It can be interrupted and run again.
//
// An error is an *UnfinishedError.
func (e *Engine) Up(ctx context.Context, o UpOptions) (*UpResult, error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	result, err := e.up(ctx, o)
	if err != nil {
		return nil, e.unfinished(ctx, o.command(), err)
	}
	return result, nil
}

func (e *Engine) up(ctx context.Context, o UpOptions) (*UpResult, error) {
	begin := time.Now()
	p, err := e.makePlan(ctx, o)
	if err != nil {
		return nil, err
	}
	e.ledger.plan(Redis, Ingress, App)
	r := &run{Engine: e, options: o, plan: p, result: &UpResult{Target: e.target, Next: []Step{}}}
	if r.settled = r.isSettled(ctx); r.settled {
		err = r.carryOut(ctx)
	} else {
		err = r.alone(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.result.Seconds = time.Since(begin).Seconds()
	return r.result, nil
}

// alone carries the plan out under the lock. It plans again if another run was at work since it planned.
func (r *run) alone(ctx context.Context) error {
	ctx, lock, err := r.lock(ctx, r.options.command(), r.options.LockTimeout, r.plan.appNamespace())
	if err != nil {
		return err
	}
	defer lock.release(ctx)
	return lostLock(ctx, r.carryOutFresh(ctx, lock))
}

func (r *run) carryOutFresh(ctx context.Context, lock *held) error {
	stale, err := lock.stale(ctx)
	if err != nil {
		return err
	}
	if stale {
		if r.plan, err = r.makePlan(ctx, r.options); err != nil {
			return err
		}
	}
	return r.carryOut(ctx)
}

// carryOut carries the plan out, and records that it failed if it did.
func (r *run) carryOut(ctx context.Context) error {
	err := r.deploy(ctx)
	if err != nil {
		r.revisionFailed(ctx, err)
	}
	return err
}

func (r *run) deploy(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.components(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// run is one up under way.
type run struct {
	*Engine
	options  UpOptions
	plan     *plan
	password []byte
	record   *kube.Inventory
	revision *kube.Revision // nil: what is deployed is no new one

	settled bool // the cluster is as it should be already

	mu     sync.Mutex
	result *UpResult
	failed []ComponentError
}

func (r *run) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Changed = true
}

// prepare makes the namespaces, records what is about to be made, and makes the password.
func (r *run) prepare(ctx context.Context) error {
	if r.settled {
		return nil
	}
	user := r.askWho(ctx)
	made, err := r.makeNamespaces(ctx, r.plan.namespaces)
	if err != nil {
		return err
	}
	if made {
		r.changed()
	}
	r.record = r.inventoryBefore()
	r.ledger.begin(Namespaces, "recording what is about to be made", "")
	if !r.upToDate() {
		if err := r.recordBefore(ctx, <-user); err != nil {
			return err
		}
	}
	if r.password, err = r.ensurePassword(ctx); err != nil {
		return err
	}
	r.ledger.forget(Namespaces)
	return nil
}

// upToDate reports whether the last run was complete and recorded just what this one will: then nothing
// new has to be recorded before the first change.
func (r *run) upToDate() bool {
	return !r.newSet() && len(r.plan.releases()) == 0 && r.inventory.Same(r.record)
}

// inventoryBefore is what was recorded and what is about to be made.
func (r *run) inventoryBefore() *kube.Inventory {
	record := &kube.Inventory{}
	if r.inventory != nil {
		record.Objects = slices.Clone(r.inventory.Objects)
		record.Revision, record.Set = r.inventory.Revision, r.inventory.Set
	}
	record.AddObjects(r.refs())
	r.describe(record)
	return record
}

// refs are the objects that the app should consist of after this run.
func (r *run) refs() []kube.Ref {
	refs := kube.RefsOf(r.plan.app.all())
	return append(refs, kube.RefOf(r.appPassword(nil)))
}

func (r *run) describe(record *kube.Inventory) {
	record.Settings = map[string]string{settingHost: r.cfg.Host, settingImage: r.cfg.Image, settingProfile: r.target.Profile}
	if r.cfg.KeepReplicas {
		record.Settings[settingKeepReplicas] = "true"
	}
	record.IngressClass = r.plan.controller.class
	record.Releases = []kube.InventoryChart{releaseRecord(r.plan.redis)}
	if r.plan.ingress != nil {
		record.Releases = append(record.Releases, releaseRecord(*r.plan.ingress))
	}
}

func releaseRecord(rp releasePlan) kube.InventoryChart {
	return kube.InventoryChart{Name: rp.spec.Name, Namespace: rp.spec.Namespace, Chart: rp.spec.Chart.Name, Version: rp.spec.Chart.Version, Digest: rp.Digest}
}

// components brings all of them up side by side. If one can't become ready, the others are no longer
// waited for; what Helm has under way is brought to its end.
func (r *run) components(ctx context.Context) error {
	waitCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	controllerReady := make(chan struct{})
	var group sync.WaitGroup
	for component, bringUp := range map[Component]func() error{
		Redis:   func() error { return r.upRelease(ctx, waitCtx, Redis, r.plan.redis) },
		Ingress: func() error { return r.upController(ctx, waitCtx, controllerReady) },
		App:     func() error { return r.upApp(ctx, waitCtx, controllerReady) },
	} {
		group.Go(func() {
			if err := bringUp(); err != nil {
				r.fail(ctx, component, err, giveUp)
			}
		})
	}
	group.Wait()
	if len(r.failed) == 0 {
		return nil
	}
	return r.failure(ctx)
}

// errGivenUp marks a component that was no longer waited for because another one failed.
var errGivenUp = errors.New("no longer waited for")

func (r *run) fail(ctx context.Context, c Component, err error, giveUp func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, errGivenUp) {
		return
	}
	r.failed = append(r.failed, ComponentError{Component: c, Err: err})
	r.events.emit(c, Failed, inShort(ctx, err), "")
	giveUp()
}

// inShort is a component's line: the whole error is told at the end.
func inShort(ctx context.Context, err error) string {
	var notReady *kube.NotReadyError
	if errors.Is(ctx.Err(), context.Canceled) {
		return "interrupted"
	}
	if errors.As(err, &notReady) {
		return notReady.Short()
	}
	return "failed"
}

func (r *run) failure(ctx context.Context) error {
	order := Components()
	slices.SortFunc(r.failed, func(a, b ComponentError) int {
		return slices.Index(order, a.Component) - slices.Index(order, b.Component)
	})
	if errors.Is(ctx.Err(), context.Canceled) { // interrupted, or the lock was lost
		return ctx.Err()
	}
	return &UpError{Failures: r.failed, Timeout: ctx.Err() != nil}
}

func (r *run) upController(ctx, waitCtx context.Context, ready chan<- struct{}) error {
	if r.plan.controller.foreign {
		r.events.start(Ingress, "")
		r.note(Ingress, "reused", "class "+r.plan.controller.class)
		r.ledger.settle(Ingress, fmt.Sprintf("not ours: class %s is used as it is", r.plan.controller.class))
		r.events.done(Ingress, fmt.Sprintf("not ours: class %s is there already and is used as it is", r.plan.controller.class))
		close(ready)
		return nil
	}
	if err := r.upRelease(ctx, waitCtx, Ingress, *r.plan.ingress); err != nil {
		return err
	}
	close(ready)
	return nil
}

// presentTense and pastTense word what is done to a release.
var (
	presentTense = map[helm.Action]string{helm.ActionInstall: "installing", helm.ActionUpgrade: "upgrading", helm.ActionRollback: "going back to"}
	pastTense    = map[helm.Action]string{helm.ActionNone: "unchanged", helm.ActionInstall: "installed", helm.ActionUpgrade: "upgraded", helm.ActionRollback: "rolled back"}
)

func (rp releasePlan) presentTense() string {
	if len(rp.mends) > 0 {
		return "mending"
	}
	return presentTense[rp.Action]
}

func (rp releasePlan) pastTense() string {
	if len(rp.mends) > 0 {
		return "mended"
	}
	return pastTense[rp.Action]
}

// upRelease installs or upgrades a release and waits until its objects are ready.
func (r *run) upRelease(ctx, waitCtx context.Context, c Component, rp releasePlan) error {
	chart := fmt.Sprintf("chart %s %s", rp.spec.Chart.Name, rp.spec.Chart.Version)
	if rp.Action != helm.ActionNone {
		doing := rp.presentTense() + " " + chart
		if rp.Current != nil && rp.Current.Status == helm.StatusUninstalling {
			doing = "finishing an uninstall that was cut off, then " + doing
		}
		r.tellRelease(c, rp, doing)
		r.ledger.begin(c, doing, "the next run recovers the release")
		r.changed()
		if err := r.applyRelease(ctx, c, rp); err != nil {
			return err
		}
	}
	did := chart + " " + rp.pastTense()
	r.ledger.carry(c, did)
	objs, err := r.helm.Objects(ctx, rp.spec.Namespace, rp.spec.Name)
	if err != nil {
		return err
	}
	if err := r.wait(ctx, waitCtx, c, kube.RefsOf(objs)); err != nil {
		return err
	}
	r.note(c, rp.pastTense(), rp.spec.Chart.Version)
	r.ledger.settle(c, "ready, "+did)
	r.events.done(c, "ready, "+did)
	return nil
}

// tellRelease says what is done to a release, and to mend what.
func (r *run) tellRelease(c Component, rp releasePlan, doing string) {
	if len(rp.mends) == 0 {
		r.events.progress(c, doing)
	}
	for _, mend := range rp.mends {
		r.events.progress(c, "mending: "+mend)
	}
}

// applyRelease lets Helm work, and watches the chart's hooks meanwhile: Helm would wait for a Job that
// can't start until the time is up, and not say why. A Job that fails is gone at once with its pods and
// their logs, so what was seen of it last is kept.
func (r *run) applyRelease(ctx context.Context, c Component, rp releasePlan) error {
	ctx, stop := context.WithCancelCause(ctx)
	hooks := &hookWatch{last: map[kube.Ref]kube.Readiness{}}
	var watches sync.WaitGroup
	rp.spec.OnHook = func(kind, namespace, name string) {
		if kind != kube.JobKind.Kind {
			return
		}
		r.events.progress(c, "waiting for hook Job "+name)
		ref := kube.Ref{GroupVersionKind: kube.JobKind, Namespace: namespace, Name: name}
		hooks.begin(ref)
		r.ledger.saw(c, []kube.Readiness{{Ref: ref}})
		tell := r.tellProblems(c)
		watches.Go(func() {
			err := r.kube.Wait(ctx, []kube.Ref{ref}, func(states []kube.Readiness) {
				if hooks.see(states) {
					r.ledger.saw(c, states)
				}
				tell(states)
			})
			var notReady *kube.NotReadyError
			if errors.As(err, &notReady) && !hooks.late(ref, notReady) {
				stop(err)
			}
		})
	}
	err := r.changeRelease(ctx, c, rp)
	cause := context.Cause(ctx)
	stop(nil)
	watches.Wait()
	var hopeless *kube.NotReadyError
	if errors.As(cause, &hopeless) {
		return hopeless
	}
	return hooks.explain(ctx, err)
}

// hookWatch remembers what was seen of hooks.
type hookWatch struct {
	mu      sync.Mutex
	current kube.Ref                    // the one that Helm waits for
	last    map[kube.Ref]kube.Readiness // of each, with a problem
	overdue *kube.NotReadyError         // why the current one was not done in time
}

func (h *hookWatch) begin(ref kube.Ref) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = ref
}

// see reports whether Helm waits for what was seen.
func (h *hookWatch) see(states []kube.Readiness) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	current := false
	for _, s := range states {
		current = current || s.Ref.Same(h.current)
		if s.Problem != nil {
			h.last[s.Ref] = s
		}
	}
	return current
}

// late notes that a hook was not done when the wait for it ended, unless waiting longer can't help: then it
// reports false.
func (h *hookWatch) late(ref kube.Ref, err *kube.NotReadyError) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err.Timeout && ref.Same(h.current) {
		h.overdue = err
	}
	return err.Timeout
}

// explain adds to the failure of a hook, or to the end of the time while it was waited for, what was seen of it.
func (h *hookWatch) explain(ctx context.Context, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && h.overdue != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return h.overdue
	}
	var hook *helm.HookError
	if !errors.As(err, &hook) {
		return err
	}
	seen, ok := h.last[kube.Ref{GroupVersionKind: kube.JobKind, Namespace: hook.Namespace, Name: hook.Name}]
	if !ok {
		return err
	}
	seen.Message = hook.Problem
	return &kube.NotReadyError{Objects: []kube.Readiness{seen}}
}

func (r *run) changeRelease(ctx context.Context, c Component, rp releasePlan) error {
	if err := r.makeWay(ctx, c, rp); err != nil {
		return err
	}
	if rp.Action == helm.ActionRollback {
		return r.helm.Rollback(ctx, rp.spec, rp.Plan)
	}
	_, _, err := r.helm.Apply(ctx, rp.spec)
	return err
}

// tellProblems tells what is in the way of objects that are waited for.
func (r *run) tellProblems(c Component) func([]kube.Readiness) {
	return func(states []kube.Readiness) {
		if p := firstProblem(states); p != nil {
			r.events.problem(c, p)
		}
	}
}

func firstProblem(states []kube.Readiness) *kube.Problem {
	for _, s := range states {
		if !s.Ready && s.Problem != nil && !s.Problem.Usual {
			return s.Problem
		}
	}
	return nil
}

func (r *run) note(c Component, action, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Components = append(r.result.Components, ComponentChange{Name: c, Action: action, Version: version})
}

// wait waits for refs and tells what it waits for.
func (r *run) wait(ctx, waitCtx context.Context, c Component, refs []kube.Ref) error {
	err := r.kube.Wait(waitCtx, refs, func(states []kube.Readiness) {
		r.ledger.saw(c, states)
		if firstProblem(states) != nil {
			r.tellProblems(c)(states)
		} else if text := waitingFor(states); text != "" {
			r.events.progress(c, text)
		}
	})
	var notReady *kube.NotReadyError
	if !errors.As(err, &notReady) {
		return err
	}
	r.ledger.saw(c, notReady.Objects)
	if notReady.Timeout && ctx.Err() == nil {
		return errGivenUp
	}
	return err
}

// waitingFor names what is not ready yet, and what every start has to get over.
func waitingFor(states []kube.Readiness) string {
	var parts []string
	for _, s := range states {
		switch {
		case s.Ready:
		case s.Problem != nil && s.Problem.Reason == redisUnreachable:
			parts = append(parts, fmt.Sprintf("%s %s %s, waiting for Redis", s.Ref.Kind, s.Ref.Name, s.Message))
		case s.Problem != nil:
			parts = append(parts, fmt.Sprintf("%s %s %s (%s)", s.Ref.Kind, s.Ref.Name, s.Message, s.Problem))
		default:
			parts = append(parts, fmt.Sprintf("%s %s %s", s.Ref.Kind, s.Ref.Name, s.Message))
		}
	}
	return strings.Join(parts, ", ")
}

// upApp applies the app's objects at once, the Ingress when the controller takes it, and waits.
func (r *run) upApp(ctx, waitCtx context.Context, controllerReady <-chan struct{}) error {
	image := "image " + r.cfg.Image
	r.events.start(App, image)
	r.ledger.begin(App, "applying "+image, "")
	changes, err := r.applyFirst(ctx)
	if err != nil {
		r.ledger.begin(App, "applying "+image, appliedOf(changes, len(r.plan.app.trials)))
		return err
	}
	if changed(changes) {
		r.changed()
	}
	routed := r.plan.app.trial(kube.RefOf(r.plan.app.ingress)).Action == kube.Unchanged
	r.ledger.carry(App, r.appliedSoFar(changes, routed))
	if err := r.rollOut(ctx, waitCtx, controllerReady, &changes); err != nil {
		return err
	}
	action := appAction(changes)
	r.note(App, action, r.cfg.Image)
	r.ledger.settle(App, fmt.Sprintf("ready, %s %s", image, action))
	r.events.done(App, fmt.Sprintf("ready, %s with %d replicas, %s", r.cfg.Image, r.plan.app.replicas(), summary(changes)))
	return nil
}

// appAction is what was done to the app.
func appAction(changes []kube.Change) string {
	if changed(changes) {
		return "applied"
	}
	return "unchanged"
}

// appliedSoFar words what was done to the app. Its Ingress is not applied before the controller takes it.
func (r *run) appliedSoFar(changes []kube.Change, routed bool) string {
	text := "image " + r.cfg.Image + " " + appAction(changes)
	if !routed {
		text += " but for its Ingress"
	}
	return text
}

// appliedOf counts what was applied of all objects before something failed.
func appliedOf(changes []kube.Change, all int) string {
	n := 0
	for _, c := range changes {
		if c.Action != "" {
			n++
		}
	}
	return fmt.Sprintf("%d of %d objects are as they should be", n, all)
}

// applyFirst applies all but the Ingress, and has pods pull again that could not. The password may have been made since the plan.
func (r *run) applyFirst(ctx context.Context) ([]kube.Change, error) {
	if !bytes.Equal(r.password, r.plan.password) {
		secret := r.appPassword(r.password)
		trial, err := r.kube.Try(ctx, secret, r.terms())
		if err != nil {
			return nil, err
		}
		*r.plan.app.trial(kube.RefOf(secret)) = *trial
	}
	for _, t := range r.plan.app.trials {
		if t.Recreate {
			r.tellRecreate(App, t)
		}
	}
	changes, err := r.kube.CarryAll(ctx, r.plan.app.first())
	if err != nil || r.settled {
		return changes, err
	}
	return changes, r.retryPulls(ctx)
}

// rollOut waits for the pods and applies the Ingress, side by side. Where one of them fails, the other is no
// longer waited for.
func (r *run) rollOut(ctx, waitCtx context.Context, controllerReady <-chan struct{}, changes *[]kube.Change) error {
	waitCtx, giveUp := context.WithCancel(waitCtx)
	defer giveUp()
	routed := make(chan error, 1)
	go func() {
		err := r.applyIngress(ctx, waitCtx, controllerReady, changes)
		if err != nil {
			giveUp()
		}
		routed <- err
	}()
	err := r.wait(ctx, waitCtx, App, kube.RefsOf(r.plan.app.objects))
	if err != nil {
		giveUp()
	}
	routeErr := <-routed
	if err == nil || errors.Is(err, errGivenUp) && routeErr != nil {
		return routeErr
	}
	return err
}

// retryPulls does not leave it to the kubelet's patience when an image is tried again.
func (r *run) retryPulls(ctx context.Context) error {
	n, err := r.kube.RetryPulls(ctx, r.deploymentRef())
	if n > 0 {
		r.changed()
		r.events.progress(App, "trying again to pull "+r.cfg.Image)
	}
	return err
}

// deploymentRef is the app's.
func (e *Engine) deploymentRef() kube.Ref {
	return kube.Ref{GroupVersionKind: kube.DeploymentKind, Namespace: e.cfg.Namespace, Name: manifests.AppName}
}

func (r *run) applyIngress(ctx, waitCtx context.Context, controllerReady <-chan struct{}, changes *[]kube.Change) error {
	select {
	case <-waitCtx.Done():
		return errGivenUp
	case <-controllerReady:
	}
	trial := r.plan.app.trial(kube.RefOf(r.plan.app.ingress))
	if trial.Action != kube.Unchanged {
		if err := r.awaitWebhook(ctx, waitCtx, trial); err != nil {
			return err
		}
	}
	change, err := r.kube.Carry(ctx, trial)
	if err != nil {
		return err
	}
	*changes = append(*changes, change)
	if change.Action != kube.Unchanged {
		r.changed()
	}
	r.ledger.carry(App, r.appliedSoFar(*changes, true))
	return nil
}

// summary counts what happened: "7 created, 2 unchanged".
func summary(changes []kube.Change) string {
	var parts []string
	for _, action := range []kube.Action{kube.Created, kube.Configured, kube.Unchanged} {
		n := 0
		for _, c := range changes {
			if c.Action == action {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	return strings.Join(parts, ", ")
}

// finish removes what the app no longer consists of, proves that the app is served, and completes the
// record.
func (r *run) finish(ctx context.Context) error {
	if err := r.prune(ctx); err != nil {
		return err
	}
	served, err := r.verify(ctx, r.plan.controller)
	if err != nil {
		return &UpError{Failures: []ComponentError{{Endpoint, err}}, Timeout: ctx.Err() != nil}
	}
	r.result.Endpoint, r.result.Next = served, r.nextSteps(ctx, served)
	slices.SortFunc(r.result.Components, func(a, b ComponentChange) int {
		return slices.Index(Components(), a.Name) - slices.Index(Components(), b.Name)
	})
	return r.recordAfter(ctx)
}

func (r *run) recordAfter(ctx context.Context) error {
	record := &kube.Inventory{Complete: true, Revision: r.record.Revision, Set: r.record.Set}
	record.AddObjects(r.refs())
	r.describe(record)
	if r.revision != nil {
		record.Revision, record.Set = r.revision.Number, r.revision.Set
	}
	if r.upToDate() && r.inventory.Same(record) {
		return nil
	}
	if err := r.revisionDeployed(ctx); err != nil {
		return err
	}
	return r.kube.WriteInventory(ctx, r.cfg.Namespace, record)
}

// prune deletes objects that an earlier run recorded and this one no longer wants, if they are still ours:
// ConfigMaps of older contents, for one. It comes after the rollout, which may still need them.
func (r *run) prune(ctx context.Context) error {
	if r.inventory == nil {
		return nil
	}
	wanted := r.refs()
	var stale []kube.Ref
	for _, ref := range r.inventory.Refs() {
		if !slices.ContainsFunc(wanted, ref.Same) {
			stale = append(stale, ref)
		}
	}
	changes, err := r.kube.DeleteOwned(ctx, stale, r.instance())
	if changed(changes) {
		r.changed()
	}
	return err
}
