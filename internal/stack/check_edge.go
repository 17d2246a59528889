package stack

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// The classes of load balancers on AWS, and the API groups by which what serves them is told: its kinds are
// installed with it.
const (
	awsBalancerClass  = "service.k8s.aws/nlb"
	awsBalancerGroup  = "elbv2.k8s.aws"
	autoBalancerClass = "eks.amazonaws.com/nlb"
	autoBalancerGroup = "eks.amazonaws.com"
)

// checkEdge looks at what brings requests to the app.
func (l *look) checkEdge() {
	l.checkController()
	l.checkClasses()
	l.checkBalancer()
	l.checkPorts()
}

func (l *look) checkController() {
	const name = "controller"
	c := l.plan.controller
	switch {
	case slices.ContainsFunc(l.checks, func(c Check) bool { return c.Group == CheckIngress && c.Name == name }):
		// its error is told already
	case !c.foreign && l.plan.ingress == nil:
		l.skip(CheckIngress, name, "not known without its chart")
	case !c.foreign && l.plan.ingress.Current == nil:
		l.ok(CheckIngress, name, fmt.Sprintf("none is there: ingress-nginx will be installed, with class %s", c.class))
	case !c.foreign:
		l.ok(CheckIngress, name, fmt.Sprintf("ours, class %s, in namespace %s", c.class, c.namespace))
	case l.abandoned(c):
		l.warn(CheckIngress, name, fmt.Sprintf("IngressClass %s is there, and no pod of an ingress-nginx that would serve it", c.class),
			fmt.Sprintf("if it is left over from a controller that is gone: kubectl delete ingressclass %s; pwdeploy up then installs one", c.class))
	default:
		l.ok(CheckIngress, name, fmt.Sprintf("class %s of somebody else's controller is used as it is", c.class))
	}
}

// checkClasses says which classes there are, and whose.
func (l *look) checkClasses() {
	const name = "classes"
	switch all := l.survey.IngressClasses; {
	case all.Err != nil:
		l.unseen(CheckIngress, name, all.Err)
	case len(all.Items) == 0:
		l.ok(CheckIngress, name, "there are none")
	default:
		words := make([]string, 0, len(all.Items))
		for i := range all.Items {
			words = append(words, l.describeClass(&all.Items[i]))
		}
		slices.Sort(words)
		l.ok(CheckIngress, name, strings.Join(words, "; "))
	}
}

func (l *look) describeClass(c *networkingv1.IngressClass) string {
	release, namespace := c.Annotations[helm.ReleaseNameAnnotation], c.Annotations[helm.ReleaseNamespaceAnnotation]
	whose := ""
	switch {
	case release == ingressRelease && namespace == l.cfg.Ingress.Namespace && !l.plan.controller.foreign:
		whose = ", ours"
	case release != "":
		whose = fmt.Sprintf(", of release %s/%s", namespace, release)
	}
	return fmt.Sprintf("%s (%s%s)", c.Name, c.Spec.Controller, whose)
}

// abandoned reports whether the class is ingress-nginx' and no controller's pod runs in the cluster.
func (l *look) abandoned(c controller) bool {
	if c.implementation != nginxController || l.survey.Pods.Err != nil {
		return false
	}
	selector, err := labels.Parse(controllerPods)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(l.survey.Pods.Items, func(p corev1.Pod) bool { return selector.Matches(labels.Set(p.Labels)) })
}

func (l *look) checkBalancer() {
	const name = "load balancer"
	switch {
	case l.plan.controller.foreign:
		l.skip(CheckIngress, name, "the controller is somebody else's")
	case l.plan.ingress == nil:
		l.skip(CheckIngress, name, "not known without the controller's chart")
	case l.balancer == nil:
		l.ok(CheckIngress, name, fmt.Sprintf("none is needed: with profile %s the controller listens on the nodes' own ports", l.target.Profile))
	case *l.balancer == awsBalancerClass && !l.kube.Serves(awsBalancerGroup):
		l.warn(CheckIngress, name, "the AWS load balancer controller, which makes it, was not found: the Service would stay pending",
			"install it (https://kubernetes-sigs.github.io/aws-load-balancer-controller), or turn on EKS Auto Mode")
	case *l.balancer == autoBalancerClass && !l.kube.Serves(autoBalancerGroup):
		l.warn(CheckIngress, name, "EKS Auto Mode, which makes it, was not found: the Service would stay pending", "turn it on, or install the AWS load balancer controller")
	case *l.balancer == awsBalancerClass:
		l.ok(CheckIngress, name, "the AWS load balancer controller is there")
	case *l.balancer == autoBalancerClass:
		l.ok(CheckIngress, name, "EKS Auto Mode makes it")
	default:
		l.skip(CheckIngress, name, fmt.Sprintf("whether the cluster has one of class %q can't be seen", *l.balancer))
	}
}

