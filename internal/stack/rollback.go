package stack

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// RollbackOptions are what one rollback may do.
type RollbackOptions struct {
	Revision    int  // to go back to; 0: the last good one before what is there
	TakeOver    bool // as UpOptions has it, and so the next
	Recreate    bool
	LockTimeout time.Duration
}

// Rollback is what a rollback will do. Making it changes nothing.
type Rollback struct {
	Target   Target            `json:"target"`
	From     *Revision         `json:"from"` // the newest: what is there now, or what was tried last
	To       Revision          `json:"to"`
	Releases []RollbackRelease `json:"releases"`
	Objects  int               `json:"objects"` // of the app

	engine  *Engine // with the settings of To
	options UpOptions
}

// RollbackRelease is what a rollback does to a release of Helm's.
type RollbackRelease struct {
	Name       Component `json:"name"`
	Unchanged  bool      `json:"unchanged"`
	Version    string    `json:"version"`    // of the chart, after it
	WasVersion string    `json:"wasVersion"` // of the chart, before it
	From       int       `json:"from"`       // Helm's revision, the newest
	To         int       `json:"to"`         // Helm's revision that it goes back to; 0 if it is unchanged
}

// RollbackResult is what a rollback did.
type RollbackResult struct {
	*UpResult
	RollbackTo int    `json:"rollbackTo"` // the revision that is there again
	Image      string `json:"image"`
}

// PlanRollback finds the revision to go back to and what has to be done for it. All that can be known to fail
// fails here: a *NoRevisionError, a *helm.RevisionGoneError, and what up refuses.
func (e *Engine) PlanRollback(ctx context.Context, o RollbackOptions) (*Rollback, error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	stored, err := e.kube.ReadRevisions(ctx, e.cfg.Namespace)
	if err != nil {
		return nil, err
	}
	to, err := rollbackTarget(stored, o.Revision)
	if err != nil {
		return nil, err
	}
	d := &Rollback{Target: e.target, To: revisionOf(to), engine: e.at(to), options: UpOptions{TakeOver: o.TakeOver, Recreate: o.Recreate, LockTimeout: o.LockTimeout, back: to}}
	if from := revisionOf(stored[0]); from.Number != to.Number {
		d.From = &from
	}
	p, err := d.engine.makePlan(ctx, d.options)
	if err != nil {
		return nil, err
	}
	d.Objects = len(p.app.all())
	d.Releases = append(d.Releases, rollbackRelease(Redis, p.redis))
	if p.ingress != nil {
		d.Releases = append(d.Releases, rollbackRelease(Ingress, *p.ingress))
	}
	return d, nil
}

func rollbackRelease(c Component, rp releasePlan) RollbackRelease {
	return RollbackRelease{
		Name: c, Unchanged: rp.Action == helm.ActionNone, Version: rp.spec.Chart.Version, WasVersion: rp.Current.ChartVersion,
		From: rp.Current.Revision, To: rp.RollbackTo,
	}
}

// Rollback makes the deployment what it was: by the same steps as Up, waits and the real request included, from
// what was stored instead of from the configuration. Redis' data and password stay as they are.
func (e *Engine) Rollback(ctx context.Context, d *Rollback) (*RollbackResult, error) {
	result, err := d.engine.Up(ctx, d.options)
	if err != nil {
		return nil, err
	}
	return &RollbackResult{UpResult: result, RollbackTo: d.To.Number, Image: d.To.Image}, nil
}

// NoRevisionError says that there is no revision to go back to, or not the one that was asked for.
type NoRevisionError struct {
	Number int            // that was asked for; 0: none in particular
	Status RevisionStatus // of that one; empty: it is not there
	Good   []int          // that could be gone back to
}

func (e *NoRevisionError) Error() string {
	switch {
	case e.Number == 0:
		return "there is no earlier revision that was deployed, so there is nothing to go back to"
	case e.Status == "":
		return fmt.Sprintf("there is no revision %d", e.Number)
	case e.Status == RevisionDeployed:
		return fmt.Sprintf("revision %d was too large to be kept", e.Number)
	}
	return fmt.Sprintf("revision %d was never deployed: it is %s", e.Number, e.Status)
}

// Hint says what to do.
func (e *NoRevisionError) Hint() string {
	if len(e.Good) == 0 {
		return "pwdeploy history shows what there is; pwdeploy up deploys what the configuration says"
	}
	words := make([]string, 0, len(e.Good))
	for _, n := range e.Good {
		words = append(words, strconv.Itoa(n))
	}
	return "pwdeploy history shows what there is; these were deployed: " + strings.Join(words, ", ")
}

// rollbackTarget chooses among revisions, the newest first. Without a number it is the newest that was deployed
// and is not what is there now: where the newest of all is a good one, the last before it of another set. A rollback
// that did not come to its end is taken up.
func rollbackTarget(all []*kube.Revision, number int) (*kube.Revision, error) {
	if number == 0 {
		number = unfinishedRollback(all)
	}
	missing := &NoRevisionError{Number: number}
	var chosen *kube.Revision
	for _, rev := range all {
		if rev.Number == number && number > 0 {
			missing.Status = RevisionStatus(rev.Status)
		}
		if rev.Status != kube.RevisionDeployed || rev.ObjectsLeftOut {
			continue
		}
		missing.Good = append(missing.Good, rev.Number)
		current := all[0].Status == kube.RevisionDeployed && rev.Set == all[0].Set
		if chosen == nil && (rev.Number == number || number == 0 && !current) {
			chosen = rev
		}
	}
	if chosen == nil {
		return nil, missing
	}
	return chosen, nil
}

