package kube

import corev1 "k8s.io/api/core/v1"

// unscheduled says why a pod has no node. A claim that is not bound is the better explanation.
func (p *podView) unscheduled() *Problem {
	c := p.condition(corev1.PodScheduled)
	if c == nil || c.Status != corev1.ConditionFalse {
		return nil
	}
	for _, volume := range p.pod.Spec.Volumes {
		if volume.PersistentVolumeClaim == nil {
			continue
		}
		claim := p.object(Ref{GroupVersionKind: PVCKind, Namespace: p.pod.Namespace, Name: volume.PersistentVolumeClaim.ClaimName})
		if claim == nil {
			continue
		}
		if problem := claimProblem(claim); problem != nil {
			return problem
		}
	}
	return &Problem{Ref: p.ref, Reason: c.Reason, Message: c.Message,
		Hint: "no node takes the pod: free CPU or memory, add a node, or lower the requests"}
}
