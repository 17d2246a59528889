package kube

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// podView is a look at one pod.
type podView struct {
	*view
	obj *unstructured.Unstructured
	pod *corev1.Pod
	ref Ref
}

func (v *view) pod(u *unstructured.Unstructured) (*podView, bool) {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return nil, false
	}
	return &podView{view: v, obj: u, pod: &pod, ref: RefOf(u)}, true
}

// podProblem says what ails a pod, in the order in which a pod comes to be.
func podProblem(v *view, u *unstructured.Unstructured) *Problem {
	p, ok := v.pod(u)
	if !ok || p.pod.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	for _, look := range []func() *Problem{p.unscheduled, p.rejected, p.containers, p.unprepared, p.initializing, p.gated, p.unready, p.silent} {
		if problem := look(); problem != nil {
			return problem
		}
	}
	return nil
}

// condition is the pod's condition of a type, or nil.
func (p *podView) condition(kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.pod.Status.Conditions {
		if p.pod.Status.Conditions[i].Type == kind {
			return &p.pod.Status.Conditions[i]
		}
	}
	return nil
}

// rejected is a pod that its node turned away or put out: the kubelet gives the reason, Evicted for one. Its owner
// makes another.
func (p *podView) rejected() *Problem {
	if p.pod.Status.Phase != corev1.PodFailed || p.pod.Status.Reason == "" {
		return nil
	}
	return &Problem{Ref: p.ref, Reason: p.pod.Status.Reason, Message: p.pod.Status.Message, Usual: true,
		Hint: fmt.Sprintf("node %s turned the pod away; another is made, which may fare better: kubectl describe node %s shows what the node lacks", p.pod.Spec.NodeName, p.pod.Spec.NodeName)}
}

// containers is the problem of the first container that has one, in the order in which they start.
func (p *podView) containers() *Problem {
	for _, s := range p.pod.Status.InitContainerStatuses {
		if problem := p.container(s, true); problem != nil {
			return problem
		}
	}
	for _, s := range p.pod.Status.ContainerStatuses {
		if problem := p.container(s, false); problem != nil {
			return problem
		}
	}
	return nil
}

func (p *podView) container(s corev1.ContainerStatus, init bool) *Problem {
	if s.Ready {
		return nil
	}
	if p.crashes(s, init) {
		return p.crash(s, init)
	}
	if s.State.Waiting == nil {
		return nil
	}
	problem := &Problem{Ref: p.ref, Reason: s.State.Waiting.Reason, Message: s.State.Waiting.Message}
	switch problem.Reason {
	case "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		p.pull(problem, s.Image)
	case "InvalidImageName":
		problem.Final = true
		problem.Hint = fmt.Sprintf("%q is not an image name: set --image", s.Image)
	case "CreateContainerConfigError":
		p.misconfigured(problem, s.Name)
	case "CreateContainerError", "RunContainerError", "StartError", "PreCreateHookError", "PreStartHookError", "PostStartHookError":
		problem.Final, problem.Patience = true, 15*time.Second
		problem.Hint = p.cantStart(s.Name)
	default:
		return nil // ContainerCreating and the like
	}
	return problem
}

// crashLoopRestarts is after how many restarts a crash loop counts as final: a service may well crash
// once or twice while what it needs comes up.
const crashLoopRestarts = 3

// crashes tells a container that ended when it should run, or run to a good end.
func (p *podView) crashes(s corev1.ContainerStatus, init bool) bool {
	switch {
	case s.State.Waiting != nil:
		return s.State.Waiting.Reason == "CrashLoopBackOff"
	case s.State.Terminated != nil:
		toEnd := init && !p.restartable(s.Name) || p.pod.Spec.RestartPolicy == corev1.RestartPolicyNever || p.pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
		return s.State.Terminated.ExitCode != 0 || !toEnd
	}
	return s.State.Running != nil && s.RestartCount > 0 && s.LastTerminationState.Terminated != nil && s.LastTerminationState.Terminated.ExitCode != 0
}

