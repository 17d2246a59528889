package kube

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Nodes is what the cluster's nodes tell about where it runs.
type Nodes struct {
	Distribution string   // "kind", "minikube", "k3s", "colima", "eks", "eks-auto", "gke", "aks", or empty: not recognized
	Addresses    []string // the nodes' addresses, those that are meant for outside first
}

// Nodes reads the cluster's nodes. A user who may not list them gets what the API server's address tells.
func (c *Client) Nodes(ctx context.Context) (Nodes, error) {
	list, err := c.typed.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return Nodes{Distribution: distributionOfHost(c.Host)}, nil
	}
	if err != nil {
		return Nodes{}, fmt.Errorf("list of nodes: %w", err)
	}
	var out Nodes
	var inside []string
	for i := range list.Items {
		node := &list.Items[i]
		if out.Distribution == "" {
			out.Distribution = distributionOfNode(node)
		}
		for _, a := range node.Status.Addresses {
			switch a.Type {
			case corev1.NodeExternalIP:
				out.Addresses = append(out.Addresses, a.Address)
			case corev1.NodeInternalIP:
				inside = append(inside, a.Address)
			}
		}
	}
	out.Addresses = append(out.Addresses, inside...)
	if out.Distribution == "" {
		out.Distribution = distributionOfHost(c.Host)
	}
	if out.Distribution == "eks" && c.serves("eks.amazonaws.com") {
		out.Distribution = "eks-auto"
	}
	return out, nil
}

// serves reports whether the cluster has an API group. EKS Auto Mode brings its NodeClasses even while it
// has no node.
func (c *Client) serves(group string) bool {
	groups, err := c.cached.ServerGroups()
	return err == nil && slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == group })
}

// distributionOfNode recognizes a distribution by what it writes into its nodes: the provider ID that
// the cloud controller or kind sets, or well-known labels.
func distributionOfNode(node *corev1.Node) string {
	provider, _, _ := strings.Cut(node.Spec.ProviderID, "://")
	switch {
	case node.Labels["eks.amazonaws.com/compute-type"] == "auto":
		return "eks-auto"
	case provider == "aws":
		return "eks"
	case provider == "kind", provider == "k3s":
		return provider
	case provider == "gce":
		return "gke"
	case provider == "azure":
		return "aks"
	case node.Labels["minikube.k8s.io/name"] != "":
		return "minikube"
	case strings.HasPrefix(node.Name, "colima"):
		return "colima"
	}
	return ""
}

func distributionOfHost(host string) string {
	u, err := url.Parse(host)
	if err == nil && strings.HasSuffix(u.Hostname(), ".eks.amazonaws.com") {
		return "eks"
	}
	return ""
}
