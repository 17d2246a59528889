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
	LockTimeout time.Duration // as UpOptions has it
}

// PlanDown finds out what this deployment consists of: by its record, and by its labels where a record
// was lost.
func (e *Engine) PlanDown(ctx context.Context, o DownOptions) (*Down, error) {
	d := &Down{Target: e.target, DeleteData: o.DeleteData, options: o, Objects: []string{}, Releases: []string{}, Namespaces: []string{}, Data: []string{}}
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	e.follow()
	d.recorded = e.inventory != nil
	var err error
	if d.objects, err = e.ownedObjects(ctx); err != nil {
		return nil, err
	}
	if d.redis, err = e.ownRelease(ctx, e.cfg.Redis.Namespace, redisRelease); err != nil {
		return nil, err
	}
	if d.ingress, err = e.ownRelease(ctx, e.cfg.Ingress.Namespace, ingressRelease); err != nil {
		return nil, err
	}
	for _, name := range []string{e.cfg.Namespace, e.cfg.Redis.Namespace, e.cfg.Ingress.Namespace} {
		found, err := e.kube.Find(ctx, kube.RefOf(e.namespaceObject(name)))
		if err != nil {
			return nil, err
		}
		if found != nil && kube.Owned(found, e.instance()) {
			d.Namespaces = append(d.Namespaces, name)
		}
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
	var found []kube.Ref
	for _, ref := range candidates {
		obj, err := e.kube.Find(ctx, ref)
		if err != nil {
			return nil, err
		}
		if obj != nil && kube.Owned(obj, e.instance()) {
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
// record, so that a run that is cut off can be repeated.
func (e *Engine) Down(ctx context.Context, d *Down) (*DownResult, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
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
	out.Removed = slices.Concat(d.Objects, prefixed("release ", d.Releases))
	if d.DeleteData {
		out.Removed = append(out.Removed, d.Data...)
	} else {
		out.Kept = append(out.Kept, keptData(d)...)
	}
	if err := e.removeNamespaces(ctx, d, out); err != nil {
		return nil, err
	}
	out.Seconds = time.Since(begin).Seconds()
	return out, nil
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

func (e *Engine) removeApp(ctx context.Context, d *Down) error {
	if len(d.objects) == 0 {
		return nil
	}
	e.events.start(App, fmt.Sprintf("removing %d objects", len(d.objects)))
	if _, err := e.kube.DeleteOwned(ctx, d.objects, e.instance()); err != nil {
		return err
	}
	if err := e.awaitGone(ctx, App, d.objects); err != nil {
		return err
	}
	e.events.done(App, fmt.Sprintf("removed %d objects", len(d.objects)))
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

func (e *Engine) removeRelease(ctx context.Context, c Component, release *helm.Release) error {
	e.events.start(c, "uninstalling release "+release.Name)
	removed, err := e.helm.Uninstall(ctx, release.Namespace, release.Name, e.timeout())
	if err != nil && !errors.Is(err, helm.ErrReleaseNotFound) {
		return err
	}
	if removed != nil {
		if err := e.awaitGone(ctx, c, kube.RefsOf(removed.Objects)); err != nil {
			return err
		}
	}
	if c == Ingress {
		if err := e.removeHookLeftovers(ctx); err != nil {
			return err
		}
	}
	e.events.done(c, "uninstalled release "+release.Name)
	return nil
}

// removeHookLeftovers deletes what ingress-nginx makes outside of its manifest: its certgen hook's Secret
// and its leader election's Lease; and, where a run was killed between two hooks, what Helm would have
// removed after them.
func (e *Engine) removeHookLeftovers(ctx context.Context) error {
	const admission = "ingress-nginx-admission"
	rbac := func(kind string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: kind}
	}
	ns := e.cfg.Ingress.Namespace
	for _, ref := range []kube.Ref{
		{GroupVersionKind: kube.JobKind, Namespace: ns, Name: admission + "-create"},
		{GroupVersionKind: kube.JobKind, Namespace: ns, Name: admission + "-patch"},
		{GroupVersionKind: rbac("RoleBinding"), Namespace: ns, Name: admission},
		{GroupVersionKind: rbac("Role"), Namespace: ns, Name: admission},
		{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}, Namespace: ns, Name: admission},
		{GroupVersionKind: kube.SecretKind, Namespace: ns, Name: admission},
		{GroupVersionKind: kube.LeaseKind, Namespace: ns, Name: "ingress-nginx-leader"},
	} {
		if _, err := e.kube.Delete(ctx, ref, ""); err != nil {
			return err
		}
	}
	return e.removeHookRoles(ctx, kube.Ref{GroupVersionKind: rbac("ClusterRoleBinding"), Name: admission}, kube.Ref{GroupVersionKind: rbac("ClusterRole"), Name: admission})
}

// removeHookRoles deletes the hooks' cluster-wide role if its binding leads to our namespace: somebody
// else's ingress-nginx has objects of the same names.
func (e *Engine) removeHookRoles(ctx context.Context, binding, role kube.Ref) error {
	bound, err := e.kube.Find(ctx, binding)
	if err != nil || bound == nil {
		return err
	}
	subjects, _, _ := unstructured.NestedSlice(bound.Object, "subjects")
	ours := slices.ContainsFunc(subjects, func(s any) bool {
		subject, _ := s.(map[string]any)
		return subject["namespace"] == e.cfg.Ingress.Namespace
	})
	if !ours {
		return nil
	}
	if _, err := e.kube.Delete(ctx, role, ""); err != nil {
		return err
	}
	_, err = e.kube.Delete(ctx, binding, bound.GetUID())
	return err
}

func (e *Engine) removeData(ctx context.Context, d *Down) error {
	if !d.DeleteData {
		return nil
	}
	for _, ref := range d.data {
		if _, err := e.kube.Delete(ctx, ref, ""); err != nil {
			return err
		}
		if err := e.awaitGone(ctx, Redis, []kube.Ref{ref}); err != nil {
			return err
		}
	}
	return nil
}

// removeNamespaces deletes the namespaces that pwdeploy made, unless they hold something else. The labels
// on them are enough to find them again if this is cut off.
func (e *Engine) removeNamespaces(ctx context.Context, d *Down, out *DownResult) error {
	var going []kube.Ref
	for _, name := range d.Namespaces {
		remaining, err := e.foreignContent(ctx, name)
		if err != nil && ctx.Err() == nil {
			out.Kept = append(out.Kept, Kept{What: "Namespace " + name, Why: "what it holds can't be read: " + err.Error()})
			continue
		}
		if err != nil {
			return err
		}
		if len(remaining) > 0 {
			out.Kept = append(out.Kept, Kept{What: "Namespace " + name, Why: "it holds " + shorten(names(remaining))})
			continue
		}
		going = append(going, kube.RefOf(e.namespaceObject(name)))
	}
	if len(going) > 0 {
		e.events.start(Namespaces, "waiting until "+strings.Join(names(going), ", ")+" are gone")
	}
	if _, err := e.kube.DeleteOwned(ctx, going, e.instance()); err != nil {
		return err
	}
	if err := e.awaitGone(ctx, Namespaces, going); err != nil {
		return err
	}
	if len(going) > 0 {
		e.events.done(Namespaces, fmt.Sprintf("removed %d", len(going)))
	}
	out.Removed = append(out.Removed, names(going)...)
	return e.removeRecord(ctx)
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
