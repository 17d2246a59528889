package kube

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Terms are the conditions on which objects are tried and applied.
type Terms struct {
	Instance string     // whose the objects are
	Keep     [][]string // fields that are left as they are once an object is there: {"spec", "replicas"}
}

// Trial is what would come of applying an object: the server was asked by a dry run, and nothing was changed.
// At most one of Foreign and the others says what is in the way.
type Trial struct {
	Object *unstructured.Unstructured // as it will be sent
	Live   *unstructured.Unstructured // as it is; nil if it is not there
	Action Action                     // Created, Configured, or Unchanged where applying would change nothing

	Foreign   *ForeignError  // it was made by somebody else
	Conflicts []Conflict     // fields of it were set by somebody else
	Immutable []FieldProblem // fields of it can't be changed in place; the object made anew would be taken
	Invalid   []FieldProblem // the server takes it neither way

	TakeOver bool // to be set by the caller: the Conflicts are forced, and nothing else is
	Recreate bool // to be set by the caller: what is Immutable is deleted and made anew

	terms  Terms
	wanted *unstructured.Unstructured // as it was given
}

// FieldProblem is what the API server says of a field that it does not take.
type FieldProblem struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Try asks what applying obj would do. It costs a read, and a dry run where the object is there. What can't be
// asked (a webhook is away) is left to Carry to meet.
func (c *Client) Try(ctx context.Context, obj *unstructured.Unstructured, terms Terms) (*Trial, error) {
	live, err := c.Find(ctx, RefOf(obj))
	if err != nil {
		return nil, err
	}
	t := &Trial{Object: obj, Live: live, Action: Configured, terms: terms, wanted: obj}
	switch {
	case live == nil:
		t.Action = Created
		return t, nil
	case !Owned(live, terms.Instance):
		t.Foreign = foreign(live)
		return t, nil
	}
	t.Object = keeping(obj, live, terms.Keep)
	return t, c.rehearse(ctx, t)
}

// TryAll tries the objects side by side and returns the trials in the order of objs.
func (c *Client) TryAll(ctx context.Context, objs []*unstructured.Unstructured, terms Terms) ([]*Trial, error) {
	trials := make([]*Trial, len(objs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism)
	for i, obj := range objs {
		group.Go(func() (err error) {
			trials[i], err = c.Try(ctx, obj, terms)
			return err
		})
	}
	return trials, group.Wait()
}

// keeping is obj with the kept fields as they are: the same value never conflicts, whoever set it. Leaving a
// field out that pwdeploy has set before would reset it to the server's default.
func keeping(obj, live *unstructured.Unstructured, keep [][]string) *unstructured.Unstructured {
	for _, field := range keep {
		value, found, err := unstructured.NestedFieldCopy(live.Object, field...)
		if err != nil || !found {
			continue
		}
		if _, wanted, err := unstructured.NestedFieldNoCopy(obj.Object, field...); err != nil || !wanted {
			continue
		}
		obj = obj.DeepCopy()
		_ = unstructured.SetNestedField(obj.Object, value, field...) // the field is there: the way to it is
	}
	return obj
}

// rehearse has the server try the object. Where a conflict stops it, it is asked again by force: what else is in
// the way is to be told at once.
func (c *Client) rehearse(ctx context.Context, t *Trial) error {
	after, err := c.patch(ctx, t.Object, t.Live, patchMode{dryRun: true})
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		t.Conflicts = conflict.Conflicts
		after, err = c.patch(ctx, t.Object, t.Live, patchMode{dryRun: true, force: true})
	}
	switch {
	case err == nil && len(t.Conflicts) == 0 && changesNothing(t.Live, after):
		t.Action = Unchanged
	case apierrors.IsInvalid(err):
		return c.askAnew(ctx, t, err)
	case err != nil && ctx.Err() != nil:
		return err
	}
	return nil
}

// changesNothing compares what a dry run gave with what is there, who owns the fields included.
func changesNothing(before, after *unstructured.Unstructured) bool {
	return equality.Semantic.DeepEqual(intent(before), intent(after)) && appliedFields(before).Equals(appliedFields(after))
}

// appliedFields are those that pwdeploy owns by server-side apply.
func appliedFields(obj *unstructured.Unstructured) *fieldpath.Set {
	for _, o := range ownersOf(obj) {
		if o.applied() {
			return o.fields
		}
	}
	return &fieldpath.Set{}
}

