package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// Down is what down will take away. Making it changes nothing.
type Down struct {
	Target     Target   `json:"target"`
	Objects    []string `json:"objects"`    // of the app
	Releases   []string `json:"releases"`   // of Helm
	Namespaces []string `json:"namespaces"` // that pwdeploy made; one with somebody else's objects in it will stay
	Data       []string `json:"data"`       // Redis' volumes and password
	DeleteData bool     `json:"deleteData"`

	options  DownOptions
	objects  []kube.Ref
	redis    *helm.Release
	ingress  *helm.Release
	data     []kube.Ref
	recorded bool
	app      namespacePlan
}

// Empty reports whether there is nothing to take away.
func (d *Down) Empty() bool {
	return len(d.Objects) == 0 && len(d.Releases) == 0 && !d.recorded && (len(d.Data) == 0 || !d.DeleteData) &&
		(len(d.Namespaces) == 0 || d.onlyData())
}

// onlyData reports whether all that is left is the namespace that holds kept data.
func (d *Down) onlyData() bool {
	return !d.DeleteData && len(d.Data) > 0 && len(d.Namespaces) == 1 && d.Namespaces[0] == d.data[0].Namespace
}

// DownResult is what down did.
type DownResult struct {
	Target  Target   `json:"target"`
	Removed []string `json:"removed"`
	Kept    []Kept   `json:"kept"`
	Seconds float64  `json:"seconds"`
}

// Kept is something that is still there, and why.
type Kept struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// DownOptions are what one down may do.
type DownOptions struct {
	DeleteData  bool          // Redis' volumes and password too
	Yes         bool          // nobody was shown the plan: what another run has made since is taken away as well
	LockTimeout time.Duration // as UpOptions has it
}

