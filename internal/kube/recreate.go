package kube

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Discard deletes an object that is to be made anew, if it is still the one that was looked at, and waits until it is
// gone. Pods and claims of a StatefulSet stay, whatever its retention policy says: they are the new one's. Of
// everything else what it made goes with it.
func (c *Client) Discard(ctx context.Context, live *unstructured.Unstructured) error {
	ref, policy := RefOf(live), metav1.DeletePropagationForeground
	if ref.GroupKind() == StatefulSetKind.GroupKind() {
		policy = metav1.DeletePropagationOrphan
	}
	if _, err := c.delete(ctx, ref, live.GetUID(), policy); err != nil {
		return err
	}
	return c.WaitGone(ctx, []Ref{ref}, nil)
}

// DeleteStrandedPods deletes the pods that were left of a StatefulSet which is not there, and that a new one could not
// take over: of another selector, or without its volumes. They would hold their names, and it would wait for ever.
func (c *Client) DeleteStrandedPods(ctx context.Context, set *unstructured.Unstructured) error {
	ref := RefOf(set)
	live, err := c.Find(ctx, ref)
	if err != nil || live != nil {
		return err
	}
	pods, err := c.List(ctx, Ref{GroupVersionKind: PodKind, Namespace: ref.Namespace}, "")
	if err != nil {
		return err
	}
	var stranded []Ref
	var group errgroup.Group
	for i := range pods {
		pod := &pods[i]
		if !leftOf(pod, ref.Name) || fits(pod, set) {
			continue
		}
		stranded = append(stranded, RefOf(pod))
		group.Go(func() error {
			_, err := c.Delete(ctx, RefOf(pod), pod.GetUID())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.WaitGone(ctx, stranded, nil)
}

// leftOf reports whether a pod is nobody's and has the name of a StatefulSet's.
func leftOf(pod *unstructured.Unstructured, set string) bool {
	ordinal, ok := strings.CutPrefix(pod.GetName(), set+"-")
	if _, err := strconv.ParseUint(ordinal, 10, 31); err != nil {
		return false
	}
	return ok && metav1.GetControllerOf(pod) == nil
}

// fits reports whether a StatefulSet can take a pod over as it is, and replace it in its turn.
func fits(pod, set *unstructured.Unstructured) bool {
	selector, _, _ := unstructured.NestedStringMap(set.Object, "spec", "selector", "matchLabels")
	service, _, _ := unstructured.NestedString(set.Object, "spec", "serviceName")
	subdomain, _, _ := unstructured.NestedString(pod.Object, "spec", "subdomain")
	if !labels.SelectorFromSet(selector).Matches(labels.Set(pod.GetLabels())) || service != subdomain {
		return false
	}
	volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
	templates, _, _ := unstructured.NestedSlice(set.Object, "spec", "volumeClaimTemplates")
	for _, t := range templates {
		template, _ := t.(map[string]any)
		name := nested(template, "metadata", "name")
		if !slices.ContainsFunc(volumes, func(v any) bool {
			volume, _ := v.(map[string]any)
			return volume["name"] == name && volume["persistentVolumeClaim"] != nil
		}) {
			return false
		}
	}
	return true
}
