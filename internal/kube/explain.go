package kube

import (
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Readiness is what is known of one object.
type Readiness struct {
	Ref     Ref
	Ready   bool
	Missing bool     // it is not there at all
	Message string   // "2/2 ready", "missing", or what it waits for
	Image   string   // of a workload: its first container's image
	Problem *Problem // the cause, where one is known
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

	container string // whose log tells more
}

// String is one line without the hint.
func (p *Problem) String() string {
	if p.Message == "" {
		return fmt.Sprintf("%s: %s", p.Ref, p.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", p.Ref, p.Reason, p.Message)
}

func (p *Problem) key() string { return p.Ref.key() + "/" + p.Reason }

// view is where the objects come from: watches, or a snapshot.
type view interface {
	object(ref Ref) *unstructured.Unstructured
	objects(kind schema.GroupKind, namespace string) []*unstructured.Unstructured
}

// assess says whether the object is ready as kstatus computes it, and looks for the cause if it is not.
func assess(v view, ref Ref) Readiness {
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
		out.Problem = &Problem{Ref: ref, Reason: "Failed", Message: result.Message, Final: true}
	}
	return out
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
func explain(v view, obj *unstructured.Unstructured) *Problem {
	switch obj.GetKind() {
	case DeploymentKind.Kind:
		rs := currentReplicaSet(v, obj)
		if rs == nil {
			return nil
		}
		if p := replicaFailure(rs); p != nil {
			return p
		}
		return worstPod(v, rs, "")
	case StatefulSetKind.Kind:
		revision, _, _ := unstructured.NestedString(obj.Object, "status", "updateRevision")
		return worstPod(v, obj, revision)
	case PVCKind.Kind:
		return claimProblem(obj)
	}
	return worstPod(v, obj, "")
}

// revisionAnnotation numbers a Deployment's rollouts; its current ReplicaSet carries the same number.
const revisionAnnotation = "deployment.kubernetes.io/revision"

// currentReplicaSet is the one of the newest rollout: pods of older ones are on their way out, and what
// ails them no longer matters.
func currentReplicaSet(v view, deployment *unstructured.Unstructured) *unstructured.Unstructured {
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

// replicaFailure is why a ReplicaSet can't make pods: a quota, or an admission that refuses them.
func replicaFailure(rs *unstructured.Unstructured) *Problem {
	if c := trueCondition(rs, "ReplicaFailure"); c != nil {
		reason, _ := c["reason"].(string)
		message, _ := c["message"].(string)
		return &Problem{Ref: RefOf(rs), Reason: reason, Message: message, Final: true, Patience: 10 * time.Second,
			Hint: "the cluster refuses the pods: see the quota, limit range or pod security level of the namespace"}
	}
	return nil
}

// worstPod is the problem of the owner's pods that deserves attention first.
func worstPod(v view, owner *unstructured.Unstructured, revision string) *Problem {
	var worst *Problem
	for _, u := range v.objects(PodKind.GroupKind(), owner.GetNamespace()) {
		if !ownedBy(u, owner.GetUID()) || u.GetDeletionTimestamp() != nil {
			continue
		}
		if revision != "" && u.GetLabels()["controller-revision-hash"] != revision {
			continue
		}
		if p := podProblem(v, u); p != nil && worse(p, worst) {
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

// podProblem reads what ails a pod from its status.
func podProblem(v view, u *unstructured.Unstructured) *Problem {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return nil
	}
	ref := RefOf(u)
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return unscheduled(v, &pod, ref, c)
		}
	}
	for _, s := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if p := containerProblem(ref, s); p != nil {
			return p
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil && !s.Ready {
			return unready(ref, s)
		}
	}
	return nil
}

// unready is a container that runs and does not pass its readiness probe.
func unready(ref Ref, s corev1.ContainerStatus) *Problem {
	return &Problem{Ref: ref, Reason: "Unready", Usual: true, container: s.Name,
		Message: fmt.Sprintf("container %s runs, but its readiness probe does not pass", s.Name),
		Hint:    fmt.Sprintf("kubectl describe pod -n %s %s shows what the probe got, kubectl logs what the container says", ref.Namespace, ref.Name)}
}

// unscheduled says why a pod has no node. A claim that is not bound is the better explanation.
func unscheduled(v view, pod *corev1.Pod, ref Ref, c corev1.PodCondition) *Problem {
	for _, volume := range pod.Spec.Volumes {
		if volume.PersistentVolumeClaim == nil {
			continue
		}
		claim := v.object(Ref{GroupVersionKind: PVCKind, Namespace: pod.Namespace, Name: volume.PersistentVolumeClaim.ClaimName})
		if claim == nil {
			continue
		}
		if p := claimProblem(claim); p != nil {
			return p
		}
	}
	return &Problem{Ref: ref, Reason: c.Reason, Message: c.Message,
		Hint: "no node takes the pod: free CPU or memory, add a node, or lower the requests"}
}

// claimProblem says why a claim is not bound, as far as the claim itself tells.
func claimProblem(claim *unstructured.Unstructured) *Problem {
	phase, _, _ := unstructured.NestedString(claim.Object, "status", "phase")
	if phase == string(corev1.ClaimBound) {
		return nil
	}
	class, found, _ := unstructured.NestedString(claim.Object, "spec", "storageClassName")
	if !found {
		return &Problem{Ref: RefOf(claim), Reason: "NoStorageClass", Message: "it names no StorageClass and the cluster has no default one",
			Hint: "install a provisioner and mark a StorageClass as default, or name one in redis' values"}
	}
	return &Problem{Ref: RefOf(claim), Reason: "VolumePending", Message: fmt.Sprintf("no volume of StorageClass %q is bound yet", class),
		Hint: fmt.Sprintf("kubectl describe pvc -n %s %s shows what the provisioner says", claim.GetNamespace(), claim.GetName())}
}

// crashLoopRestarts is after how many restarts a crash loop counts as final: a service may well crash
// once or twice while what it needs comes up.
const crashLoopRestarts = 3

func containerProblem(ref Ref, s corev1.ContainerStatus) *Problem {
	if s.State.Waiting == nil || s.Ready {
		return nil
	}
	p := &Problem{Ref: ref, Reason: s.State.Waiting.Reason, Message: s.State.Waiting.Message}
	switch {
	case isPullProblem(p.Reason):
		p.Final = p.Reason != "ErrImagePull" // the first failure may be a passing one
		p.Hint = fmt.Sprintf("check that image %s exists and can be pulled; on a local cluster load it first (kind load docker-image, minikube image load)", s.Image)
	case p.Reason == "InvalidImageName":
		p.Final = true
		p.Hint = fmt.Sprintf("%q is not an image name: set --image", s.Image)
	case p.Reason == "CreateContainerConfigError" || p.Reason == "CreateContainerError" || p.Reason == "RunContainerError":
		p.Final, p.Patience = true, 15*time.Second
		p.Hint = "a ConfigMap, Secret or key that the pod names is missing, or the container can't be started as asked"
	case p.Reason == "CrashLoopBackOff":
		crashLoop(p, s)
	default:
		return nil // ContainerCreating and the like
	}
	return p
}

// isPullProblem tells the kubelet's reasons for an image that it does not have.
func isPullProblem(reason string) bool {
	return reason == "ImagePullBackOff" || reason == "ErrImagePull" || reason == "ErrImageNeverPull"
}

func crashLoop(p *Problem, s corev1.ContainerStatus) {
	p.container, p.Final = s.Name, s.RestartCount >= crashLoopRestarts
	p.Hint = fmt.Sprintf("kubectl logs -n %s %s -c %s --previous shows the whole log", p.Ref.Namespace, p.Ref.Name, s.Name)
	if t := s.LastTerminationState.Terminated; t != nil {
		p.Message = fmt.Sprintf("container %s ended with exit code %d, restarted %d times", s.Name, t.ExitCode, s.RestartCount)
		if t.Reason == "OOMKilled" {
			p.Reason, p.Final = "OOMKilled", true
			p.Hint = "the container needs more memory than its limit: raise the limit"
		}
	}
}

func podLogOptions(container string, tail int64, previous bool) *corev1.PodLogOptions {
	return &corev1.PodLogOptions{Container: container, TailLines: &tail, Previous: previous}
}