// checkPorts looks for nodes whose own ports the controller needs and another pod holds.
func (l *look) checkPorts() {
	const name = "host ports"
	controller := l.hostPortUser()
	if controller == nil {
		return
	}
	if l.survey.Pods.Err != nil {
		l.unseen(CheckIngress, name, l.survey.Pods.Err)
		return
	}
	wanted := hostPorts(&controller.pod.Spec)
	holders := map[string]string{} // by node
	for i := range l.survey.Pods.Items {
		pod := &l.survey.Pods.Items[i]
		if ended(pod) || pod.Namespace == controller.ref.Namespace && ownPod(pod) {
			continue
		}
		for port := range hostPorts(&pod.Spec) {
			if wanted[port] {
				holders[pod.Spec.NodeName] = fmt.Sprintf("Pod %s/%s has %s", pod.Namespace, pod.Name, port)
			}
		}
	}
	l.judgePorts(name, wanted, holders)
}

func (l *look) judgePorts(name string, wanted map[string]bool, holders map[string]string) {
	free, taken := 0, []string{}
	for _, n := range l.usableNodes() {
		if who, ok := holders[n.Name]; ok {
			taken = append(taken, fmt.Sprintf("%s: %s", n.Name, who))
		} else {
			free++
		}
	}
	slices.Sort(taken)
	ports := make([]string, 0, len(wanted))
	for p := range wanted {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	switch {
	case len(taken) == 0:
		l.ok(CheckIngress, name, fmt.Sprintf("%s of the nodes are free of other pods", strings.Join(ports, " and ")))
	case free > 0:
		l.ok(CheckIngress, name, fmt.Sprintf("free on %s; not on %s", countedThings(free, "node"), strings.Join(taken, "; ")))
	default:
		l.add(Check{Group: CheckIngress, Name: name, State: CheckFailed, passes: true,
			Message: "every node's port is taken: " + strings.Join(taken, "; "),
			Hint:    "use that controller (ingress.className names its class), or take it away (k3s: --disable=traefik)"})
	}
}

// hostPortUser is what the plan wants to run on the nodes' own ports, or nil.
func (l *look) hostPortUser() *workload {
	i := slices.IndexFunc(l.workloads, func(w workload) bool { return w.lasting() && len(hostPorts(&w.pod.Spec)) > 0 })
	if i < 0 {
		return nil
	}
	return &l.workloads[i]
}

// hostPorts gives the node's ports that a pod takes, as "80/TCP". One in the node's own network takes all that
// it names.
func hostPorts(pod *corev1.PodSpec) map[string]bool {
	out := map[string]bool{}
	for _, c := range pod.Containers {
		for _, p := range c.Ports {
			port := p.HostPort
			if pod.HostNetwork {
				port = p.ContainerPort
			}
			if port != 0 {
				out[fmt.Sprintf("%d/%s", port, protocol(p.Protocol))] = true
			}
		}
	}
	return out
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// ownPod reports whether a pod in our controller's namespace is the controller's.
func ownPod(pod *corev1.Pod) bool { return pod.Labels["app.kubernetes.io/instance"] == ingressRelease }

// checkWebhooks judges the webhooks that nothing answers. One of the controller that up is about to bring up
// is mended by that.
func (l *look) checkWebhooks() {
	for i := range l.dead {
		w := &l.dead[i]
		name := "webhook " + w.Name
		switch {
		case !l.plan.controller.foreign && w.Service.Namespace == l.cfg.Ingress.Namespace:
			if l.inUp {
				continue // that is what it is about to do
			}
			l.warn(CheckLeftovers, name, w.Error(), "pwdeploy up puts its controller back")
		case !w.Blocks:
			l.warn(CheckIngress, name, w.Error(), w.Hint())
		default:
			l.add(Check{Group: CheckIngress, Name: name, State: CheckFailed, Message: w.Error(), Hint: w.Hint(), err: w, passes: !w.Leftover()})
		}
	}
}

// helmRelease selects what a release made, by the labels that charts use.
func helmRelease(name string) string {
	return "app.kubernetes.io/managed-by=Helm,app.kubernetes.io/instance=" + name
}

// checkRoles finds cluster-wide objects of a release of ours that is gone.
func (l *look) checkRoles() {
	const name = "cluster roles"
	if l.survey.ClusterRoles.Err != nil {
		l.unseen(CheckLeftovers, name, l.survey.ClusterRoles.Err)
		return
	}
	var left []string
	for _, role := range l.survey.ClusterRoles.Items {
		ours := role.Annotations[helm.ReleaseNameAnnotation] == ingressRelease && role.Annotations[helm.ReleaseNamespaceAnnotation] == l.cfg.Ingress.Namespace
		if ours && l.plan.ingress != nil && l.plan.ingress.Current == nil {
			left = append(left, kube.Ref{GroupVersionKind: kube.ClusterRoleKind, Name: role.Name}.String())
		}
	}
	if len(left) == 0 {
		l.ok(CheckLeftovers, name, "none of a release that is gone")
		return
	}
	l.warn(CheckLeftovers, name, fmt.Sprintf("%s: left over from release %s/%s, which is gone", strings.Join(left, ", "), l.cfg.Ingress.Namespace, ingressRelease),
		"pwdeploy up takes them over")
}
