package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ServiceProblem says why a Service of type LoadBalancer has no address, or nil. Such a Service counts as ready:
// what it leads to may be reached in another way.
func (c *Client) ServiceProblem(ctx context.Context, ref Ref) (*Problem, error) {
	service, err := c.Find(ctx, ref)
	if err != nil || service == nil {
		return nil, err
	}
	v := c.viewOf(snapshot{})
	if p := serviceProblem(v, service); p == nil {
		return nil, nil
	}
	c.answerAll(ctx, v.answers, v.answers.due(v.now)) // its events
	return serviceProblem(v, service), nil
}

// serviceProblem is a Service that waits for a load balancer's address. Whoever makes load balancers says what is
// in the way by events: the cloud's controller, or that of AWS.
func serviceProblem(v *view, service *unstructured.Unstructured) *Problem {
	kind, _, _ := unstructured.NestedString(service.Object, "spec", "type")
	addresses, _, _ := unstructured.NestedSlice(service.Object, "status", "loadBalancer", "ingress")
	if kind != string(corev1.ServiceTypeLoadBalancer) || len(addresses) > 0 {
		return nil
	}
	p := &Problem{Ref: RefOf(service), Reason: "LoadBalancerPending", Message: "no load balancer has given it an address yet",
		Hint: "a cloud takes minutes to make one: waiting may help. On kind, minikube and bare metal nothing does: set profile: local, or install a load balancer such as MetalLB"}
	if e := lastEvent(v, service, "", "SyncLoadBalancerFailed", "FailedBuildModel", "FailedDeployModel", "AllocationFailed"); e != nil {
		p.Reason, p.Message = e.Reason, e.Message
		p.Hint = "the controller that makes load balancers says why it can't: it tries again by itself when that is mended"
	} else if class, _, _ := unstructured.NestedString(service.Object, "spec", "loadBalancerClass"); class != "" {
		p.Message += " (class " + class + ")"
		p.Hint = "the controller of that class takes minutes to make one: waiting may help. If nothing happens, look whether it is installed and runs (kubectl get pods -A); where there is none set profile: local"
	}
	return p
}