// unfinishedRollback is the revision that a rollback which did not come to its end was to return to, or 0.
func unfinishedRollback(all []*kube.Revision) int {
	if len(all) == 0 || all[0].Status == kube.RevisionDeployed {
		return 0
	}
	return all[0].RollbackTo
}

// at is the engine with the settings that a revision was made with.
func (e *Engine) at(rev *kube.Revision) *Engine {
	back := *e
	back.cfg.Profile, back.cfg.Host, back.cfg.Image = rev.Settings[settingProfile], rev.Settings[settingHost], rev.Settings[settingImage]
	back.cfg.Ingress.ClassName, back.cfg.File = rev.IngressClass, rev.ConfigFile
	for _, r := range rev.Releases {
		switch r.Name {
		case redisRelease:
			back.cfg.Redis.Namespace = r.Namespace
		case ingressRelease:
			back.cfg.Ingress.Namespace = r.Namespace
		}
	}
	for _, o := range rev.Objects {
		if o.GroupVersionKind().GroupKind() == kube.DeploymentKind.GroupKind() && o.GetName() == manifests.AppName {
			replicas, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
			back.cfg.Replicas = int(replicas)
		}
	}
	back.target = targetOf(back.cfg, back.kube, back.nodes, back.inventory)
	return &back
}

// planBack is the plan that makes the deployment what a revision was. It needs no chart.
func (e *Engine) planBack(ctx context.Context, o UpOptions) (*plan, error) {
	if err := e.checkMoved(); err != nil {
		return nil, err
	}
	p := &plan{back: true}
	p.takeApp(copies(o.back.Objects))
	if p.app.namespace == nil || p.app.ingress == nil {
		return nil, &NoRevisionError{Number: o.back.Number, Status: RevisionUnreadable}
	}
	group, ctx2 := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		p.password, err = e.findPassword(ctx2)
		return err
	})
	group.Go(func() error { return e.planController(ctx2, p, o.back) })
	for _, r := range o.back.Releases {
		group.Go(func() error { return e.planReleaseBack(ctx2, p, r) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return p, e.checkPlan(ctx, p, o)
}

// copies keep a revision as it was stored: a plan's objects may be changed.
func copies(objs []*unstructured.Unstructured) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, 0, len(objs))
	for _, o := range objs {
		out = append(out, o.DeepCopy())
	}
	return out
}

// ControllerGoneError says that a revision was served by an ingress controller of somebody else's that is
// not there any more.
type ControllerGoneError struct {
	Revision int
	Class    string
}

func (e *ControllerGoneError) Error() string {
	return fmt.Sprintf("revision %d was served by somebody else's ingress controller of class %s, which is not there", e.Revision, e.Class)
}

// Hint says what to do.
func (e *ControllerGoneError) Hint() string {
	return "pwdeploy up with the image of then uses the controller that is there"
}

// planController finds the controller that served a revision: ours, or somebody else's, which must still be there.
func (e *Engine) planController(ctx context.Context, p *plan, rev *kube.Revision) error {
	if slices.ContainsFunc(rev.Releases, func(r kube.RevisionRelease) bool { return r.Name == ingressRelease }) {
		p.controller = controller{class: rev.IngressClass, namespace: e.cfg.Ingress.Namespace}
		return nil
	}
	found, err := e.findController(ctx)
	if err != nil {
		return err
	}
	if !found.foreign || found.class != rev.IngressClass {
		return &ControllerGoneError{Revision: rev.Number, Class: rev.IngressClass}
	}
	p.controller = found
	return nil
}

// planReleaseBack finds what has to be done to a release. The chart is only named: Helm has kept what it rendered.
func (e *Engine) planReleaseBack(ctx context.Context, p *plan, r kube.RevisionRelease) error {
	spec := helm.Spec{
		Name: r.Name, Namespace: r.Namespace, Instance: e.instance(), HookTimeout: e.timeout(),
		Chart: &helm.Chart{Name: r.Chart, Version: r.Version, Digest: r.ChartDigest},
	}
	made, err := e.helm.PlanRollback(ctx, spec, r.Digest)
	var mends []string
	if err == nil && made.Action == helm.ActionNone {
		mends, err = e.findMends(ctx, spec)
		if spec.Force = len(mends) > 0; err == nil && spec.Force {
			made, err = e.helm.PlanRollback(ctx, spec, r.Digest)
		}
	}
	if err != nil {
		return err
	}
	rp := releasePlan{spec: spec, Plan: made, mends: mends}
	if r.Name == ingressRelease {
		p.ingress = &rp
	} else {
		p.redis = rp
	}
	return nil
}
