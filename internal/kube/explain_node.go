package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/klog/v2"
)

// misfitKind is why a node does not take a pod.
type misfitKind int

// In the order in which a node is looked at: the later, the closer it comes to taking the pod.
const (
	nodeNotReady misfitKind = iota // its kubelet says so, or says nothing
	nodeCordoned                   // kubectl cordon
	nodeMismatch                   // node selector or node affinity
	nodeTainted
	nodeTooSmall // even if it were empty
	nodeFits     // as far as the node itself goes
)

// misfit is what one node says to a pod.
type misfit struct {
	kind misfitKind
	text string
}

func nodesOf(objs []*unstructured.Unstructured) []corev1.Node {
	nodes := make([]corev1.Node, 0, len(objs))
	for _, u := range objs {
		var node corev1.Node
		if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &node) == nil {
			nodes = append(nodes, node)
		}
	}
	slices.SortFunc(nodes, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes
}

// misfit compares a node with the pod as the scheduler's own filters do, as far as the two alone tell.
func (p *podView) misfit(node *corev1.Node) misfit {
	if why := nodeDown(node); why != "" {
		return misfit{nodeNotReady, why}
	}
	if node.Spec.Unschedulable {
		return misfit{nodeCordoned, "it is cordoned"}
	}
	if want := p.unmatched(node); want != "" {
		return misfit{nodeMismatch, want}
	}
	for i := range node.Spec.Taints {
		if taint := &node.Spec.Taints[i]; taint.Effect != corev1.TaintEffectPreferNoSchedule && !p.tolerates(taint) {
			return misfit{nodeTainted, taint.ToString()}
		}
	}
	for name, asked := range p.requests() {
		if has := node.Status.Allocatable[name]; asked.Cmp(has) > 0 {
			return misfit{nodeTooSmall, fmt.Sprintf("the pod asks for %s %s, the node has %s in all", asked.String(), name, has.String())}
		}
	}
	return misfit{kind: nodeFits}
}

// nodeDown says why a node is not ready, or nothing.
func nodeDown(node *corev1.Node) string {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return strings.TrimSuffix(fmt.Sprintf("it is not ready: %s: %s", c.Reason, c.Message), ": ")
		}
	}
	return "it is not ready"
}

func (p *podView) tolerates(taint *corev1.Taint) bool {
	return slices.ContainsFunc(p.pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.ToleratesTaint(klog.Background(), taint, true)
	})
}

// unmatched is what the pod's node selector or required node affinity asks for and the node does not have, or
// nothing.
func (p *podView) unmatched(node *corev1.Node) string {
	selector := labels.SelectorFromSet(p.pod.Spec.NodeSelector)
	if !selector.Matches(labels.Set(node.Labels)) {
		return selector.String()
	}
	affinity := p.pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil {
		return ""
	}
	return unmatchedTerms(affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution, node)
}

// unmatchedTerms words a node selector that the node does not match, or nothing: one of its terms is enough.
func unmatchedTerms(selector *corev1.NodeSelector, node *corev1.Node) string {
	if selector == nil {
		return ""
	}
	var wants []string
	for _, term := range selector.NodeSelectorTerms {
		want := unmatchedTerm(term, node)
		if want == "" {
			return ""
		}
		wants = append(wants, want)
	}
	return strings.Join(wants, " or ")
}

func unmatchedTerm(term corev1.NodeSelectorTerm, node *corev1.Node) string {
	match := labels.NewSelector()
	for _, e := range term.MatchExpressions {
		if r := requirement(e); r != nil {
			match = match.Add(*r)
		}
	}
	if !match.Matches(labels.Set(node.Labels)) {
		return match.String()
	}
	match = labels.NewSelector()
	for _, e := range term.MatchFields {
		if r := requirement(e); r != nil {
			match = match.Add(*r)
		}
	}
	if !match.Matches(labels.Set{metav1.ObjectNameField: node.Name}) {
		return match.String()
	}
	return ""
}

func requirement(e corev1.NodeSelectorRequirement) *labels.Requirement {
	operators := map[corev1.NodeSelectorOperator]selection.Operator{
		corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
		corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
	}
	r, err := labels.NewRequirement(e.Key, operators[e.Operator], e.Values)
	if err != nil {
		return nil // the API server has checked it: an operator of a newer version
	}
	return r
}

// lostAfter is how long after its end was due a pod counts as one that can't end.
const lostAfter = 10 * time.Second

// lost is a pod whose node has gone away with it, or nil. It is only looked for where the pod itself shows nothing
// else: its status stays as the kubelet wrote it last.
func (p *podView) lost() *Problem {
	if p.pod.Spec.NodeName == "" {
		return nil
	}
	ref := Ref{GroupVersionKind: NodeKind, Name: p.pod.Spec.NodeName}
	found := p.askOne(ref)
	if !found.known {
		return nil
	}
	problem := &Problem{Ref: p.ref, Reason: "NodeLost", Message: fmt.Sprintf("its node %s is gone", ref.Name),
		Hint: "the pod is replaced when the cluster gives the node up; kubectl delete pod --force does it at once, if the node really is off"}
	if len(found.objs) == 0 {
		return problem
	}
	for _, node := range nodesOf(found.objs) {
		why := nodeDown(&node)
		if why == "" {
			return nil
		}
		problem.Message = fmt.Sprintf("its node %s is down: %s", node.Name, why)
	}
	problem.Hint = fmt.Sprintf("bring node %s back, or delete it (kubectl delete node %s) if it is off for good: then the pod moves to another", ref.Name, ref.Name)
	return problem
}

// stuck is a pod that should have ended by now and can't, or nil. It keeps a StatefulSet from making the next one.
func (p *podView) stuck() *Problem {
	due := p.pod.DeletionTimestamp
	if due == nil || p.now.Sub(due.Time) < lostAfter {
		return nil
	}
	if problem := p.lost(); problem != nil {
		return problem
	}
	problem := &Problem{Ref: p.ref, Reason: "StuckTerminating", Message: fmt.Sprintf("it should have ended %s ago", p.now.Sub(due.Time).Round(time.Second)),
		Hint: fmt.Sprintf("kubectl describe pod -n %s %s shows what its node says; until it is gone its successor can't start", p.ref.Namespace, p.ref.Name)}
	if f := p.pod.Finalizers; len(f) > 0 {
		problem.Message += fmt.Sprintf(", and is held by finalizer %s", strings.Join(f, ", "))
		problem.Hint = "the controller that owns the finalizer has to release the pod: look whether it runs"
	}
	if e := lastEvent(p.view, p.obj, "", "FailedKillPod", "ExceededGracePeriod"); e != nil {
		problem.Evidence = append(problem.Evidence, e.Message)
	}
	return problem
}
