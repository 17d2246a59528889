package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// Delete removes the object if it is still the one with this UID (any, if uid is empty). Its dependents
// go first (foreground), so that its absence means theirs too.
func (c *Client) Delete(ctx context.Context, ref Ref, uid types.UID) (Action, error) {
	return c.delete(ctx, ref, uid, metav1.DeletePropagationForeground)
}

func (c *Client) delete(ctx context.Context, ref Ref, uid types.UID, policy metav1.DeletionPropagation) (Action, error) {
	r, err := c.resource(ref)
	if err != nil {
		return "", err
	}
	opts := metav1.DeleteOptions{PropagationPolicy: &policy}
	if uid != "" {
		opts.Preconditions = metav1.NewUIDPreconditions(string(uid))
	}
	err = r.Delete(ctx, ref.Name, opts)
	if apierrors.IsNotFound(err) {
		return Absent, nil
	}
	if err != nil {
		return "", failed(ref, err)
	}
	return Deleted, nil
}

// DeleteOwned removes those of refs that are still ours, side by side, and returns what happened to each.
// Objects that somebody else made meanwhile under the same name are left alone and reported Unchanged.
func (c *Client) DeleteOwned(ctx context.Context, refs []Ref, instance string) ([]Change, error) {
	changes := make([]Change, len(refs))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, ref := range refs {
		group.Go(func() error {
			action, err := c.deleteOwned(ctx, ref, instance)
			changes[i] = Change{Ref: ref, Action: action}
			return err
		})
	}
	return changes, group.Wait()
}

func (c *Client) deleteOwned(ctx context.Context, ref Ref, instance string) (Action, error) {
	obj, err := c.Find(ctx, ref)
	if meta.IsNoMatchError(err) { // the cluster no longer knows the kind: its objects went with it
		return Absent, nil
	}
	if err != nil {
		return "", err
	}
	if obj == nil {
		return Absent, nil
	}
	if !Owned(obj, instance) {
		return Unchanged, nil
	}
	action, err := c.Delete(ctx, ref, obj.GetUID())
	if apierrors.IsConflict(err) { // the UID: it is no longer the object that was looked at
		return Unchanged, nil
	}
	return action, err
}

// WaitGone returns when none of refs is there any more. progress, if not nil, is told each object that
// is still there, with what it waits for, whenever that changes.
func (c *Client) WaitGone(ctx context.Context, refs []Ref, progress func(ref Ref, message string)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism)
	for _, ref := range refs {
		group.Go(func() error { return c.waitGone(ctx, ref, progress) })
	}
	return group.Wait()
}

// goneInterval is how long a watch of one object lasts before it is asked for again: a safety net for
// watches that break silently.
const goneInterval = 30 * time.Second

func (c *Client) waitGone(ctx context.Context, ref Ref, progress func(Ref, string)) error {
	for {
		obj, err := c.Find(ctx, ref)
		if err != nil {
			if ctx.Err() != nil {
				return &StillThereError{Ref: ref}
			}
			return err
		}
		if obj == nil {
			return nil
		}
		message := whyStillThere(obj)
		if progress != nil {
			progress(ref, message)
		}
		if err := c.watchGone(ctx, ref, obj); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return &StillThereError{Ref: ref, Message: message, Finalizers: heldBy(obj)}
		}
	}
}

// watchGone waits until the object changes or is gone, for goneInterval at most.
func (c *Client) watchGone(ctx context.Context, ref Ref, obj *unstructured.Unstructured) error {
	r, err := c.resource(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, goneInterval)
	defer cancel()
	w, err := r.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", ref.Name).String(),
		ResourceVersion: obj.GetResourceVersion(),
	})
	if err != nil {
		pause(ctx, time.Second) // the next GET tells what is wrong
		return nil
	}
	defer w.Stop()
	select {
	case <-ctx.Done():
	case _, open := <-w.ResultChan():
		if !open {
			pause(ctx, time.Second)
		}
	}
	return nil
}

// pause sleeps for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// StillThereError says that an object was not gone in time.
type StillThereError struct {
	Ref        Ref
	Message    string   // what it waits for, where the cluster says so
	Finalizers []string // that hold it; for a namespace see Message
}

func (e *StillThereError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s is not gone yet", e.Ref)
	}
	return fmt.Sprintf("%s is not gone yet: %s", e.Ref, e.Message)
}

