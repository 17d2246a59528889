//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// apply creates the objects in a YAML stream; those that exist are left as they are.
func apply(ctx context.Context, config *rest.Config, text string) error {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(d)
	if err != nil {
		return fmt.Errorf("ask for the API's resources: %w", err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	objects, err := decode(text)
	if err != nil {
		return err
	}
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return err
		}
		_, err = client.Resource(mapping.Resource).Namespace(o.GetNamespace()).Create(ctx, o, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", gvk.Kind, o.GetName(), err)
		}
	}
	return nil
}

func decode(text string) ([]*unstructured.Unstructured, error) {
	reader := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		o := &unstructured.Unstructured{}
		err := reader.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
}

// nodesReady says what is missing until count nodes are ready.
func nodesReady(ctx context.Context, c kubernetes.Interface, count int) (string, error) {
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "list the nodes", err
	}
	ready := 0
	why := ""
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type != corev1.NodeReady {
				continue
			}
			if condition.Status == corev1.ConditionTrue {
				ready++
			} else {
				why = fmt.Sprintf(" (%s: %s)", node.Name, condition.Message)
			}
		}
	}
	if ready >= count {
		return "", nil
	}
	return fmt.Sprintf("%d of %d are ready%s", ready, count, why), nil
}

// dnsReady says what is missing until the cluster's name server answers.
func dnsReady(ctx context.Context, c kubernetes.Interface) (string, error) {
	d, err := c.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return "get the deployment coredns", err
	}
	if d.Status.AvailableReplicas > 0 {
		return "", nil
	}
	pods, err := c.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil {
		return "list its pods", err
	}
	for _, pod := range pods.Items {
		for _, s := range pod.Status.ContainerStatuses {
			if s.State.Waiting != nil {
				return fmt.Sprintf("pod %s waits: %s %s", pod.Name, s.State.Waiting.Reason, s.State.Waiting.Message), nil
			}
		}
	}
	return "no pod of coredns is ready", nil
}
