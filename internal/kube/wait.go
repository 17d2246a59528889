package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// evaluateEvery bounds how often what the watches bring is looked at: a rollout makes bursts of events.
const evaluateEvery = 50 * time.Millisecond

// heartbeat is how often a wait looks even if no watch brings anything: patience with a problem runs out
// by the clock.
const heartbeat = time.Second

// NotReadyError says that objects did not become ready, and why as far as the cluster knows.
type NotReadyError struct {
	Objects []Readiness // those that are not ready
	Timeout bool        // false: waiting longer can't help
}

func (e *NotReadyError) Error() string {
	parts := make([]string, 0, len(e.Objects))
	for _, o := range e.Objects {
		parts = append(parts, o.String())
	}
	return e.Short() + ": " + strings.Join(parts, "; ")
}

// Short is the error without the objects.
func (e *NotReadyError) Short() string {
	if e.Timeout {
		return "not ready in time"
	}
	return "can't become ready"
}

// Hint gives the advice of the first problem found.
func (e *NotReadyError) Hint() string {
	for _, o := range e.Objects {
		if o.Problem != nil && o.Problem.Hint != "" {
			return o.Problem.Hint
		}
	}
	if len(e.Objects) > 0 {
		o := e.Objects[0].Ref
		return fmt.Sprintf("kubectl describe %s -n %s %s tells more", strings.ToLower(o.Kind), o.Namespace, o.Name)
	}
	return ""
}

// Waitable tells the kinds whose readiness is worth waiting for. Of the others it only matters that they
// are there.
func Waitable(kind schema.GroupKind) bool {
	switch kind.Group {
	case "apps":
		return kind.Kind != "ReplicaSet" && kind.Kind != "ControllerRevision"
	case "batch":
		return kind.Kind == "Job"
	case "":
		return kind.Kind == "PersistentVolumeClaim"
	}
	return false
}

// Wait returns when every waitable object of refs is ready. It watches them and their pods and calls
// report, from one goroutine, whenever what is known of them changed. If waiting can't help, or ctx ends,
// it returns a *NotReadyError that says why.
func (c *Client) Wait(ctx context.Context, refs []Ref, report func([]Readiness)) error {
	refs = slices.DeleteFunc(slices.Clone(refs), func(r Ref) bool { return !Waitable(r.GroupKind()) })
	if len(refs) == 0 {
		return nil
	}
	watchCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w := &watcher{client: c, answers: newAnswers(), stores: map[groupKey]cache.Store{}, changed: make(chan struct{}, 1), refused: stop}
	if err := w.start(watchCtx, refs); err != nil {
		return err
	}
	err := w.loop(watchCtx, refs, report)
	if watchCtx.Err() != nil && ctx.Err() == nil { // a watch that is not permitted: no wait would ever end
		return context.Cause(watchCtx)
	}
	return err
}

// groupKey is a kind in a namespace: one watch each.
type groupKey struct {
	kind      schema.GroupKind
	namespace string
}

// watcher keeps the watched objects of a wait.
type watcher struct {
	client  *Client
	answers *answers
	asking  sync.WaitGroup // what is being read for the answers
	stores  map[groupKey]cache.Store
	synced  []cache.InformerSynced
	changed chan struct{}
	refused context.CancelCauseFunc // ends the wait: the user may not watch what has to be watched
}

// start watches the kinds of refs and what their pods are explained by, in their namespaces. Events only
// explain: nobody waits for them, and they may be forbidden.
func (w *watcher) start(ctx context.Context, refs []Ref) error {
	for _, ref := range refs {
		for _, kind := range append(supportingKinds(), ref.GroupVersionKind) {
			if err := w.watchRequired(ctx, kind, ref.Namespace); err != nil {
				return err
			}
		}
		if err := w.watchEvents(ctx, ref.Namespace); err != nil {
			return err
		}
	}
	return nil
}

// watchRequired watches what has to be watched: a user who may not do so ends the wait, which otherwise
// would never end.
func (w *watcher) watchRequired(ctx context.Context, kind schema.GroupVersionKind, namespace string) error {
	informer, err := w.watch(ctx, kind, namespace, w.refused)
	if informer != nil {
		w.synced = append(w.synced, informer.HasSynced)
	}
	return err
}

func (w *watcher) watchEvents(ctx context.Context, namespace string) error {
	ctx, stop := context.WithCancelCause(ctx) // it ends with the wait, or when it is refused
	_, err := w.watch(ctx, EventKind, namespace, stop)
	return err
}

// WatchedKinds are what Wait lists and watches in the namespaces of what it waits for.
func WatchedKinds() []schema.GroupVersionKind {
	return append(supportingKinds(), DeploymentKind, StatefulSetKind)
}

// supportingKinds are what explains a workload that is not ready.
func supportingKinds() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{PodKind, ReplicaSetKind, PVCKind}
}