// PlanDown finds out what this deployment consists of: by its record, and by its labels where a record
// was lost.
func (e *Engine) PlanDown(ctx context.Context, o DownOptions) (*Down, error) {
	d := &Down{Target: e.target, DeleteData: o.DeleteData, options: o, Objects: []string{}, Releases: []string{}, Namespaces: []string{}, Data: []string{}}
	ctx, cancel := e.limited(ctx)
	defer cancel()
	e.follow()
	d.recorded = e.inventory != nil
	var group errgroup.Group
	group.Go(func() (err error) {
		d.objects, err = e.ownedObjects(ctx)
		return err
	})
	group.Go(func() (err error) {
		d.redis, err = e.ownRelease(ctx, e.cfg.Redis.Namespace, redisRelease)
		return err
	})
	group.Go(func() (err error) {
		d.ingress, err = e.ownRelease(ctx, e.cfg.Ingress.Namespace, ingressRelease)
		return err
	})
	group.Go(func() error { return e.findNamespaces(ctx, d) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := e.planData(ctx, d); err != nil {
		return nil, err
	}
	for _, r := range []*helm.Release{d.redis, d.ingress} {
		if r != nil {
			d.Releases = append(d.Releases, r.Namespace+"/"+r.Name)
		}
	}
	d.Objects = names(d.objects)
	return d, nil
}

// findNamespaces finds those that this deployment made, the app's first.
func (e *Engine) findNamespaces(ctx context.Context, d *Down) error {
	d.app = namespacePlan{object: e.namespaceObject(e.cfg.Namespace), ours: true}
	for _, name := range []string{e.cfg.Namespace, e.cfg.Redis.Namespace, e.cfg.Ingress.Namespace} {
		found, err := e.kube.Find(ctx, kube.RefOf(e.namespaceObject(name)))
		if err != nil {
			return err
		}
		ours := found != nil && kube.Owned(found, e.instance())
		if ours {
			d.Namespaces = append(d.Namespaces, name)
		}
		if name == e.cfg.Namespace && found != nil {
			d.app.exists, d.app.ours = true, ours
		}
	}
	return nil
}

func names(refs []kube.Ref) []string {
	out := make([]string, 0, len(refs))
	for _, r := range refs {
		out = append(out, r.String())
	}
	return out
}

// ownedObjects are the app's objects that are there and ours.
func (e *Engine) ownedObjects(ctx context.Context) ([]kube.Ref, error) {
	candidates, err := e.defaultRefs()
	if err != nil {
		return nil, err
	}
	if e.inventory != nil {
		for _, ref := range e.inventory.Refs() {
			if !slices.ContainsFunc(candidates, ref.Same) {
				candidates = append(candidates, ref)
			}
		}
	}
	owned := make([]bool, len(candidates))
	var group errgroup.Group
	group.SetLimit(8)
	for i, ref := range candidates {
		group.Go(func() error {
			obj, err := e.kube.Find(ctx, ref)
			owned[i] = obj != nil && kube.Owned(obj, e.instance())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []kube.Ref
	for i, ref := range candidates {
		if owned[i] {
			found = append(found, ref)
		}
	}
	return found, nil
}

// defaultRefs are the objects that the manifests make today: what a lost record most likely held.
func (e *Engine) defaultRefs() ([]kube.Ref, error) {
	p := &plan{controller: controller{class: e.cfg.Ingress.ClassName, namespace: e.cfg.Ingress.Namespace}}
	if err := e.planApp(p); err != nil {
		return nil, err
	}
	return append(kube.RefsOf(p.app.all()), kube.RefOf(e.appPassword(nil))), nil
}

// ownRelease gives the release if this deployment installed it.
func (e *Engine) ownRelease(ctx context.Context, namespace, name string) (*helm.Release, error) {
	release, err := e.helm.Get(ctx, namespace, name)
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil || release.Instance != e.instance() {
		return nil, err
	}
	return release, nil
}

func (e *Engine) planData(ctx context.Context, d *Down) error {
	secret, err := e.kube.Find(ctx, e.passwordRef())
	if err != nil {
		return err
	}
	own := secret != nil && kube.Owned(secret, e.instance())
	// Without the Secret, too, data is ours that our release or our namespace holds.
	if own || d.redis != nil || slices.Contains(d.Namespaces, e.cfg.Redis.Namespace) {
		claims, err := e.redisClaims(ctx)
		if err != nil {
			return err
		}
		d.data = append(d.data, claims...)
	}
	if own { // last: without it, nothing says whose the claims are
		d.data = append(d.data, e.passwordRef())
	}
	d.Data = names(d.data)
	return nil
}

// Down takes the deployment away and waits until it is gone: first the route, then what serves, then the
// record, so that a run that is cut off can be repeated. An error is an *UnfinishedError.
func (e *Engine) Down(ctx context.Context, d *Down) (*DownResult, error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	result, err := e.down(ctx, d)
	if err != nil {
		return nil, e.unfinished(ctx, "down", err)
	}
	return result, nil
}

func (e *Engine) down(ctx context.Context, d *Down) (*DownResult, error) {
	begin := time.Now()
	ctx, lock, err := e.lockDown(ctx, d)
	if err != nil {
		return nil, err
	}
	defer lock.release(ctx)
	out, err := e.takeDown(ctx, d, lock)
	if err != nil {
		return nil, lostLock(ctx, err)
	}
	out.Seconds = time.Since(begin).Seconds()
	return out, nil
}

// lockDown takes the lock. Where the app's namespace is on its way out there is none: no up can be at work then,
// and downs don't get into each other's way.
func (e *Engine) lockDown(ctx context.Context, d *Down) (context.Context, *held, error) {
	locked, lock, err := e.lock(ctx, "down", d.options.LockTimeout, d.app)
	if namespaceGoing(err) {
		return ctx, nil, nil
	}
	return locked, lock, err
}

// DeploymentChangedError says that another run changed the deployment since down was planned, so that there is more
// to take away than was shown. Nothing was deleted.
type DeploymentChangedError struct{ More []string }

func (e *DeploymentChangedError) Error() string {
	return "another run changed the deployment meanwhile; there is more to take away now: " + shorten(e.More)
}

// Hint says what to do.
func (e *DeploymentChangedError) Hint() string { return "run pwdeploy down again to see all of it" }

// replan finds out again what there is to take away, if another run was at work.
func (e *Engine) replan(ctx context.Context, d *Down, lock *held) (*Down, error) {
	stale, err := lock.stale(ctx)
	if err != nil || !stale {
		return d, err
	}
	now, err := e.PlanDown(ctx, d.options)
	if err != nil {
		return nil, err
	}
	shown := d.all()
	more := slices.DeleteFunc(now.all(), func(what string) bool { return slices.Contains(shown, what) })
	if len(more) > 0 && !d.options.Yes {
		return nil, &DeploymentChangedError{More: more}
	}
	return now, nil
}

// all is what down takes away, the namespaces apart.
func (d *Down) all() []string {
	out := slices.Concat(d.Objects, prefixed("release ", d.Releases))
	if d.DeleteData {
		out = append(out, d.Data...)
	}
	return out
}

func (e *Engine) takeDown(ctx context.Context, d *Down, lock *held) (*DownResult, error) {
	d, err := e.replan(ctx, d, lock)
	if err != nil {
		return nil, err
	}
	if !d.app.exists { // the lock made it
		d.Namespaces = append(d.Namespaces, e.cfg.Namespace)
	}
	e.planTeardown(d)
	out := &DownResult{Target: e.target, Removed: []string{}, Kept: []Kept{}}
	if err := e.removeRoute(ctx, d); err != nil {
		return nil, err
	}
	if err := e.removeComponents(ctx, d); err != nil {
		return nil, err
	}
	if err := e.removeData(ctx, d); err != nil {
		return nil, err
	}
	out.Removed = d.all()
	if !d.DeleteData {
		out.Kept = append(out.Kept, keptData(d)...)
	}
	return out, e.removeNamespaces(ctx, d, lock, out)
}

// planTeardown notes what there is to take away.
func (e *Engine) planTeardown(d *Down) {
	for c, there := range map[Component]bool{
		App: len(d.objects) > 0, Redis: d.redis != nil, Ingress: d.ingress != nil, Data: d.DeleteData && len(d.data) > 0, Namespaces: len(d.Namespaces) > 0,
	} {
		if there {
			e.ledger.set(c, part{})
		}
	}
}

func prefixed(prefix string, in []string) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, prefix+s)
	}
	return out
}

func keptData(d *Down) []Kept {
	var kept []Kept
	for _, what := range d.Data {
		kept = append(kept, Kept{What: what, Why: "Redis' data; pwdeploy down --delete-data removes it"})
	}
	return kept
}

// removeRoute comes first, so that nobody is sent to pods that are on their way out.
func (e *Engine) removeRoute(ctx context.Context, d *Down) error {
	ingress := kube.Ref{GroupVersionKind: kube.IngressKind, Namespace: e.cfg.Namespace, Name: manifests.AppName}
	if !slices.ContainsFunc(d.objects, ingress.Same) {
		return nil
	}
	e.ledger.begin(App, removing(d), "")
	_, err := e.kube.DeleteOwned(ctx, []kube.Ref{ingress}, e.instance())
	return err
}

// removeComponents takes the app and both releases away side by side.
func (e *Engine) removeComponents(ctx context.Context, d *Down) error {
	var group errgroup.Group
	group.Go(func() error { return e.removeApp(ctx, d) })
	for c, release := range map[Component]*helm.Release{Redis: d.redis, Ingress: d.ingress} {
		if release != nil {
			group.Go(func() error { return e.removeRelease(ctx, c, release) })
		}
	}
	if d.ingress == nil && slices.Contains(d.Namespaces, e.cfg.Ingress.Namespace) {
		group.Go(func() error { return e.removeHookLeftovers(ctx) })
	}
	return group.Wait()
}

// removing words what is done to the app.
func removing(d *Down) string { return fmt.Sprintf("removing %d objects", len(d.objects)) }

func (e *Engine) removeApp(ctx context.Context, d *Down) error {
	if len(d.objects) == 0 {
		return nil
	}
	e.events.start(App, removing(d))
	e.ledger.begin(App, removing(d), "")
	if _, err := e.kube.DeleteOwned(ctx, d.objects, e.instance()); err != nil {
		return err
	}
	e.ledger.leave(App, fmt.Sprintf("deleted %d objects", len(d.objects)))
	if err := e.awaitGone(ctx, App, d.objects); err != nil {
		return err
	}
	done := fmt.Sprintf("removed %d objects", len(d.objects))
	e.ledger.settle(App, done)
	e.events.done(App, done)
	return nil
}

// awaitGone tells what an object that is not gone yet waits for, where the cluster says so.
func (e *Engine) awaitGone(ctx context.Context, c Component, refs []kube.Ref) error {
	return e.kube.WaitGone(ctx, refs, func(ref kube.Ref, message string) {
		if message != "" {
			e.events.progress(c, ref.String()+": "+message)
		}
	})
}

// removeRelease takes a release away and tells of it.
func (e *Engine) removeRelease(ctx context.Context, c Component, release *helm.Release) error {
	doing, done := "uninstalling release "+release.Name, "uninstalled release "+release.Name
	e.events.start(c, doing)
	e.ledger.begin(c, doing, "the next down takes it up")
	removed, err := e.helm.Uninstall(ctx, release.Namespace, release.Name, e.timeout())
	if err == nil {
		e.ledger.leave(c, done)
		err = e.removeRest(ctx, c, removed)
	}
	if err != nil && !errors.Is(err, helm.ErrReleaseNotFound) {
		return err
	}
	e.ledger.settle(c, done)
	e.events.done(c, done)
	return nil
}

// removeRest sees to what is left of a release that was uninstalled. Helm's record goes last: a run that is cut off finds
// the release again.
func (e *Engine) removeRest(ctx context.Context, c Component, removed *helm.Release) error {
	if err := e.awaitGone(ctx, c, kube.RefsOf(removed.Objects)); err != nil {
		return err
	}
	if c == Ingress {
		if err := e.removeHookLeftovers(ctx); err != nil {
			return err
		}
	}
	return e.helm.Forget(ctx, removed.Namespace, removed.Name)
}

// removeHookLeftovers deletes what ingress-nginx makes outside of its manifest and of its hooks': its certgen's Secret,
// its leader election's Lease; and, where a run was killed between two hooks, what of theirs is in no namespace.
func (e *Engine) removeHookLeftovers(ctx context.Context) error {
	const admission = "ingress-nginx-admission"
	for _, ref := range []kube.Ref{
		{GroupVersionKind: kube.SecretKind, Namespace: e.cfg.Ingress.Namespace, Name: admission},
		{GroupVersionKind: kube.LeaseKind, Namespace: e.cfg.Ingress.Namespace, Name: "ingress-nginx-leader"},
	} {
		if _, err := e.kube.Delete(ctx, ref, ""); err != nil {
			return err
		}
	}
	rbac := func(kind string) kube.Ref {
		return kube.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: kind}, Name: admission}
	}
	return e.removeHookRoles(ctx, rbac("ClusterRoleBinding"), rbac("ClusterRole"))
}

