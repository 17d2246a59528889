package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RetryPulls deletes the pods that StuckPulls finds, and returns how many: pods that are made anew find at once
// an image that has been loaded or pushed in the meantime.
func (c *Client) RetryPulls(ctx context.Context, deployment Ref) (int, error) {
	stuck, err := c.StuckPulls(ctx, deployment)
	for i, pod := range stuck {
		if _, err := c.Delete(ctx, RefOf(pod), pod.GetUID()); err != nil {
			return i, err
		}
	}
	return len(stuck), err
}

// StuckPulls are the pods of a Deployment's newest rollout that can't pull their image. They serve nothing, and
// the kubelet waits up to five minutes before it tries again.
func (c *Client) StuckPulls(ctx context.Context, deployment Ref) ([]*unstructured.Unstructured, error) {
	found, err := c.snapshot(ctx, []Ref{deployment})
	if err != nil {
		return nil, err
	}
	view := &view{source: found, answers: newAnswers(), now: time.Now()}
	obj := view.object(deployment)
	if obj == nil {
		return nil, nil
	}
	rs := currentReplicaSet(view, obj)
	if rs == nil {
		return nil, nil
	}
	var stuck []*unstructured.Unstructured
	for _, pod := range view.objects(PodKind.GroupKind(), deployment.Namespace) {
		if !ownedBy(pod, rs.GetUID()) || pod.GetDeletionTimestamp() != nil {
			continue
		}
		if p := podProblem(view, pod); p != nil && isPullProblem(p.Reason) {
			stuck = append(stuck, pod)
		}
	}
	return stuck, nil
}
