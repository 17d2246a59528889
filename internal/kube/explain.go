package kube

import (
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Readiness is what is known of one object.
type Readiness struct {
	Ref     Ref
	Ready   bool
	Missing bool     // it is not there at all
	Unread  bool     // nothing is known of it
	Message string   // "2/2 ready", "missing", or what it waits for
	Image   string   // of a workload: its first container's image
	Problem *Problem // the cause, where one is known

	Live *unstructured.Unstructured // as Assess read it; nil if it is missing
}

// String is one line: the object, what it waits for, and why.
func (r Readiness) String() string {
	if r.Problem == nil {
		return fmt.Sprintf("%s: %s", r.Ref, r.Message)
	}
	return fmt.Sprintf("%s: %s (%s)", r.Ref, r.Message, r.Problem)
}

// Problem is why an object is not ready.
type Problem struct {
	Ref      Ref           // where it shows: often a pod
	Reason   string        // Kubernetes' own word: ImagePullBackOff
	Message  string        // the cluster's text
	Hint     string        // what to do
	Evidence []string      // last lines of a log
	Final    bool          // waiting can't help ...
	Patience time.Duration // ... once it has lasted so long
	Usual    bool          // part of every start: worth telling only when it lasted too long

	passing   bool   // every change has it for a moment: nothing to speak of before it lasted
	cause     string // what it is counted as while Reason changes; empty: Reason
	container string // whose log tells more
	pod       Ref    // that it is in; empty: Ref
	version   string // of that log: what it changes with
	logDue    bool   // that version of it was not read yet
}

// String is one line without the hint.
func (p *Problem) String() string {
	if p.Message == "" {
		return fmt.Sprintf("%s: %s", p.Ref, p.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", p.Ref, p.Reason, p.Message)
}

// Verdict says whether waiting goes on.
func (p *Problem) Verdict() string {
	switch {
	case !p.Final:
		return "still waiting: this may pass"
	case p.Patience > 0:
		return fmt.Sprintf("waiting %s more: this may pass", p.Patience)
	}
	return "waiting does not help"
}

// problemKey names the problem as one that lasts, whichever of the object's pods it shows on just now.
func (r Readiness) problemKey() string {
	cause := r.Problem.cause
	if cause == "" {
		cause = r.Problem.Reason
	}
	return r.Ref.key() + "/" + cause
}

// source is where the objects come from: watches, or a snapshot.
type source interface {
	object(ref Ref) *unstructured.Unstructured
	objects(kind schema.GroupKind, namespace string) []*unstructured.Unstructured
}

// view is one look at the objects, and at what was asked beside them.
type view struct {
	source
	answers   *answers
	askEvents bool // the source has no events
	now       time.Time
	diagnose  func(p *Problem, log []string) // may be nil
}

// ask gives all objects of a kind in a namespace, or in the cluster. The answer comes later, or never.
func (v *view) ask(kind schema.GroupVersionKind, namespace string) answer {
	return v.answers.get(query{ref: Ref{GroupVersionKind: kind, Namespace: namespace}}, "")
}

// askOne is ask for one object: known without objects means that it is not there.
func (v *view) askOne(ref Ref) answer { return v.answers.get(query{ref: ref}, "") }

// assess says whether the object is ready as kstatus computes it, and looks for the cause if it is not.
func assess(v *view, ref Ref) Readiness {
	out := Readiness{Ref: ref}
	obj := v.object(ref)
	if obj == nil {
		out.Missing, out.Message = true, "missing"
		return out
	}
	out.Image = FirstImage(obj)
	result, err := status.Compute(obj)
	if err != nil {
		out.Message = "its status can't be read: " + err.Error()
		return out
	}
	out.Ready = result.Status == status.CurrentStatus
	out.Message = describe(obj, result)
	if obj.GetKind() == JobKind.Kind && !isTrue(obj, "Complete") {
		out.Ready, out.Message = false, "running" // kstatus calls a Job that has started current
	}
	if out.Ready {
		return out
	}
	if out.Problem = explain(v, obj); out.Problem == nil && result.Status == status.FailedStatus {
		out.Problem = &Problem{Ref: ref, Reason: "Failed", Message: result.Message, Final: true, Patience: failedPatience}
	}
	addEvidence(v, out.Problem)
	return out
}

// failedPatience is how long an object that calls itself failed is looked at for the cause: a Deployment that is too
// slow does so for good, though its pods may come yet.
const failedPatience = 10 * time.Second

// addEvidence adds the last lines of a container that crashes or is not ready. Without them the problem is told
// all the same.
func addEvidence(v *view, p *Problem) {
	if p == nil || p.container == "" {
		return
	}
	pod := p.pod
	if pod.Name == "" {
		pod = p.Ref
	}
	q := query{ref: pod, container: p.container}
	log := v.answers.get(q, p.version)
	p.logDue = !v.answers.has(q, p.version)
	p.Evidence = append(p.Evidence, log.lines[max(0, len(log.lines)-showLogLines):]...)
	if v.diagnose != nil && len(log.lines) > 0 {
		v.diagnose(p, log.lines)
	}
}

// describe is a workload's count of ready pods, or what kstatus says.
func describe(obj *unstructured.Unstructured, result *status.Result) string {
	if obj.GetDeletionTimestamp() != nil {
		return "being deleted"
	}
	if obj.GroupVersionKind().Group != "apps" {
		if result.Status == status.CurrentStatus {
			return "ready"
		}
		return strings.ToLower(string(result.Status)) + ": " + result.Message
	}
	want, found, _ := unstructured.NestedInt64(obj.Object, "spec", "replicas")
	if !found {
		want = 1
	}
	ready, _, _ := unstructured.NestedInt64(obj.Object, "status", "readyReplicas")
	if obj.GetKind() == DaemonSetKind.Kind {
		want, _, _ = unstructured.NestedInt64(obj.Object, "status", "desiredNumberScheduled")
		ready, _, _ = unstructured.NestedInt64(obj.Object, "status", "numberReady")
	}
	if result.Status != status.CurrentStatus && ready >= want && want > 0 {
		updated, _, _ := unstructured.NestedInt64(obj.Object, "status", "updatedReplicas")
		return fmt.Sprintf("rolling out, %d/%d updated, %d ready", updated, want, ready)
	}
	return fmt.Sprintf("%d/%d ready", ready, want)
}

// FirstImage is the image of a workload's first container, or empty.
func FirstImage(obj *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(obj.Object, "spec", "template", "spec", "containers")
	if len(containers) == 0 {
		return ""
	}
	first, _ := containers[0].(map[string]any)
	image, _ := first["image"].(string)
	return image
}

// explain finds why a workload or claim is not ready.
func explain(v *view, obj *unstructured.Unstructured) *Problem {
	switch obj.GetKind() {
	case PVCKind.Kind:
		return claimProblem(v, obj)
	case JobKind.Kind:
		return jobProblem(v, obj)
	}
	if p := unobserved(obj); p != nil {
		return p
	}
	owner, revision := obj, ""
	switch obj.GetKind() {
	case DeploymentKind.Kind:
		if owner = currentReplicaSet(v, obj); owner == nil {
			return nil
		}
	case StatefulSetKind.Kind:
		revision, _, _ = unstructured.NestedString(obj.Object, "status", "updateRevision")
	}
	if p := refused(v, owner); p != nil {
		return p
	}
	return worstPod(v, owner, revision)
}

// unobserved is a workload whose last change no controller has acted on, or one that is told to wait.
func unobserved(obj *unstructured.Unstructured) *Problem {
	if paused, _, _ := unstructured.NestedBool(obj.Object, "spec", "paused"); paused {
		return &Problem{Ref: RefOf(obj), Reason: "Paused", Message: "its rollout is paused", Final: true,
			Hint: fmt.Sprintf("kubectl rollout resume -n %s deployment/%s, then run pwdeploy up again", obj.GetNamespace(), obj.GetName())}
	}
	observed, _, _ := unstructured.NestedInt64(obj.Object, "status", "observedGeneration")
	if obj.GroupVersionKind().Group != "apps" || observed >= obj.GetGeneration() {
		return nil
	}
	return &Problem{Ref: RefOf(obj), Reason: "NotObserved", Usual: true, passing: true, Message: "no controller has acted on its last change",
		Hint: "the cluster's controller manager does not work: look at its pod in kube-system, or at the state of the managed control plane"}
}

// revisionAnnotation numbers a Deployment's rollouts; its current ReplicaSet carries the same number.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// currentReplicaSet is the one of the newest rollout: pods of older ones are on their way out, and what
// ails them no longer matters.
func currentReplicaSet(v *view, deployment *unstructured.Unstructured) *unstructured.Unstructured {
	observed, _, _ := unstructured.NestedInt64(deployment.Object, "status", "observedGeneration")
	if observed < deployment.GetGeneration() {
		return nil
	}
	want := deployment.GetAnnotations()[revisionAnnotation]
	for _, rs := range v.objects(ReplicaSetKind.GroupKind(), deployment.GetNamespace()) {
		if ownedBy(rs, deployment.GetUID()) && rs.GetAnnotations()[revisionAnnotation] == want {
			return rs
		}
	}
	return nil
}

// trueCondition gives the condition of this type if it is True, else nil.
func trueCondition(obj *unstructured.Unstructured, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind && c["status"] == "True" {
			return c
		}
	}
	return nil
}

func isTrue(obj *unstructured.Unstructured, kind string) bool { return trueCondition(obj, kind) != nil }

// worstPod is the problem of the owner's pods that deserves attention first. Pods of an earlier revision, and
// those on their way out, only matter where they can't end: a StatefulSet waits for them.
func worstPod(v *view, owner *unstructured.Unstructured, revision string) *Problem {
	var worst *Problem
	for _, u := range v.objects(PodKind.GroupKind(), owner.GetNamespace()) {
		if !ownedBy(u, owner.GetUID()) {
			continue
		}
		var p *Problem
		switch {
		case u.GetDeletionTimestamp() != nil:
			if pod, ok := v.pod(u); ok && owner.GetKind() == StatefulSetKind.Kind {
				p = pod.stuck()
			}
		case revision == "" || u.GetLabels()["controller-revision-hash"] == revision:
			p = podProblem(v, u)
		}
		if p != nil && worse(p, worst) {
			worst = p
		}
	}
	return worst
}

// worse prefers what waiting can't mend; of equals, always the same pod.
func worse(p, than *Problem) bool {
	if than == nil || p.Final != than.Final {
		return than == nil || p.Final
	}
	if p.Final && p.Patience != than.Patience {
		return p.Patience < than.Patience
	}
	if p.Usual != than.Usual {
		return than.Usual
	}
	return p.Ref.Name < than.Ref.Name
}

func ownedBy(obj *unstructured.Unstructured, uid types.UID) bool {
	for _, o := range obj.GetOwnerReferences() {
		if o.UID == uid {
			return true
		}
	}
	return false
}