// removeHookRoles deletes the hooks' cluster-wide role if its binding leads to our namespace, or it has none yet:
// somebody else's ingress-nginx has objects of the same names.
func (e *Engine) removeHookRoles(ctx context.Context, binding, role kube.Ref) error {
	bound, err := e.kube.Find(ctx, binding)
	if err != nil || bound != nil && !e.bindsOurs(bound) {
		return err
	}
	found, err := e.kube.Find(ctx, role)
	if err != nil {
		return err
	}
	if found != nil && found.GetAnnotations()[helm.HookAnnotation] != "" {
		if _, err := e.kube.Delete(ctx, role, found.GetUID()); err != nil {
			return err
		}
	}
	if bound == nil {
		return nil
	}
	_, err = e.kube.Delete(ctx, binding, bound.GetUID())
	return err
}

// bindsOurs reports whether a binding is for an account in our controller's namespace.
func (e *Engine) bindsOurs(binding *unstructured.Unstructured) bool {
	subjects, _, _ := unstructured.NestedSlice(binding.Object, "subjects")
	return slices.ContainsFunc(subjects, func(s any) bool {
		subject, _ := s.(map[string]any)
		return subject["namespace"] == e.cfg.Ingress.Namespace
	})
}

func (e *Engine) removeData(ctx context.Context, d *Down) error {
	if len(d.data) == 0 {
		return nil
	}
	if !d.DeleteData {
		e.ledger.settle(Data, "kept")
		return nil
	}
	e.ledger.begin(Data, "deleting Redis' volumes and password", "what is gone of it can't be had back")
	for _, ref := range d.data {
		if _, err := e.kube.Delete(ctx, ref, ""); err != nil {
			return err
		}
		if err := e.awaitGone(ctx, Redis, []kube.Ref{ref}); err != nil {
			return err
		}
	}
	e.ledger.settle(Data, "deleted")
	return nil
}

