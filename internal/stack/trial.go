package stack

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// terms are the conditions on which the app's objects are applied.
func (e *Engine) terms() kube.Terms {
	t := kube.Terms{Instance: e.instance()}
	if e.cfg.KeepReplicas {
		t.Keep = [][]string{{"spec", "replicas"}}
	}
	return t
}

// try asks the cluster what carrying the plan out would do, and refuses what must not be done unasked.
func (e *Engine) try(ctx context.Context, p *plan, o UpOptions) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		p.app.trials, err = e.kube.TryAll(groupCtx, append(p.app.all(), e.appPassword(p.password)), e.terms())
		return err
	})
	for _, rp := range p.existing() {
		group.Go(func() error { return e.tryRelease(groupCtx, rp) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	refused := &RefusedError{}
	for _, ns := range p.namespaces {
		if ns.ours {
			refused.add(ns.trial, o)
		}
	}
	var anew []*kube.Trial
	for _, t := range p.trials() {
		refused.add(t, o)
		if t.Recreate {
			anew = append(anew, t)
		}
	}
	if refused.empty() {
		return e.checkRecreate(ctx, anew)
	}
	refused.Autoscaled = e.autoscaled(ctx, refused.Conflicts)
	return refused
}

// existing are the releases that are there and are to be changed.
func (p *plan) existing() []*releasePlan {
	all := []*releasePlan{&p.redis, p.ingress}
	return slices.DeleteFunc(all, func(rp *releasePlan) bool {
		return rp == nil || rp.Current == nil || rp.Action == helm.ActionNone || rp.Action == helm.ActionInstall
	})
}

// trials are those of the app's objects, and of what the cluster would not take of the releases.
func (p *plan) trials() []*kube.Trial {
	var all []*kube.Trial
	for _, rp := range p.existing() {
		all = append(all, rp.refused...)
	}
	return append(all, p.app.trials...)
}

// tryRelease finds the release's objects that the cluster would not take: Helm would fail half-way.
func (e *Engine) tryRelease(ctx context.Context, rp *releasePlan) error {
	var err error
	if rp.objects, err = e.releaseObjects(ctx, *rp); err != nil {
		return err
	}
	refusals, err := e.helm.Rehearse(ctx, rp.spec.Namespace, rp.spec.Name, rp.objects)
	if err != nil {
		return err
	}
	rp.refused = nil
	for _, r := range refusals {
		t, err := e.kube.Refused(ctx, r.Object, r.Err)
		if err != nil {
			return err
		}
		rp.refused = append(rp.refused, t)
	}
	return nil
}

// add notes what is in the way of one object, unless it was agreed to.
func (e *RefusedError) add(t *kube.Trial, o UpOptions) {
	if t.Foreign != nil {
		e.Foreign = append(e.Foreign, t.Foreign)
	}
	if len(t.Invalid) > 0 {
		e.Invalid = append(e.Invalid, InvalidObject{Object: kube.RefOf(t.Object).String(), Problems: t.Invalid})
	}
	if len(t.Immutable) > 0 {
		ref := kube.RefOf(t.Object)
		object := InvalidObject{Object: ref.String(), Problems: t.Immutable, Lost: lostBy(ref), Kept: ref.GroupKind() == kube.PVCKind.GroupKind()}
		if t.Recreate = o.mayRecreate(object); !t.Recreate {
			e.Immutable = append(e.Immutable, object)
		}
	}
	t.TakeOver = len(t.Conflicts) > 0 && o.mayTakeOver(t.Conflicts)
	if !t.TakeOver && !t.Recreate { // made anew it is nobody's but ours
		e.Conflicts = append(e.Conflicts, t.Conflicts...)
	}
}

// mayTakeOver reports whether the fields are to be taken over: all, or just those that a person was shown.
func (o UpOptions) mayTakeOver(conflicts []kube.Conflict) bool {
	if o.TakeOver || o.Agreed == nil {
		return o.TakeOver
	}
	for _, c := range conflicts {
		if !slices.ContainsFunc(o.Agreed.Conflicts, c.Same) {
			return false
		}
	}
	return true
}

// autoscaled reports whether the number of pods is in dispute with an autoscaler, or with somebody who scales
// by hand. The list of autoscalers may be forbidden: then only the field's owner tells.
func (e *Engine) autoscaled(ctx context.Context, conflicts []kube.Conflict) bool {
	i := slices.IndexFunc(conflicts, func(c kube.Conflict) bool { return c.Field == replicasField })
	if i < 0 {
		return false
	}
	if conflicts[i].Scaled() {
		return true
	}
	scalers, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.AutoscalerKind, Namespace: e.cfg.Namespace}, "")
	return err == nil && slices.ContainsFunc(scalers, func(a unstructured.Unstructured) bool {
		kind, _, _ := unstructured.NestedString(a.Object, "spec", "scaleTargetRef", "kind")
		name, _, _ := unstructured.NestedString(a.Object, "spec", "scaleTargetRef", "name")
		return kind == kube.DeploymentKind.Kind && name == manifests.AppName
	})
}

// trial gives the trial of an object.
func (p appPlan) trial(ref kube.Ref) *kube.Trial {
	i := slices.IndexFunc(p.trials, func(t *kube.Trial) bool { return kube.RefOf(t.Object).Same(ref) })
	return p.trials[i]
}

// first are the trials of what is applied at once: all but the Ingress.
func (p appPlan) first() []*kube.Trial {
	return slices.DeleteFunc(slices.Clone(p.trials), func(t *kube.Trial) bool {
		return kube.RefOf(t.Object).Same(kube.RefOf(p.ingress))
	})
}

// replicas is how many pods the app is to have.
func (p appPlan) replicas() int64 {
	for _, t := range p.trials {
		if t.Object.GetKind() == kube.DeploymentKind.Kind {
			n, _, _ := unstructured.NestedInt64(t.Object.Object, "spec", "replicas")
			return n
		}
	}
	return 0
}
