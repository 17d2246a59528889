package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// identity are the labels of the chart that all pods of a controller share.
var identity = []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}

// publish writes the controller's addresses into the status of its Ingresses where they aren't there yet. All replicas
// write the same, so none has to be elected.
func (c *Controller) publish(ctx context.Context, own []*networkingv1.Ingress) error {
	if len(own) == 0 {
		return nil
	}
	addresses, err := c.addresses(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, i := range own {
		if slices.EqualFunc(i.Status.LoadBalancer.Ingress, addresses, func(a, b networkingv1.IngressLoadBalancerIngress) bool {
			return a.IP == b.IP && a.Hostname == b.Hostname
		}) {
			continue
		}
		updated := i.DeepCopy()
		updated.Status.LoadBalancer.Ingress = addresses
		_, err := c.Client.NetworkingV1().Ingresses(i.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		// Changed or gone meanwhile: the informer tells, and the next turn does it.
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			problems = append(problems, fmt.Errorf("ingress %s/%s: %w", i.Namespace, i.Name, err))
		}
	}
	return errors.Join(problems...)
}

// addresses are what the flags say, or those of the nodes that run a controller.
func (c *Controller) addresses(ctx context.Context) ([]networkingv1.IngressLoadBalancerIngress, error) {
	if c.Options.PublishAddress != "" {
		return entries(strings.Split(c.Options.PublishAddress, ",")), nil
	}
	if namespace, name, ok := c.Options.publishService(); ok {
		service, err := c.objects.Core().V1().Services().Lister().Services(namespace).Get(name)
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return entries(serviceAddresses(service)), nil
	}
	return c.nodeAddresses(ctx)
}

// serviceAddresses are where a Service is reached; a load balancer that has none yet has none to publish.
func serviceAddresses(s *corev1.Service) []string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return []string{s.Spec.ExternalName}
	case corev1.ServiceTypeLoadBalancer:
		addresses := slices.Clone(s.Spec.ExternalIPs)
		for _, i := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, cmp.Or(i.Hostname, i.IP))
		}
		return addresses
	default:
		return append(slices.Clone(s.Spec.ExternalIPs), s.Spec.ClusterIP)
	}
}

func (c *Controller) nodeAddresses(ctx context.Context) ([]networkingv1.IngressLoadBalancerIngress, error) {
	pods := c.Client.CoreV1().Pods(c.Options.PodNamespace)
	self, err := pods.Get(ctx, c.Options.PodName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the pod of this controller: %w", err)
	}
	selector := labels.Set{}
	for _, name := range identity {
		selector[name] = self.Labels[name]
	}
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("list the pods of this controller: %w", err)
	}
	var addresses []string
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			addresses = append(addresses, p.Status.HostIP)
		}
	}
	return entries(addresses), nil
}

// entries sorts addresses and says of each whether it is one or a name.
func entries(addresses []string) []networkingv1.IngressLoadBalancerIngress {
	var found []networkingv1.IngressLoadBalancerIngress
	slices.Sort(addresses)
	for _, a := range slices.Compact(addresses) {
		if net.ParseIP(a) != nil {
			found = append(found, networkingv1.IngressLoadBalancerIngress{IP: a})
		} else if a != "" {
			found = append(found, networkingv1.IngressLoadBalancerIngress{Hostname: a})
		}
	}
	return found
}
