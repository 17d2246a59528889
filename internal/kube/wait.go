package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
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
	watchCtx, stop := context.WithCancel(ctx)
	defer stop()
	w := &watcher{client: c, stores: map[groupKey]cache.Store{}, changed: make(chan struct{}, 1)}
	if err := w.start(watchCtx, refs); err != nil {
		return err
	}
	return w.loop(ctx, refs, report)
}

// groupKey is a kind in a namespace: one watch each.
type groupKey struct {
	kind      schema.GroupKind
	namespace string
}

// watcher keeps the watched objects of a wait.
type watcher struct {
	client  *Client
	stores  map[groupKey]cache.Store
	synced  []cache.InformerSynced
	changed chan struct{}
}

// start watches the kinds of refs and what their pods are explained by, in their namespaces.
func (w *watcher) start(ctx context.Context, refs []Ref) error {
	for _, ref := range refs {
		for _, kind := range append(supportingKinds(), ref.GroupVersionKind) {
			if err := w.watch(ctx, kind, ref.Namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

// supportingKinds are what explains a workload that is not ready.
func supportingKinds() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{PodKind, ReplicaSetKind, PVCKind}
}

func (w *watcher) watch(ctx context.Context, kind schema.GroupVersionKind, namespace string) error {
	key := groupKey{kind.GroupKind(), namespace}
	if _, ok := w.stores[key]; ok {
		return nil
	}
	mapping, err := w.client.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return fmt.Errorf("the cluster does not know the kind %s: %w", kind.Kind, err)
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(w.client.dynamic, mapping.Resource, namespace, 0, cache.Indexers{}, nil).Informer()
	err = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		w.client.log.DebugContext(ctx, "watch broke, it starts again", "kind", kind.Kind, "namespace", namespace, "error", err)
	})
	if err != nil {
		return fmt.Errorf("watch of %s: %w", kind.Kind, err)
	}
	if _, err := informer.AddEventHandler(w); err != nil {
		return fmt.Errorf("watch of %s: %w", kind.Kind, err)
	}
	w.stores[key] = informer.GetStore()
	w.synced = append(w.synced, informer.HasSynced)
	go informer.RunWithContext(ctx)
	return nil
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
		if text := fmt.Sprint(states); text != last && report != nil {
			last = text
			report(states)
		}
		pending := notReady(states)
		switch {
		case len(pending) == 0:
			return nil
		case judge.hopeless(states, time.Now()):
			return w.failed(ctx, pending, false)
		}
		select {
		case <-ctx.Done():
			return w.failed(context.WithoutCancel(ctx), pending, true)
		case <-w.changed:
			pause(ctx, evaluateEvery)
		case <-tick.C:
		}
	}
}

// failed adds the evidence that has to be asked for: a crashing container's last lines.
func (w *watcher) failed(ctx context.Context, pending []Readiness, timeout bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range pending {
		w.client.addEvidence(ctx, p.Problem)
	}
	return &NotReadyError{Objects: pending, Timeout: timeout}
}

func (w *watcher) evaluate(refs []Ref) []Readiness {
	states := make([]Readiness, 0, len(refs))
	for _, ref := range refs {
		states = append(states, assess(w, ref))
	}
	return states
}

// object implements view.
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

// objects implements view.
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
		out = append(out, Readiness{Ref: r, Message: "its state could not be read"})
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

// judge decides when waiting can't help any more. It remembers since when a problem is seen.
type judge struct{ since map[string]time.Time }

func newJudge() *judge { return &judge{since: map[string]time.Time{}} }

func (j *judge) see(states []Readiness, now time.Time) {
	seen := map[string]time.Time{}
	for _, s := range states {
		if s.Problem == nil {
			continue
		}
		key := s.Problem.key()
		seen[key] = now
		if first, ok := j.since[key]; ok {
			seen[key] = first
		}
	}
	j.since = seen
}

// hopeless reports whether one of the problems has outlasted the patience that it deserves.
func (j *judge) hopeless(states []Readiness, now time.Time) bool {
	for _, s := range states {
		if s.Ready || s.Problem == nil || !s.Problem.Final {
			continue
		}
		if now.Sub(j.since[s.Problem.key()]) >= s.Problem.Patience {
			return true
		}
	}
	return false
}

// snapshot is what a set of objects looked like at one moment.
type snapshot map[groupKey][]*unstructured.Unstructured

func (s snapshot) object(ref Ref) *unstructured.Unstructured {
	for _, o := range s[groupKey{ref.GroupKind(), ref.Namespace}] {
		if o.GetName() == ref.Name {
			return o
		}
	}
	return nil
}

func (s snapshot) objects(kind schema.GroupKind, namespace string) []*unstructured.Unstructured {
	return s[groupKey{kind, namespace}]
}

// Assess says of each of refs whether it is there and ready, and why not, in the order of refs.
func (c *Client) Assess(ctx context.Context, refs []Ref) ([]Readiness, error) {
	view, err := c.snapshot(ctx, refs)
	if err != nil {
		return nil, err
	}
	states := make([]Readiness, 0, len(refs))
	for _, ref := range refs {
		state := assess(view, ref)
		c.addEvidence(ctx, state.Problem)
		states = append(states, state)
	}
	return states, nil
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

// podLogLines is how many of a crashing container's last lines are shown.
const podLogLines = 5

// addEvidence fetches the last lines of a container that crashes or is not ready. Without them the problem is told all the same.
func (c *Client) addEvidence(ctx context.Context, p *Problem) {
	if p == nil || p.container == "" {
		return
	}
	for _, previous := range []bool{true, false} {
		lines, err := c.logs(ctx, p.Ref, p.container, previous)
		if err == nil && len(lines) > 0 {
			p.Evidence = lines
			return
		}
	}
}

func (c *Client) logs(ctx context.Context, pod Ref, container string, previous bool) ([]string, error) {
	tail := int64(podLogLines)
	raw, err := c.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, podLogOptions(container, tail, previous)).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("logs of %s: %w", pod, err)
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}
