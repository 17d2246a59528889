package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Labels that say an object is ours.
const (
	ManagedByLabel = "app.kubernetes.io/managed-by" // Kubernetes' recommended label
	ManagedBy      = "pwdeploy"
	InstanceLabel  = "pwdeploy/instance" // the app's namespace: which pwdeploy deployment made it
)

// parallelism bounds how many requests are under way at once in a group of objects.
const parallelism = 8

// Action is what happened to an object.
type Action string

// The actions.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	Absent     Action = "absent" // there was nothing to delete
)

// Change is an object and what happened to it.
type Change struct {
	Ref    Ref
	Action Action
}

// MarkOwned labels obj as made by this instance of pwdeploy.
func MarkOwned(obj *unstructured.Unstructured, instance string) {
	labels := maps.Clone(obj.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	labels[ManagedByLabel], labels[InstanceLabel] = ManagedBy, instance
	obj.SetLabels(labels)
}

// Owned reports whether obj was made by this instance of pwdeploy.
func Owned(obj metav1.Object, instance string) bool {
	labels := obj.GetLabels()
	return labels[ManagedByLabel] == ManagedBy && labels[InstanceLabel] == instance
}

// resource gives the client of the object's kind, in its namespace where it has one.
func (c *Client) resource(ref Ref) (dynamic.ResourceInterface, error) {
	mapping, err := c.mapper.RESTMapping(ref.GroupKind(), ref.Version)
	if err != nil {
		return nil, fmt.Errorf("%s: the cluster does not know this kind: %w", ref, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource).Namespace(ref.Namespace), nil
	}
	return c.dynamic.Resource(mapping.Resource), nil
}

// Get reads one object. apierrors.IsNotFound tells that there is none.
func (c *Client) Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	r, err := c.resource(ref)
	if err != nil {
		return nil, err
	}
	obj, err := r.Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, failed(ref, err)
	}
	return obj, nil
}

// Find reads one object, or returns nil if there is none.
func (c *Client) Find(ctx context.Context, ref Ref) (*unstructured.Unstructured, error) {
	obj, err := c.Get(ctx, ref)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return obj, err
}

// List reads the objects of ref's kind in ref's namespace (all namespaces if empty) that match the label
// selector.
func (c *Client) List(ctx context.Context, ref Ref, selector string) ([]unstructured.Unstructured, error) {
	r, err := c.resource(ref)
	if err != nil {
		return nil, err
	}
	list, err := r.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, failed(listOf(ref), err)
	}
	return list.Items, nil
}

// listOf words a list of a kind.
type listOf Ref

// String implements fmt.Stringer.
func (l listOf) String() string {
	if l.Namespace == "" {
		return "list of " + l.Kind
	}
	return fmt.Sprintf("list of %s in %s", l.Kind, l.Namespace)
}

// Create makes obj, or returns what is there already under its name.
func (c *Client) Create(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, Action, error) {
	ref := RefOf(obj)
	r, err := c.resource(ref)
	if err != nil {
		return nil, "", err
	}
	made, err := r.Create(ctx, obj, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		made, err = r.Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, "", failed(ref, err)
		}
		return made, Unchanged, nil
	}
	if err != nil {
		return nil, "", failed(ref, err)
	}
	return made, Created, nil
}

// Apply sends obj by server-side apply as pwdeploy, without force, and says what that changed. An object
// that somebody else made is a *ForeignError, a field that somebody else set a *ConflictError; neither
// is changed.
func (c *Client) Apply(ctx context.Context, obj *unstructured.Unstructured, instance string) (Change, error) {
	ref := RefOf(obj)
	before, err := c.Find(ctx, ref)
	if err != nil {
		return Change{}, err
	}
	if before != nil && !Owned(before, instance) {
		return Change{}, foreign(before)
	}
	after, err := c.patch(ctx, obj, before, patchMode{})
	if err != nil {
		return Change{}, err
	}
	return Change{Ref: ref, Action: difference(before, after)}, nil
}

func foreign(obj *unstructured.Unstructured) *ForeignError {
	return &ForeignError{Ref: RefOf(obj), ManagedBy: obj.GetLabels()[ManagedByLabel]}
}

// patchMode says how an object is applied.
type patchMode struct {
	dryRun bool
	force  bool // take fields over, if the object is still just as it was seen
}

// patch applies obj by server-side apply. live is the object as it was seen, or nil: one that was made anew
// since is not changed, and by force none that was changed at all.
func (c *Client) patch(ctx context.Context, obj, live *unstructured.Unstructured, mode patchMode) (*unstructured.Unstructured, error) {
	ref := RefOf(obj)
	r, err := c.resource(ref)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(bound(obj, live, mode))
	if err != nil {
		return nil, failed(ref, err)
	}
	opts := metav1.PatchOptions{FieldManager: FieldManager}
	if mode.force {
		opts.Force = &mode.force
	}
	if mode.dryRun {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	after, err := r.Patch(ctx, ref.Name, types.ApplyPatchType, body, opts)
	if err == nil {
		return after, nil
	}
	if conflict := conflictOf(obj, live, err); conflict != nil {
		return nil, conflict
	}
	return nil, failed(ref, err)
}

// bound ties obj to the object that was seen: the API server answers with a conflict if it is another one.
func bound(obj, live *unstructured.Unstructured, mode patchMode) *unstructured.Unstructured {
	if live == nil {
		return obj
	}
	obj = obj.DeepCopy()
	obj.SetUID(live.GetUID())
	if mode.force && !mode.dryRun {
		obj.SetResourceVersion(live.GetResourceVersion())
	}
	return obj
}

// difference says what an apply did. Controllers write status while we apply, so that resource versions
// alone would call an untouched Deployment changed.
func difference(before, after *unstructured.Unstructured) Action {
	if before == nil {
		return Created
	}
	if before.GetResourceVersion() == after.GetResourceVersion() ||
		equality.Semantic.DeepEqual(intent(before), intent(after)) {
		return Unchanged
	}
	return Configured
}

// intent is the part of an object that its owners write.
func intent(obj *unstructured.Unstructured) map[string]any {
	o := obj.DeepCopy()
	unstructured.RemoveNestedField(o.Object, "status")
	for _, f := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
		unstructured.RemoveNestedField(o.Object, "metadata", f)
	}
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "deployment.kubernetes.io/revision")
	return o.Object
}

// ApplyAll applies the objects side by side and returns the changes in the order of objs. Every object is
// tried; the first error is returned.
func (c *Client) ApplyAll(ctx context.Context, objs []*unstructured.Unstructured, instance string) ([]Change, error) {
	changes := make([]Change, len(objs))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, obj := range objs {
		group.Go(func() error {
			var err error
			changes[i], err = c.Apply(ctx, obj, instance)
			return err
		})
	}
	return changes, group.Wait()
}
