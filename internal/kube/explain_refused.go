package kube

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// refusedPatience is how long pods may be refused: a controller tries again, and what is in the way may be on its
// way out, the pods of an earlier rollout for one.
const refusedPatience = 10 * time.Second

// refused is why the API server does not let a controller make pods: a quota, a limit range, Pod Security, a
// webhook. All tell it by an event; a ReplicaSet also by a condition, which keeps the first reason while others follow
// (kubernetes/pkg/controller/replicaset: it is set once and taken away when pods can be made). Neither has a field for
// the cause: the server's text is passed on, and the advice comes from what the namespace limits.
func refused(v *view, owner *unstructured.Unstructured) *Problem {
	problem := &Problem{Ref: RefOf(owner), Final: true, Patience: refusedPatience}
	if e := lastEvent(v, owner, "", "FailedCreate"); e != nil && lacksPods(v, owner) {
		problem.Reason, problem.Message = e.Reason, e.Message
	} else if c := trueCondition(owner, "ReplicaFailure"); c != nil {
		problem.Reason, _ = c["reason"].(string)
		problem.Message, _ = c["message"].(string)
	} else {
		return nil
	}
	problem.Hint = refusedHint(v, owner)
	return problem
}

// lacksPods reports whether the owner has fewer pods than it should have.
func lacksPods(v *view, owner *unstructured.Unstructured) bool {
	want, found, _ := unstructured.NestedInt64(owner.Object, "spec", "replicas")
	if owner.GetKind() == DaemonSetKind.Kind {
		want, found, _ = unstructured.NestedInt64(owner.Object, "status", "desiredNumberScheduled")
	}
	if !found {
		want = 1
	}
	for _, pod := range v.objects(PodKind.GroupKind(), owner.GetNamespace()) {
		if ownedBy(pod, owner.GetUID()) && pod.GetDeletionTimestamp() == nil {
			want--
		}
	}
	return want > 0
}

func refusedHint(v *view, owner *unstructured.Unstructured) string {
	namespace := owner.GetNamespace()
	pod, ok := template(v, owner)
	if !ok {
		return "the cluster refuses the pods: see the quota, limit range or pod security level of the namespace"
	}
	for _, u := range v.ask(QuotaKind, namespace).objs {
		if hint := pod.overQuota(u); hint != "" {
			return hint
		}
	}
	for _, u := range v.ask(LimitRangeKind, namespace).objs {
		if hint := pod.outOfRange(u); hint != "" {
			return hint
		}
	}
	for _, ns := range v.askOne(Ref{GroupVersionKind: NamespaceKind, Name: namespace}).objs {
		if level := ns.GetLabels()[enforceLabel]; level != "" && level != "privileged" {
			return fmt.Sprintf("Namespace %s enforces the pod security level %s, which the pod breaks as the text says: change the pod, use another namespace, or lower the level (label %s)", namespace, level, enforceLabel)
		}
	}
	return "the cluster refuses the pods: see the quota, limit range or pod security level of the namespace, or the webhook that the text names"
}

// enforceLabel sets the level that Pod Security enforces in a namespace (KEP-2579).
const enforceLabel = "pod-security.kubernetes.io/enforce"

// template is the pod that an owner makes.
func template(v *view, owner *unstructured.Unstructured) (*podView, bool) {
	spec, found, err := unstructured.NestedMap(owner.Object, "spec", "template")
	if !found || err != nil {
		return nil, false
	}
	return v.pod(&unstructured.Unstructured{Object: spec})
}

// overQuota says which quota the pod is over, or nothing.
func (p *podView) overQuota(u *unstructured.Unstructured) string {
	var quota corev1.ResourceQuota
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &quota); err != nil {
		return ""
	}
	needs := p.quotaNeeds()
	for _, name := range slices.Sorted(maps.Keys(quota.Status.Hard)) {
		hard, used := quota.Status.Hard[name], quota.Status.Used[name]
		need, counted := needs[name]
		switch {
		case !counted:
			continue
		case need.IsZero():
			return fmt.Sprintf("%s wants every container to set %s: set it, or give the namespace a LimitRange with defaults", RefOf(u), name)
		}
		sum := used.DeepCopy()
		if sum.Add(need); sum.Cmp(hard) > 0 {
			return fmt.Sprintf("%s allows %s %s: %s are used and the pod needs %s more. Raise the quota, or lower the replicas or what they ask for", RefOf(u), hard.String(), name, used.String(), need.String())
		}
	}
	return ""
}

// quotaNeeds is what one more such pod counts for, under the names that quotas use; zero is what it does not say.
func (p *podView) quotaNeeds() corev1.ResourceList {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	needs := corev1.ResourceList{corev1.ResourcePods: one, "count/pods": one}
	asked, limits := p.requests(), corev1.ResourceList{}
	for i := range p.pod.Spec.Containers {
		for name, limit := range p.pod.Spec.Containers[i].Resources.Limits {
			sum := limits[name]
			sum.Add(limit)
			limits[name] = sum
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		needs[name], needs["requests."+name], needs["limits."+name] = asked[name], asked[name], limits[name]
	}
	return needs
}

// outOfRange says which limit range a container of the pod is outside of, or nothing.
func (p *podView) outOfRange(u *unstructured.Unstructured) string {
	var limits corev1.LimitRange
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &limits); err != nil {
		return ""
	}
	for _, item := range limits.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		for i := range p.pod.Spec.Containers {
			if hint := outside(&p.pod.Spec.Containers[i], item); hint != "" {
				return fmt.Sprintf("%s %s: change what the container asks for, or the LimitRange", RefOf(u), hint)
			}
		}
	}
	return ""
}

func outside(c *corev1.Container, item corev1.LimitRangeItem) string {
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		limit, ok := c.Resources.Limits[name]
		if !ok {
			limit = c.Resources.Requests[name]
		}
		if most := item.Max[name]; limit.Cmp(most) > 0 {
			return fmt.Sprintf("allows a container at most %s %s, and %s wants %s", most.String(), name, c.Name, limit.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		least := item.Min[name]
		if asked, ok := c.Resources.Requests[name]; ok && asked.Cmp(least) < 0 {
			return fmt.Sprintf("wants a container to ask for at least %s %s, and %s asks for %s", least.String(), name, c.Name, asked.String())
		}
	}
	return ""
}