// removeNamespaces deletes the namespaces that pwdeploy made, unless they hold something else, and the record.
// The labels on the namespaces are enough to find them again if this is cut off.
func (e *Engine) removeNamespaces(ctx context.Context, d *Down, lock *held, out *DownResult) error {
	going, err := e.emptyNamespaces(ctx, d, out)
	if err != nil {
		return err
	}
	app := kube.RefOf(d.app.object)
	appGoes := slices.ContainsFunc(going, app.Same)
	if len(going) > 0 {
		e.events.start(Namespaces, "waiting until "+strings.Join(names(going), ", ")+" are gone")
		e.ledger.begin(Namespaces, "deleting "+strings.Join(names(going), ", "), "")
	} else {
		e.ledger.forget(Namespaces)
	}
	others := slices.DeleteFunc(slices.Clone(going), app.Same)
	if _, err := e.kube.DeleteOwned(ctx, others, e.instance()); err != nil {
		return err
	}
	if appGoes { // last, with the record and the lock: from here on another run may begin, and nothing is written any more
		lock.abandon()
		if _, err := e.kube.DeleteOwned(ctx, []kube.Ref{app}, e.instance()); err != nil {
			return err
		}
	}
	if len(going) > 0 {
		e.ledger.leave(Namespaces, "deleted "+strings.Join(names(going), ", "))
	}
	if err := e.awaitGone(ctx, Namespaces, going); err != nil {
		return err
	}
	if len(going) > 0 {
		done := fmt.Sprintf("removed %d", len(going))
		e.ledger.settle(Namespaces, done)
		e.events.done(Namespaces, done)
	}
	out.Removed = append(out.Removed, names(going)...)
	if appGoes {
		return nil
	}
	return e.removeRecord(ctx)
}