// restartable tells an init container that goes on running beside the others: a sidecar (KEP-753).
func (p *podView) restartable(name string) bool {
	for _, c := range p.pod.Spec.InitContainers {
		if c.Name == name {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

func (p *podView) crash(s corev1.ContainerStatus, init bool) *Problem {
	problem := &Problem{Ref: p.ref, Reason: "CrashLoopBackOff", cause: "crash", container: s.Name, version: fmt.Sprintf("ended %d", s.RestartCount)}
	problem.Final = s.RestartCount >= crashLoopRestarts
	if s.State.Waiting == nil {
		problem.Reason = "Crashed"
	}
	problem.Hint = fmt.Sprintf("the last lines of its log say why; kubectl logs -n %s %s -c %s --previous shows all of it", p.ref.Namespace, p.ref.Name, s.Name)
	ended := s.State.Terminated
	if ended == nil {
		ended = s.LastTerminationState.Terminated
	}
	if ended == nil {
		return problem
	}
	problem.Message = fmt.Sprintf("%s ended with exit code %d", containerName(s.Name, init), ended.ExitCode)
	if s.RestartCount > 0 {
		problem.Message += ", restarted " + times(s.RestartCount)
	}
	if ended.Message != "" {
		problem.Message += ": " + strings.TrimSpace(ended.Message)
	}
	switch {
	case ended.Reason == "OOMKilled":
		p.outOfMemory(problem, s.Name)
	case p.killedByProbe(problem, s.Name):
	case p.wrongPlatform(s.Name, problem):
	case ended.Reason == "StartError" || ended.Reason == "ContainerCannotRun":
		problem.Reason = ended.Reason
		problem.Hint = p.cantStart(s.Name)
	}
	return problem
}

func containerName(name string, init bool) string {
	if init {
		return "init container " + name
	}
	return "container " + name
}

func times(n int32) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (p *podView) outOfMemory(problem *Problem, container string) {
	problem.Reason, problem.Final = "OOMKilled", true
	problem.Hint = "it needs more memory than its limit: raise the limit"
	if c := p.spec(container); c != nil && !c.Resources.Limits.Memory().IsZero() {
		problem.Hint = fmt.Sprintf("it needs more memory than its limit of %s: raise the limit", c.Resources.Limits.Memory())
	}
}

// spec is the container as the pod's spec has it, or nil.
func (p *podView) spec(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// killedByProbe tells a container that the kubelet killed because a probe failed: in a pod that stays, it
// kills for nothing else and says so by an event.
func (p *podView) killedByProbe(problem *Problem, container string) bool {
	c := p.spec(container)
	if c == nil || c.LivenessProbe == nil && c.StartupProbe == nil || p.obj.GetDeletionTimestamp() != nil {
		return false
	}
	if lastEvent(p.view, p.obj, fieldPath(container), "Killing") == nil {
		return false
	}
	kind := "liveness or startup"
	switch {
	case c.StartupProbe == nil:
		kind = "liveness"
	case c.LivenessProbe == nil:
		kind = "startup"
	}
	problem.Reason = "ProbeFailed"
	problem.Message = fmt.Sprintf("container %s was killed and restarted, because its %s probe failed", container, kind)
	if e := lastEvent(p.view, p.obj, fieldPath(container), "Unhealthy"); e != nil {
		problem.Message += ": " + e.Message
	}
	problem.Hint = fmt.Sprintf("it does not answer its %s probe in time: the log says what it does meanwhile; if it only is slow, give it more CPU or the probe more patience", kind)
	return true
}

// fieldPath is how the kubelet's events name a container.
func fieldPath(container string) string { return "spec.containers{" + container + "}" }

// wrongPlatform recognizes an image for another processor. Neither the kubelet nor the runtime has a field for
// it: the kernel's own words for ENOEXEC, in the container's log, are all there is.
func (p *podView) wrongPlatform(container string, problem *Problem) bool {
	log := p.answers.get(query{ref: p.ref, container: container}, problem.version)
	if !strings.Contains(strings.Join(append(log.lines, problem.Message), "\n"), syscall.ENOEXEC.Error()) {
		return false
	}
	problem.Reason, problem.Final = "WrongPlatform", true
	node := "the node's"
	if p.pod.Spec.NodeName != "" {
		for _, n := range p.askOne(Ref{GroupVersionKind: NodeKind, Name: p.pod.Spec.NodeName}).objs {
			arch, _, _ := unstructured.NestedString(n.Object, "status", "nodeInfo", "architecture")
			node = fmt.Sprintf("node %s's, which is %s", n.GetName(), arch)
		}
	}
	problem.Hint = fmt.Sprintf("the image is for another processor than %s: build it for that platform too (docker build --platform)", node)
	return true
}

// cantStart says where to look when a node can't start a container.
func (p *podView) cantStart(container string) string {
	if starved := p.starved(); starved != "" {
		return starved
	}
	return fmt.Sprintf("the node can't start container %s as the manifest asks: look at its command, user, mounts and security settings", container)
}

// leastMemory is below what a container can be started with: Docker refuses such a limit (moby, daemon/daemon_unix.go).
const leastMemory = 6 << 20

// starved says which container's memory limit is too low for anything to start, or nothing.
func (p *podView) starved() string {
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			if limit := list[i].Resources.Limits.Memory(); !limit.IsZero() && limit.Value() < leastMemory {
				return fmt.Sprintf("container %s has a memory limit of %s, with which nothing starts: raise it", list[i].Name, limit)
			}
		}
	}
	return ""
}

// noSandboxPatience is how long a pod's sandbox may fail before a limit that can't work ends the wait.
const noSandboxPatience = 15 * time.Second

// noSandbox is a pod for which its node can't make the surroundings: mostly its network, at times its control group.
func (p *podView) noSandbox(problem *Problem) {
	problem.Hint = fmt.Sprintf("the text says what node %s lacks; if it is the network, look at the network plugin's pods in kube-system", p.pod.Spec.NodeName)
	if starved := p.starved(); starved != "" {
		problem.Hint, problem.Final, problem.Patience = starved, true, noSandboxPatience
	}
}

// misconfigured is a container that can't be made of what the pod names: usually something is missing.
func (p *podView) misconfigured(problem *Problem, container string) {
	problem.Final, problem.Patience = true, 15*time.Second
	missing, known := p.missingSources()
	switch {
	case missing != "":
		problem.Hint = missing
	case known:
		problem.Hint = p.cantStart(container)
	default:
		problem.Hint = "a ConfigMap, Secret or key that the pod names is missing, or the container can't be made as asked"
	}
}

// unprepared is a pod that has a node, on which its volumes or its network can't be made ready: only events tell.
func (p *podView) unprepared() *Problem {
	if p.pod.Spec.NodeName == "" || p.started() {
		return nil
	}
	e := lastEvent(p.view, p.obj, "", "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox", "FailedPrepareDynamicResources", "NetworkNotReady")
	if e == nil {
		return nil
	}
	problem := &Problem{Ref: p.ref, Reason: e.Reason, Message: e.Message}
	switch e.Reason {
	case "FailedMount", "FailedMapVolume":
		p.unmounted(problem)
	case "FailedAttachVolume":
		p.unattached(problem)
	case "NetworkNotReady":
		problem.Hint = fmt.Sprintf("the pods' network on node %s does not work: look at the network plugin's pods in kube-system", p.pod.Spec.NodeName)
	case "FailedCreatePodSandBox":
		p.noSandbox(problem)
	default:
		problem.Hint = fmt.Sprintf("kubectl describe pod -n %s %s shows all of it", p.ref.Namespace, p.ref.Name)
	}
	return problem
}

// started reports whether any container of the pod has got beyond being created.
func (p *podView) started() bool {
	for _, s := range append(p.pod.Status.InitContainerStatuses, p.pod.Status.ContainerStatuses...) {
		if s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}

// initializing is an init container that runs and runs: nothing else starts before it ends.
func (p *podView) initializing() *Problem {
	for _, s := range p.pod.Status.InitContainerStatuses {
		if s.State.Running == nil || p.restartable(s.Name) && s.Started != nil && *s.Started {
			continue
		}
		return &Problem{Ref: p.ref, Reason: "Initializing", Usual: true, container: s.Name, version: p.minutes(s.State.Running.StartedAt.Time),
			Message: fmt.Sprintf("init container %s still runs, and the others wait for it", s.Name),
			Hint:    fmt.Sprintf("kubectl logs -n %s %s -c %s -f shows what it waits for", p.ref.Namespace, p.ref.Name, s.Name)}
	}
	return nil
}

// minutes counts from a moment: the log of a container that hangs without a word from the kubelet is worth a
// look now and then.
func (p *podView) minutes(since time.Time) string {
	return strconv.Itoa(int(p.now.Sub(since).Minutes()))
}

// gated is a pod whose containers are ready and which somebody else holds back: a load balancer that has not
// found it healthy yet, for one (KEP-580).
func (p *podView) gated() *Problem {
	ready := p.condition(corev1.ContainersReady)
	if ready == nil || ready.Status != corev1.ConditionTrue {
		return nil
	}
	for _, gate := range p.pod.Spec.ReadinessGates {
		c := p.condition(gate.ConditionType)
		if c != nil && c.Status == corev1.ConditionTrue {
			continue
		}
		problem := &Problem{Ref: p.ref, Reason: "ReadinessGate", Usual: true,
			Message: fmt.Sprintf("its containers are ready, but its readiness gate %s is closed", gate.ConditionType),
			Hint:    "the controller that opens this gate has not done so: look at its log"}
		if c != nil && c.Reason+c.Message != "" {
			problem.Message += fmt.Sprintf(" (%s)", strings.Trim(c.Reason+": "+c.Message, ": "))
		}
		if strings.HasPrefix(string(gate.ConditionType), awsTargetHealth) {
			problem.Hint = "the AWS load balancer does not find the pod healthy: check the target group's health check and that the node's security group lets the load balancer in"
		}
		return problem
	}
	return nil
}

// awsTargetHealth begins the readiness gates of the AWS load balancer controller.
const awsTargetHealth = "target-health.elbv2.k8s.aws/"

// unready is a container that runs and does not pass its startup or readiness probe.
func (p *podView) unready() *Problem {
	for _, s := range p.pod.Status.ContainerStatuses {
		if s.State.Running == nil || s.Ready {
			continue
		}
		kind := "readiness"
		if c := p.spec(s.Name); c != nil && c.StartupProbe != nil && s.Started != nil && !*s.Started {
			kind = "startup"
		}
		problem := &Problem{Ref: p.ref, Reason: "Unready", Usual: true, container: s.Name, version: strconv.Itoa(int(s.RestartCount)),
			Message: fmt.Sprintf("container %s runs, but its %s probe does not pass", s.Name, kind),
			Hint:    fmt.Sprintf("kubectl logs -n %s %s -c %s shows what the container says", p.ref.Namespace, p.ref.Name, s.Name)}
		if e := lastEvent(p.view, p.obj, fieldPath(s.Name), "Unhealthy"); e != nil {
			problem.Message += ": " + e.Message
			problem.version += "/" + e.ResourceVersion
		}
		return problem
	}
	return nil
}

// silent is a pod whose containers show no problem and which is not ready all the same: its node may be lost, which
// the control plane notes in the pod's condition alone.
func (p *podView) silent() *Problem {
	ready := p.condition(corev1.PodReady)
	if p.pod.Status.Phase == corev1.PodUnknown || ready != nil && ready.Status != corev1.ConditionTrue || len(p.pod.Status.ContainerStatuses) == 0 {
		return p.lost()
	}
	return nil
}
