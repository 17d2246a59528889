package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// schedulePatience is how long a pod that fits no node of the cluster is waited for: an autoscaler that means to
// add a node has said so by then.
const schedulePatience = time.Minute

// Reasons of events by which the cluster autoscaler and Karpenter say that they are making room for a pod.
const (
	eventTriggeredScaleUp = "TriggeredScaleUp"
	eventNominated        = "Nominated"
)

// unscheduled says why a pod has no node. A volume that can't be had is the better explanation. The scheduler has
// no fields for its reasons: its text is passed on, and the advice comes from comparing the pod with the nodes.
func (p *podView) unscheduled() *Problem {
	if p.pod.Spec.NodeName != "" {
		return nil
	}
	c := p.condition(corev1.PodScheduled)
	if c == nil {
		return p.unseen()
	}
	if c.Status != corev1.ConditionFalse {
		return nil
	}
	if c.Reason == corev1.PodReasonSchedulingGated {
		return &Problem{Ref: p.ref, Reason: c.Reason, Message: c.Message, Hint: "somebody holds the pod back by spec.schedulingGates: the controller that put the gate there has to take it away"}
	}
	if problem := p.unbound(); problem != nil {
		return problem
	}
	problem := &Problem{Ref: p.ref, Reason: c.Reason, Message: c.Message,
		Hint: "no node takes the pod: free CPU or memory, add a node, or lower the requests"}
	p.compareNodes(problem)
	if e := lastEvent(p.view, p.obj, "", eventTriggeredScaleUp, eventNominated); e != nil {
		problem.Final = false
		problem.Hint = "a node is being added for the pod: " + e.Message
	}
	return problem
}

// unseen is a pod that no scheduler has looked at.
func (p *podView) unseen() *Problem {
	if p.pod.Status.Phase != corev1.PodPending || len(p.pod.Status.ContainerStatuses) > 0 {
		return nil
	}
	scheduler := p.pod.Spec.SchedulerName
	if scheduler == "" {
		scheduler = corev1.DefaultSchedulerName
	}
	return &Problem{Ref: p.ref, Reason: "NotScheduled", Usual: true, passing: true,
		Message: fmt.Sprintf("the scheduler %s has not looked at the pod", scheduler),
		Hint:    "the cluster's scheduler does not work: look at its pod in kube-system, or at the state of the managed control plane"}
}

// compareNodes looks for why no node takes the pod, and says how far each is from it.
func (p *podView) compareNodes(problem *Problem) {
	all := p.ask(NodeKind, "")
	if !all.known {
		return
	}
	nodes := nodesOf(all.objs)
	if len(nodes) == 0 {
		problem.Hint = "the cluster has no nodes: add one, or wait if an autoscaler does"
		return
	}
	misfits := make([]misfit, 0, len(nodes))
	for i := range nodes {
		misfits = append(misfits, p.misfit(&nodes[i]))
	}
	for i, m := range misfits {
		if m.kind != nodeFits && len(problem.Evidence) < showLogLines {
			problem.Evidence = append(problem.Evidence, fmt.Sprintf("node %s: %s", nodes[i].Name, m.text))
		}
	}
	p.adviseOnNodes(problem, misfits)
}

// adviseOnNodes sets the advice by what keeps the node that comes closest from taking the pod.
func (p *podView) adviseOnNodes(problem *Problem, misfits []misfit) {
	best := closest(misfits)
	problem.Final = slices.Contains([]misfitKind{nodeMismatch, nodeTainted, nodeTooSmall, nodeCordoned}, best.kind)
	problem.Patience = schedulePatience
	switch best.kind {
	case nodeFits:
		p.crowded(problem)
	case nodeNotReady:
		problem.Hint = "no node is ready: kubectl describe nodes says why; a node that is starting gets ready by itself"
	case nodeCordoned:
		problem.Hint = "the nodes take no new pods: kubectl uncordon them, or add a node"
	case nodeMismatch:
		problem.Hint = fmt.Sprintf("no node has what the pod's nodeSelector or node affinity asks for (%s): label a node, add a node that has it, or change the setting", best.text)
	case nodeTainted:
		problem.Hint = fmt.Sprintf("the nodes refuse pods that don't tolerate their taint (%s): add the toleration, take the taint away, or add a node without it", best.text)
	case nodeTooSmall:
		problem.Hint = fmt.Sprintf("no node is big enough (%s): lower the requests or add a bigger node", best.text)
	}
}

