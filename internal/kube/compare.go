package kube

import (
	"context"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// CompareAll says what ApplyAll would change, by dry runs: nothing is stored. The errors are those that
// ApplyAll would meet.
func (c *Client) CompareAll(ctx context.Context, objs []*unstructured.Unstructured, instance string) ([]Change, error) {
	changes := make([]Change, len(objs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism)
	for i, obj := range objs {
		group.Go(func() error {
			var err error
			changes[i], err = c.compare(ctx, obj, instance)
			return err
		})
	}
	return changes, group.Wait()
}

func (c *Client) compare(ctx context.Context, obj *unstructured.Unstructured, instance string) (Change, error) {
	ref := RefOf(obj)
	before, err := c.Find(ctx, ref)
	switch {
	case err != nil:
		return Change{}, err
	case before == nil: // its namespace may be missing too, where a dry run fails
		return Change{Ref: ref, Action: Created}, nil
	case !Owned(before, instance):
		return Change{}, &ForeignError{Ref: ref, ManagedBy: before.GetLabels()[ManagedByLabel]}
	}
	after, err := c.patch(ctx, obj, true)
	if err != nil {
		return Change{}, err
	}
	after.SetResourceVersion("") // a dry run gives the one that is stored: it says nothing
	return Change{Ref: ref, Action: difference(before, after)}, nil
}
