package stack

import (
	"context"
	"fmt"
	"slices"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// mayRecreate reports whether an object may be deleted and made anew: any, or just as a person was told of it.
func (o UpOptions) mayRecreate(object InvalidObject) bool {
	if object.Kept {
		return false
	}
	if o.Recreate || o.Agreed == nil {
		return o.Recreate
	}
	return slices.ContainsFunc(o.Agreed.Immutable, func(agreed InvalidObject) bool {
		return agreed.Object == object.Object && slices.Equal(agreed.Problems, object.Problems)
	})
}

// lostBy says what making an object anew costs. Claims are never deleted.
func lostBy(ref kube.Ref) string {
	switch ref.Kind {
	case kube.StatefulSetKind.Kind:
		return "its pods are replaced: what they serve is away meanwhile, and what they keep outside of volume claims is lost; the claims and their data stay"
	case kube.DeploymentKind.Kind, kube.DaemonSetKind.Kind:
		return "it is away until its new pods are ready"
	case kube.ServiceKind.Kind:
		return "it is away for a moment, and gets another address"
	case kube.JobKind.Kind:
		return "it runs again"
	case kube.PVCKind.Kind:
		return "its data would be lost: pwdeploy never deletes it"
	}
	return "it is away for a moment"
}

// checkRecreate asks the cluster whether this user may delete what is to be made anew.
func (e *Engine) checkRecreate(ctx context.Context, anew []*kube.Trial) error {
	var all []kube.Access
	for _, t := range anew {
		access, err := e.kube.AccessTo(t.Object.GroupVersionKind(), t.Object.GetNamespace(), "delete")
		if err != nil {
			return err
		}
		all = append(all, access...)
		if t.Object.GroupVersionKind().GroupKind() != kube.StatefulSetKind.GroupKind() {
			continue
		}
		if access, err = e.kube.AccessTo(kube.PodKind, t.Object.GetNamespace(), "list", "delete"); err != nil {
			return err
		}
		all = append(all, access...)
	}
	if len(all) == 0 {
		return nil
	}
	return e.kube.CheckAccess(ctx, all)
}

// tellRecreate says what is made anew: that never goes by unsaid.
func (r *run) tellRecreate(c Component, t *kube.Trial) {
	r.events.progress(c, fmt.Sprintf("making %s anew", kube.RefOf(t.Object)))
}

// makeWay deletes the objects of a release that are to be made anew. Helm then makes what is not there; a run that is
// killed in between leaves objects that are missing, which the next one makes. Of what a StatefulSet left, pods that
// the new one can't take over go too, whichever run left them.
func (r *run) makeWay(ctx context.Context, c Component, rp releasePlan) error {
	for _, t := range rp.refused {
		if !t.Recreate || t.Live == nil {
			continue
		}
		r.tellRecreate(c, t)
		if err := r.kube.Discard(ctx, t.Live); err != nil {
			return err
		}
	}
	for _, o := range rp.objects {
		if o.GroupVersionKind().GroupKind() != kube.StatefulSetKind.GroupKind() {
			continue
		}
		set := o.DeepCopy()
		if set.GetNamespace() == "" {
			set.SetNamespace(rp.spec.Namespace)
		}
		if err := r.kube.DeleteStrandedPods(ctx, set); err != nil {
			return err
		}
	}
	return nil
}