// emptyNamespaces are those that can go.
func (e *Engine) emptyNamespaces(ctx context.Context, d *Down, out *DownResult) ([]kube.Ref, error) {
	var going []kube.Ref
	for _, name := range d.Namespaces {
		remaining, err := e.foreignContent(ctx, name)
		switch {
		case unreadable(err) && ctx.Err() == nil:
			out.Kept = append(out.Kept, Kept{What: "Namespace " + name, Why: "what it holds can't be read: " + err.Error()})
		case err != nil:
			return nil, err
		case len(remaining) > 0:
			out.Kept = append(out.Kept, Kept{What: "Namespace " + name, Why: "it holds " + shorten(names(remaining))})
		default:
			going = append(going, kube.RefOf(e.namespaceObject(name)))
		}
	}
	return going, nil
}

// unreadable tells that the cluster does not let us look, or can't: it is not ours to see, or what should serve it is down.
// Anything else may be better the next time.
func unreadable(err error) bool {
	var noKinds *discovery.ErrGroupDiscoveryFailed
	return apierrors.IsForbidden(err) || apierrors.IsServiceUnavailable(err) || errors.As(err, &noKinds)
}

// foreignContent is what a namespace holds beside the record.
func (e *Engine) foreignContent(ctx context.Context, namespace string) ([]kube.Ref, error) {
	remaining, err := e.kube.Remaining(ctx, namespace)
	return slices.DeleteFunc(remaining, func(r kube.Ref) bool {
		return namespace == e.cfg.Namespace && (r.Kind == kube.SecretKind.Kind && r.Name == kube.InventoryName || kube.IsRevision(r))
	}), err
}

// removeRecord deletes the record where the app's namespace stays.
func (e *Engine) removeRecord(ctx context.Context) error {
	if err := e.removeRevisions(ctx); err != nil {
		return err
	}
	_, err := e.kube.Delete(ctx, kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: e.cfg.Namespace, Name: kube.InventoryName}, "")
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("the record can't be deleted: %w", err)
	}
	return err
}

// shorten lists the first few and counts the rest.
func shorten(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