// askAnew finds out whether an object that the server does not take as a change would be taken if it were made
// anew: under another name, by a dry run.
func (c *Client) askAnew(ctx context.Context, t *Trial, refusal error) error {
	anew, err := c.takenAnew(ctx, t.Object)
	if err != nil && ctx.Err() != nil {
		return err
	}
	switch {
	case anew:
		t.Immutable = problemsOf(refusal)
	case apierrors.IsInvalid(err):
		t.Invalid = problemsOf(err)
	default:
		t.Invalid = problemsOf(refusal)
	}
	return nil
}

// takenAnew reports whether the server would make the object if it were not there yet; the error says why not.
func (c *Client) takenAnew(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	r, err := c.resource(RefOf(obj))
	if err != nil {
		return false, err
	}
	probe := obj.DeepCopy()
	probe.SetName(probeName(obj.GetName()))
	_, err = r.Create(ctx, probe, metav1.CreateOptions{FieldManager: FieldManager, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false, failed(RefOf(obj), err)
	}
	return true, nil
}

// probeName is another name as good as the object's own: at most 63 characters, as a label.
func probeName(name string) string {
	const suffix = "-pwdeploy"
	return name[:min(len(name), 63-len(suffix))] + suffix
}

// problemsOf reads the fields out of the server's refusal.
func problemsOf(err error) []FieldProblem {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	details := status.Status().Details
	if details == nil || len(details.Causes) == 0 {
		return []FieldProblem{{Message: status.Status().Message}}
	}
	out := make([]FieldProblem, 0, len(details.Causes))
	for _, c := range details.Causes {
		out = append(out, FieldProblem{Field: c.Field, Message: c.Message})
	}
	return out
}

// DryRun asks the API server, its admission webhooks included, whether it would take what Carry sends. Nothing
// is stored.
func (c *Client) DryRun(ctx context.Context, t *Trial) error {
	_, err := c.patch(ctx, t.Object, t.Live, patchMode{dryRun: true, force: t.TakeOver})
	return err
}

// carryAttempts bounds how often an object that changes all the time is read anew.
const carryAttempts = 5

// Carry applies what was tried. Where the object is no longer as it was then, it is tried again: what somebody
// else has made meanwhile is a *ForeignError, and fields that they have set, other than those that are to be
// taken over, are a *ConflictError.
func (c *Client) Carry(ctx context.Context, t *Trial) (Change, error) {
	ref := RefOf(t.Object)
	if t.Recreate {
		if err := c.Discard(ctx, t.Live); err != nil {
			return Change{}, err
		}
	}
	if t.Live == nil || t.Recreate { // it may have been made since
		again, err := c.renew(ctx, t)
		if err != nil {
			return Change{}, err
		}
		t = again
	}
	for attempt := 1; ; attempt++ {
		if t.Action == Unchanged {
			return Change{Ref: ref, Action: Unchanged}, nil
		}
		after, err := c.patch(ctx, t.Object, t.Live, patchMode{force: t.TakeOver})
		if err == nil {
			return Change{Ref: ref, Action: difference(t.Live, after)}, nil
		}
		var conflict *ConflictError
		if attempt == carryAttempts || !apierrors.IsConflict(err) && !errors.As(err, &conflict) {
			return Change{}, err
		}
		if t, err = c.renew(ctx, t); err != nil {
			return Change{}, err
		}
	}
}

// renew tries again, and refuses what was not known the first time.
func (c *Client) renew(ctx context.Context, t *Trial) (*Trial, error) {
	again, err := c.Try(ctx, t.wanted, t.terms)
	if err != nil {
		return nil, err
	}
	if again.Foreign != nil {
		return nil, again.Foreign
	}
	for _, conflict := range again.Conflicts {
		if !t.TakeOver || !slices.ContainsFunc(t.Conflicts, conflict.Same) {
			return nil, &ConflictError{Conflicts: again.Conflicts}
		}
	}
	again.TakeOver = len(again.Conflicts) > 0
	return again, nil
}

// CarryAll carries the trials out side by side and returns the changes in their order. Every one is tried; the
// first error is returned.
func (c *Client) CarryAll(ctx context.Context, trials []*Trial) ([]Change, error) {
	changes := make([]Change, len(trials))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, t := range trials {
		group.Go(func() (err error) {
			changes[i], err = c.Carry(ctx, t)
			return err
		})
	}
	return changes, group.Wait()
}
