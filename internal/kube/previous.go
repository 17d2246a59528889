package kube

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Previous is what is ready of a Deployment's versions before the newest one.
type Previous struct {
	Ready int64  // pods
	Image string // of their first container
}

// Previous counts the ready pods of a Deployment's versions before the newest. A Deployment that is not there has none.
func (c *Client) Previous(ctx context.Context, deployment Ref) (Previous, error) {
	found, err := c.snapshot(ctx, []Ref{deployment})
	if err != nil {
		return Previous{}, err
	}
	v := c.viewOf(found)
	obj := v.object(deployment)
	if obj == nil {
		return Previous{}, nil
	}
	return previous(v, obj), nil
}

// previous takes all ReplicaSets for earlier ones while no controller has acted on the newest version.
func previous(v *view, deployment *unstructured.Unstructured) Previous {
	var p Previous
	current := currentReplicaSet(v, deployment)
	for _, rs := range v.objects(ReplicaSetKind.GroupKind(), deployment.GetNamespace()) {
		if !ownedBy(rs, deployment.GetUID()) || current != nil && rs.GetUID() == current.GetUID() {
			continue
		}
		if ready, _, _ := unstructured.NestedInt64(rs.Object, "status", "readyReplicas"); ready > 0 {
			p.Ready += ready
			p.Image = FirstImage(rs)
		}
	}
	return p
}