// Hint says what to do.
func (e *StillThereError) Hint() string {
	if len(e.Finalizers) == 0 {
		return "the cluster goes on deleting it; run the same command again to wait for it"
	}
	return fmt.Sprintf("the controller that sets the finalizer has to take it away; if there is none any more: kubectl %spatch %s %s --type=merge -p '{\"metadata\":{\"finalizers\":null}}'",
		namespaceFlag(e.Ref), strings.ToLower(e.Ref.Kind), e.Ref.Name)
}

func namespaceFlag(ref Ref) string {
	if ref.Namespace == "" {
		return ""
	}
	return "-n " + ref.Namespace + " "
}

// heldBy gives the finalizers that somebody has to take away; Kubernetes takes its own.
func heldBy(obj *unstructured.Unstructured) []string {
	return slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool {
		return f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents
	})
}

// WhyDeleting says what the deletion of an object waits for, where the cluster says so.
func WhyDeleting(obj *unstructured.Unstructured) string { return whyStillThere(obj) }

// whyStillThere reads what a deletion waits for: a namespace's conditions, or finalizers.
func whyStillThere(obj *unstructured.Unstructured) string {
	var reasons []string
	for _, kind := range []string{"NamespaceContentRemaining", "NamespaceFinalizersRemaining", "NamespaceDeletionContentFailure"} {
		if c := trueCondition(obj, kind); c != nil {
			message, _ := c["message"].(string)
			reasons = append(reasons, message)
		}
	}
	if len(reasons) > 0 {
		return strings.Join(reasons, "; ")
	}
	if f := obj.GetFinalizers(); len(f) > 0 && !slices.Equal(f, []string{metav1.FinalizerDeleteDependents}) {
		return fmt.Sprintf("waits for finalizers %v", f)
	}
	return ""
}

// contentPage is how many objects of a kind are read at once.
const contentPage = 50

// Remaining lists what a namespace still holds that nobody else will remove: objects without an owner,
// except those that Kubernetes puts into every namespace and what is being deleted already.
func (c *Client) Remaining(ctx context.Context, namespace string) ([]Ref, error) {
	client, err := metadata.NewForConfig(c.config)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", namespace, err)
	}
	resources, err := c.contentResources()
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", namespace, err)
	}
	found := make([][]Ref, len(resources))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, r := range resources {
		group.Go(func() error {
			var err error
			found[i], err = contentOf(ctx, client, r, namespace)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// contentOf reads page by page until it has found something, or all is read.
func contentOf(ctx context.Context, client metadata.Interface, r contentResource, namespace string) ([]Ref, error) {
	kind := r.gvr.GroupVersion().WithKind(r.kind)
	var found []Ref
	for opts := (metav1.ListOptions{Limit: contentPage}); ; {
		list, err := client.Resource(r.gvr).Namespace(namespace).List(ctx, opts)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			return nil, nil
		}
		if err != nil {
			return nil, failed(listOf(Ref{GroupVersionKind: kind, Namespace: namespace}), err)
		}
		for _, o := range list.Items {
			if isContent(&o, r.kind) {
				found = append(found, Ref{GroupVersionKind: kind, Namespace: namespace, Name: o.Name})
			}
		}
		if opts.Continue = list.Continue; opts.Continue == "" || len(found) > 0 {
			return found, nil
		}
	}
}

func isContent(o *metav1.PartialObjectMetadata, kind string) bool {
	switch {
	case len(o.OwnerReferences) > 0, o.DeletionTimestamp != nil:
		return false
	case kind == "ServiceAccount" && o.Name == "default", kind == "ConfigMap" && o.Name == "kube-root-ca.crt":
		return false
	}
	return true
}

type contentResource struct {
	gvr  schema.GroupVersionResource
	kind string
}

// contentResources are the kinds that can be somebody's property in a namespace. Events, Endpoints and
// the like are made by controllers and go with what they are about.
func (c *Client) contentResources() ([]contentResource, error) {
	lists, err := c.cached.ServerPreferredNamespacedResources()
	if err != nil { // a group that can't be asked may hold somebody's objects
		return nil, err
	}
	var resources []contentResource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") && !byController(r.Kind) {
				resources = append(resources, contentResource{gv.WithResource(r.Name), r.Kind})
			}
		}
	}
	return resources, nil
}

func byController(kind string) bool {
	switch kind {
	case "Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision", "PodMetrics":
		return true
	}
	return false
}