// watch begins a watch, unless there is one already: then it returns nil.
func (w *watcher) watch(ctx context.Context, kind schema.GroupVersionKind, namespace string, refused context.CancelCauseFunc) (cache.SharedIndexInformer, error) {
	key := groupKey{kind.GroupKind(), namespace}
	if _, ok := w.stores[key]; ok {
		return nil, nil
	}
	mapping, err := w.client.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("the cluster does not know the kind %s: %w", kind.Kind, err)
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(w.client.dynamic, mapping.Resource, namespace, 0, cache.Indexers{}, nil).Informer()
	err = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		w.client.log.DebugContext(ctx, "watch broke, it starts again", "kind", kind.Kind, "namespace", namespace, "error", err)
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			refused(failed(listOf(Ref{GroupVersionKind: kind, Namespace: namespace}), err))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("watch of %s: %w", kind.Kind, err)
	}
	if _, err := informer.AddEventHandler(w); err != nil {
		return nil, fmt.Errorf("watch of %s: %w", kind.Kind, err)
	}
	w.stores[key] = informer.GetStore()
	go informer.RunWithContext(ctx)
	return informer, nil
}

// OnAdd implements cache.ResourceEventHandler. As the others, it only says that there is news.
func (w *watcher) OnAdd(any, bool) { w.notify() }

// OnUpdate implements cache.ResourceEventHandler.
func (w *watcher) OnUpdate(any, any) { w.notify() }

// OnDelete implements cache.ResourceEventHandler.
func (w *watcher) OnDelete(any) { w.notify() }

func (w *watcher) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// loop evaluates what is known until all is ready, nothing can help, or ctx ends.
func (w *watcher) loop(ctx context.Context, refs []Ref, report func([]Readiness)) error {
	if !cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return &NotReadyError{Objects: unknown(refs), Timeout: true}
	}
	judge := newJudge()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	var last string
	for {
		states := w.evaluate(refs)
		judge.see(states, time.Now())
		w.askWhatIsDue(ctx)
		if text := told(states); text != last && report != nil && !w.answers.expected(time.Now()) && !judge.awaitsLog(states, time.Now()) {
			last = text
			report(states)
		}
		switch {
		case len(notReady(states)) == 0:
			return nil
		case judge.hopeless(states, time.Now()):
			return w.withEvidence(ctx, states, false)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) { // nobody waits for the evidence
				return &NotReadyError{Objects: notReady(states), Timeout: true}
			}
			return w.withEvidence(context.WithoutCancel(ctx), states, true)
		case <-w.changed:
			pause(ctx, evaluateEvery)
		case <-tick.C:
		}
	}
}

// told is what a report tells: it is made again when this changes.
func told(states []Readiness) string {
	var b strings.Builder
	for _, s := range states {
		fmt.Fprintln(&b, s)
		if s.Problem != nil {
			fmt.Fprintln(&b, s.Problem.Usual, s.Problem.Hint, s.Problem.Evidence)
		}
	}
	return b.String()
}

// withEvidence is the error that ends a wait: what was not ready at the end, with the answers that are still due.
func (w *watcher) withEvidence(ctx context.Context, states []Readiness, timeout bool) error {
	w.asking.Wait()
	w.client.answerAll(ctx, w.answers, w.answers.due(time.Now()))
	e := &NotReadyError{Timeout: timeout}
	for _, s := range notReady(states) {
		now := assess(w.view(), s.Ref)
		if s.Problem == nil || now.Problem != nil && now.problemKey() == s.problemKey() {
			s = now
		}
		e.Objects = append(e.Objects, s)
	}
	return e
}

// askWhatIsDue lets what the last look asked for be read, and looks again when it is there.
func (w *watcher) askWhatIsDue(ctx context.Context) {
	due := w.answers.due(time.Now())
	if len(due) == 0 {
		return
	}
	w.asking.Go(func() {
		w.client.answerAll(context.WithoutCancel(ctx), w.answers, due)
		w.notify()
	})
}

func (w *watcher) evaluate(refs []Ref) []Readiness {
	v := w.view()
	states := make([]Readiness, 0, len(refs))
	for _, ref := range refs {
		states = append(states, assess(v, ref))
	}
	return states
}

func (w *watcher) view() *view {
	return &view{source: w, answers: w.answers, now: time.Now(), diagnose: w.client.options.Diagnose}
}

// object implements source.
func (w *watcher) object(ref Ref) *unstructured.Unstructured {
	store, ok := w.stores[groupKey{ref.GroupKind(), ref.Namespace}]
	if !ok {
		return nil
	}
	obj, ok, err := store.GetByKey(cache.NewObjectName(ref.Namespace, ref.Name).String())
	if err != nil || !ok {
		return nil
	}
	u, _ := obj.(*unstructured.Unstructured)
	return u
}

// objects implements source.
func (w *watcher) objects(kind schema.GroupKind, namespace string) []*unstructured.Unstructured {
	store, ok := w.stores[groupKey{kind, namespace}]
	if !ok {
		return nil
	}
	var out []*unstructured.Unstructured
	for _, o := range store.List() {
		if u, ok := o.(*unstructured.Unstructured); ok {
			out = append(out, u)
		}
	}
	return out
}

func unknown(refs []Ref) []Readiness {
	out := make([]Readiness, 0, len(refs))
	for _, r := range refs {
		out = append(out, Readiness{Ref: r, Unread: true, Message: "its state could not be read"})
	}
	return out
}

func notReady(states []Readiness) []Readiness {
	var out []Readiness
	for _, s := range states {
		if !s.Ready {
			out = append(out, s)
		}
	}
	return out
}
