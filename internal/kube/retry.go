package kube

import (
	"context"
	"time"
)

// RetryPulls deletes the pods of a Deployment's newest rollout that can't pull their image, and returns how
// many. They serve nothing, and the kubelet waits up to five minutes before it tries again: pods that are
// made anew find at once an image that has been loaded or pushed in the meantime.
func (c *Client) RetryPulls(ctx context.Context, deployment Ref) (int, error) {
	found, err := c.snapshot(ctx, []Ref{deployment})
	if err != nil {
		return 0, err
	}
	view := &view{source: found, answers: newAnswers(), now: time.Now()}
	obj := view.object(deployment)
	if obj == nil {
		return 0, nil
	}
	rs := currentReplicaSet(view, obj)
	if rs == nil {
		return 0, nil
	}
	retried := 0
	for _, pod := range view.objects(PodKind.GroupKind(), deployment.Namespace) {
		if !ownedBy(pod, rs.GetUID()) || pod.GetDeletionTimestamp() != nil {
			continue
		}
		if p := podProblem(view, pod); p == nil || !isPullProblem(p.Reason) {
			continue
		}
		if _, err := c.Delete(ctx, RefOf(pod), pod.GetUID()); err != nil {
			return retried, err
		}
		retried++
	}
	return retried, nil
}
