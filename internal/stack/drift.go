package stack

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// driftFunc finds what somebody changed of an object that was read.
type driftFunc func(kube.Readiness) []kube.Conflict

// noDrift is for objects that pwdeploy has not made.
func noDrift(kube.Readiness) []kube.Conflict { return nil }

// driftFrom compares with the objects that were applied. What ignore says is left to whoever set it.
func driftFrom(applied []*unstructured.Unstructured, ignore func(kube.Conflict) bool) driftFunc {
	return func(s kube.Readiness) []kube.Conflict {
		i := slices.IndexFunc(applied, func(o *unstructured.Unstructured) bool { return kube.RefOf(o).Same(s.Ref) })
		if i < 0 || s.Live == nil {
			return nil
		}
		return slices.DeleteFunc(kube.Drift(applied[i], s.Live), ignore)
	}
}

// replicasField is where workloads have the number of their pods.
const replicasField = ".spec.replicas"

// releaseDrift compares with the manifest of a release. There is no setting that leaves the number of pods to an
// autoscaler, but one that somebody made is not to be fought.
func releaseDrift(objs []*unstructured.Unstructured) driftFunc {
	return driftFrom(objs, func(c kube.Conflict) bool { return c.Field == replicasField && c.Autoscaled() })
}

// appDrift compares with the app as it was deployed last. A run that did not come to its end may have changed anything:
// after it there is nothing to compare with.
func (e *Engine) appDrift(ctx context.Context) (driftFunc, error) {
	if !e.inventory.Complete {
		return noDrift, nil
	}
	var deployed *kube.Revision
	var password []byte
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		deployed, err = e.lastDeployed(ctx)
		return err
	})
	group.Go(func() error {
		password, _ = e.findPassword(ctx) // up says what is wrong with it
		return nil
	})
	if err := group.Wait(); err != nil || deployed == nil {
		return noDrift, err
	}
	applied := deployed.Objects
	if password != nil {
		applied = append(applied, e.appPassword(password))
	}
	return driftFrom(applied, func(c kube.Conflict) bool { return c.Field == replicasField && e.cfg.KeepReplicas }), nil
}

// driftHint says what to do about changes of an object.
func driftHint(c Component, changes []kube.Conflict) string {
	claimed := slices.ContainsFunc(changes, func(c kube.Conflict) bool { return c.Manager != "" })
	scaled := slices.ContainsFunc(changes, func(c kube.Conflict) bool { return c.Field == replicasField })
	switch {
	case c != App || !claimed:
		return "pwdeploy up sets it back"
	case scaled:
		return "pwdeploy up --take-over sets it back; --keep-replicas leaves the number of pods to whoever scales them"
	}
	return "pwdeploy up --take-over sets it back"
}

// findMends words what somebody did to the objects of a release that is deployed as it should be.
func (e *Engine) findMends(ctx context.Context, spec helm.Spec) ([]string, error) {
	objs, err := e.helm.Objects(ctx, spec.Namespace, spec.Name)
	if err != nil {
		return nil, err
	}
	states, err := e.kube.Assess(ctx, kube.RefsOf(objs))
	if err != nil {
		return nil, err
	}
	drift := releaseDrift(objs)
	var mends []string
	for _, s := range states {
		if s.Missing {
			mends = append(mends, fmt.Sprintf("%s was deleted", s.Ref))
		}
		for _, change := range drift(s) {
			mends = append(mends, fmt.Sprintf("%s: %s", s.Ref, change.Change()))
		}
	}
	return mends, nil
}