// closest chooses what to advise on: nodes that are meant for others are no reason to say so.
func closest(misfits []misfit) misfit {
	return slices.MaxFunc(misfits, func(a, b misfit) int { return int(a.kind) - int(b.kind) })
}

// crowded is a pod that some node would take but for the other pods.
func (p *podView) crowded(problem *Problem) {
	if ports := p.hostPorts(); len(ports) > 0 {
		if taken := p.takenPort(ports); taken != "" {
			problem.Reason = "HostPortTaken"
			problem.Hint = taken
			problem.Final = true
			return
		}
	}
	if affinity := p.pod.Spec.Affinity; affinity != nil && affinity.PodAntiAffinity != nil && len(affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		problem.Hint = "the pod may not share a node with others of its kind (pod anti-affinity): add nodes or lower the number of replicas"
		return
	}
	problem.Hint = fmt.Sprintf("no node has room for the pod, which asks for %s: free CPU or memory, add a node, or lower the requests", p.askedFor())
	for _, c := range p.pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			problem.Hint = fmt.Sprintf("no node has room for the pod (it asks for %s), or its spread over %s forbids it: add nodes there, or set whenUnsatisfiable to ScheduleAnyway", p.askedFor(), c.TopologyKey)
		}
	}
}

// hostPorts are the ports of the node that the pod asks for.
func (p *podView) hostPorts() []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for i := range p.pod.Spec.Containers {
		for _, port := range p.pod.Spec.Containers[i].Ports {
			if port.HostPort != 0 {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// takenPort says which pod has a port of the node that this one asks for, or nothing.
func (p *podView) takenPort(ports []corev1.ContainerPort) string {
	for _, u := range p.ask(PodKind, "").objs {
		other, ok := p.view.pod(u)
		if !ok || other.pod.Spec.NodeName == "" || other.pod.UID == p.pod.UID || other.ended() {
			continue
		}
		for _, theirs := range other.hostPorts() {
			for _, ours := range ports {
				if theirs.HostPort == ours.HostPort && protocol(theirs) == protocol(ours) {
					return fmt.Sprintf("port %d of node %s belongs to %s already: remove that, or give the ingress controller another way in (a Service of type LoadBalancer or NodePort)", ours.HostPort, other.pod.Spec.NodeName, other.ref)
				}
			}
		}
	}
	return ""
}

func protocol(port corev1.ContainerPort) corev1.Protocol {
	if port.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return port.Protocol
}

func (p *podView) ended() bool {
	return p.pod.Status.Phase == corev1.PodSucceeded || p.pod.Status.Phase == corev1.PodFailed
}

// requests are the CPU and memory that the pod asks for: its containers' together, or an init container's that
// asks for more.
func (p *podView) requests() corev1.ResourceList {
	total := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		sum := p.pod.Spec.Overhead[name].DeepCopy()
		for i := range p.pod.Spec.Containers {
			sum.Add(p.pod.Spec.Containers[i].Resources.Requests[name])
		}
		for i := range p.pod.Spec.InitContainers {
			if init := p.pod.Spec.InitContainers[i].Resources.Requests[name]; init.Cmp(sum) > 0 {
				sum = init.DeepCopy()
			}
		}
		if !sum.IsZero() {
			total[name] = sum
		}
	}
	return total
}

// askedFor words the requests: "64 CPU, 1Gi memory".
func (p *podView) askedFor() string {
	asked := p.requests()
	var parts []string
	if cpu, ok := asked[corev1.ResourceCPU]; ok {
		parts = append(parts, cpu.String()+" CPU")
	}
	if memory, ok := asked[corev1.ResourceMemory]; ok {
		parts = append(parts, memory.String()+" memory")
	}
	if len(parts) == 0 {
		return "no CPU or memory"
	}
	return strings.Join(parts, ", ")
}
