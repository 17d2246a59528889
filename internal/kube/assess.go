package kube

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// snapshot is what a set of objects looked like at one moment.
type snapshot map[groupKey][]*unstructured.Unstructured

// object implements source.
func (s snapshot) object(ref Ref) *unstructured.Unstructured {
	for _, o := range s[groupKey{ref.GroupKind(), ref.Namespace}] {
		if o.GetName() == ref.Name {
			return o
		}
	}
	return nil
}

// objects implements source.
func (s snapshot) objects(kind schema.GroupKind, namespace string) []*unstructured.Unstructured {
	return s[groupKey{kind, namespace}]
}

// assessRounds bounds how often a snapshot is explained: what one look asks for may lead to another question.
const assessRounds = 3

// Assess says of each of refs whether it is there and ready, and why not, in the order of refs.
func (c *Client) Assess(ctx context.Context, refs []Ref) ([]Readiness, error) {
	found, err := c.snapshot(ctx, refs)
	if err != nil {
		return nil, err
	}
	v := c.viewOf(found)
	for round := 1; ; round++ {
		states := make([]Readiness, 0, len(refs))
		for _, ref := range refs {
			state := assess(v, ref)
			state.Live = found.object(ref)
			states = append(states, state)
		}
		due := v.answers.due(v.now)
		if len(due) == 0 || round == assessRounds {
			return states, nil
		}
		c.answerAll(ctx, v.answers, due)
	}
}

func (c *Client) viewOf(s snapshot) *view {
	return &view{source: s, answers: newAnswers(), askEvents: true, now: time.Now(), diagnose: c.options.Diagnose}
}

// snapshot reads the kinds of refs side by side, one list a kind and namespace, and what explains
// workloads. Cluster scoped kinds are read object by object.
func (c *Client) snapshot(ctx context.Context, refs []Ref) (snapshot, error) {
	reads := snapshotReads(refs)
	found := make([][]*unstructured.Unstructured, len(reads))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, ref := range reads {
		group.Go(func() (err error) {
			found[i], err = c.read(ctx, ref)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	view := snapshot{}
	for i, ref := range reads {
		key := groupKey{ref.GroupKind(), ref.Namespace}
		view[key] = append(view[key], found[i]...)
	}
	return view, nil
}

// snapshotReads are the requests that a snapshot takes: without a name, a list.
func snapshotReads(refs []Ref) []Ref {
	var reads []Ref
	add := func(r Ref) {
		if !slices.ContainsFunc(reads, r.Same) {
			reads = append(reads, r)
		}
	}
	for _, ref := range refs {
		if ref.Namespace == "" {
			add(ref)
			continue
		}
		kinds := []schema.GroupVersionKind{ref.GroupVersionKind}
		if Waitable(ref.GroupKind()) {
			kinds = append(kinds, supportingKinds()...)
		}
		for _, kind := range kinds {
			add(Ref{GroupVersionKind: kind, Namespace: ref.Namespace})
		}
	}
	return reads
}

func (c *Client) read(ctx context.Context, ref Ref) ([]*unstructured.Unstructured, error) {
	if ref.Name != "" {
		obj, err := c.Find(ctx, ref)
		if obj == nil {
			return nil, err
		}
		return []*unstructured.Unstructured{obj}, err
	}
	items, err := c.List(ctx, ref, "")
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	out := make([]*unstructured.Unstructured, 0, len(items))
	for i := range items {
		out = append(out, &items[i])
	}
	return out, err
}
