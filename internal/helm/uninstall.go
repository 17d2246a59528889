package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

// Annotations by which Helm marks what belongs to a release, hooks apart.
const (
	ReleaseNameAnnotation      = "meta.helm.sh/release-name"
	ReleaseNamespaceAnnotation = "meta.helm.sh/release-namespace"
	HookAnnotation             = release.HookAnnotation // on what a hook made
)

// Uninstall takes a release away, whatever state it is in, and tells what is on its way out. It returns when the
// deletions are asked for, not when the objects are gone; timeout bounds each of the chart's hooks. The release's record
// stays, as uninstalled: the caller sees to what is left and then calls Forget, or Uninstall again if it was cut off.
//
// Of all revisions that Helm keeps, what they made goes, if it carries the release's marks, and what their hooks left in
// its namespace. Admission webhooks go before what answers for them: with a webhook that nobody answers, the API server
// refuses whatever it should judge, in the whole cluster. What a chart marks with helm.sh/resource-policy: keep stays,
// and so do volumes.
//
// A release that pwdeploy did not install is a *ForeignReleaseError, whichever the instance; telling
// apart instances is the caller's, who knows its own.
func (c *Client) Uninstall(ctx context.Context, namespace, name string, timeout time.Duration) (*Release, error) {
	r := c.newRun(ctx, namespace)
	defer r.close()
	current, err := r.newest(name)
	if err != nil {
		return nil, err
	}
	if current.Instance == "" {
		return nil, &ForeignReleaseError{current}
	}
	leaving, err := r.uninstall(name, timeout)
	for _, info := range leaving {
		if obj, ok := info.Object.(*unstructured.Unstructured); ok {
			current.Objects = append(current.Objects, obj)
		}
	}
	if err != nil {
		return current, fmt.Errorf("uninstall release %s/%s: %w", namespace, name, err)
	}
	current.Status = StatusUninstalled
	return current, nil
}

// Forget deletes the records of a release that was uninstalled, the newest last: until then it can be found.
func (c *Client) Forget(ctx context.Context, namespace, name string) error {
	r := c.newRun(ctx, namespace)
	defer r.close()
	cfg, err := r.configuration(nil)
	if err != nil {
		return err
	}
	if _, err := action.NewUninstall(cfg).Run(name); err != nil {
		return fmt.Errorf("delete the records of release %s/%s: %w", namespace, name, r.cause(err))
	}
	return nil
}

// uninstall runs Helm's, which knows the newest revision only, and sees to the rest. It gives what is on its way out.
func (r *run) uninstall(name string, timeout time.Duration) (kube.ResourceList, error) {
	cfg, err := r.configuration(nil)
	if err != nil {
		return nil, err
	}
	history, err := r.history(name)
	if err != nil {
		return nil, err
	}
	newest, err := r.made(history[:1])
	if err != nil {
		return nil, err
	}
	older, err := r.made(history[1:])
	if err != nil {
		return nil, err
	}
	ours, err := r.owned(name, append(newest, older.Difference(newest)...))
	if err != nil {
		return nil, err
	}
	first := ours.Filter(func(info *resource.Info) bool { return isWebhook(info) || !newest.Contains(info) })
	r.kube.ours = ours.Difference(first)
	if err := r.kube.remove(first); err != nil {
		return ours, err
	}
	if history[0].Info.Status != release.StatusUninstalled {
		a := action.NewUninstall(cfg)
		a.Timeout = orDefault(timeout)
		a.DeletionPropagation, a.KeepHistory = "background", true
		if _, err := a.Run(name); err != nil {
			return ours, r.cause(err)
		}
	}
	left, err := r.removeHooks(history)
	return append(ours, left...), err
}

// finishUninstall ends an uninstall that was cut off, and waits until what it took away is gone: the same is about to be
// made anew.
func (r *run) finishUninstall(spec Spec, plan Plan) error {
	if plan.Current == nil {
		return nil
	}
	leaving, err := r.uninstall(spec.Name, spec.HookTimeout)
	if err != nil {
		return fmt.Errorf("finish its uninstall: %w", err)
	}
	return r.kube.waitAllGone(leaving, spec.hookTimeout())
}

// sweep deletes what revisions made that did not end, except for what is in the manifests of some: Helm compares two
// revisions, and knows nothing of the others.
func (r *run) sweep(name string, except ...*release.Release) error {
	if _, err := r.configuration(nil); err != nil {
		return err
	}
	history, err := r.history(name)
	if err != nil {
		return err
	}
	made, err := r.made(history)
	if err != nil {
		return err
	}
	kept, err := r.made(except)
	if err != nil {
		return err
	}
	orphans, err := r.owned(name, made.Difference(kept))
	if err != nil {
		return err
	}
	if err := r.kube.remove(orphans); err != nil {
		return fmt.Errorf("delete what an earlier run left: %w", err)
	}
	return r.kube.waitAllGone(orphans, DefaultHookTimeout)
}

// made gives what is in the manifests of revisions, each object once.
func (r *run) made(revisions []*release.Release) (kube.ResourceList, error) {
	var all kube.ResourceList
	for _, rel := range revisions {
		list, err := r.built(rel.Manifest)
		if err != nil {
			return nil, fmt.Errorf("revision %d: %w", rel.Version, err)
		}
		all = append(all, list.Difference(all)...)
	}
	return all, nil
}

// built reads a manifest for Helm's client, without objects of kinds that are gone.
func (r *run) built(manifest string) (kube.ResourceList, error) {
	objects, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	mapper, err := r.getter.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	var known bytes.Buffer
	for _, obj := range objects {
		mapping, err := mappingOf(mapper, obj)
		if err != nil {
			return nil, err
		}
		if mapping == nil {
			continue
		}
		if err := json.NewEncoder(&known).Encode(obj.Object); err != nil {
			return nil, err
		}
	}
	return r.kube.Build(&known, false)
}

// owned gives those of resources that are there, as they are, carry the marks of a release of this namespace, and are
// not to be kept.
func (r *run) owned(name string, resources kube.ResourceList) (kube.ResourceList, error) {
	return r.there(resources, func(o metav1.Object, info *resource.Info) bool {
		marks := o.GetAnnotations()
		return marks[ReleaseNameAnnotation] == name && marks[ReleaseNamespaceAnnotation] == r.namespace &&
			marks[kube.ResourcePolicyAnno] != kube.KeepPolicy && info.Mapping.GroupVersionKind.GroupKind() != claimKind
	})
}

var claimKind = schema.GroupKind{Kind: "PersistentVolumeClaim"}

// removeHooks deletes what hooks of revisions left in the release's namespace, and gives it. Hooks carry no release's
// marks, and those in no namespace may be those of another release of the same chart.
func (r *run) removeHooks(revisions []*release.Release) (kube.ResourceList, error) {
	var all kube.ResourceList
	for _, rel := range revisions {
		for _, h := range rel.Hooks {
			list, err := r.built(h.Manifest)
			if err != nil {
				return nil, fmt.Errorf("hook %s: %w", h.Name, err)
			}
			all = append(all, list.Difference(all)...)
		}
	}
	left, err := r.there(all, func(o metav1.Object, info *resource.Info) bool {
		return info.Namespace == r.namespace && o.GetAnnotations()[HookAnnotation] != ""
	})
	if err != nil {
		return nil, err
	}
	// With the pods of Jobs, which may be at work still.
	return left, r.kube.removeBy(left, metav1.DeletePropagationForeground)
}

// readers bounds how many objects are read at once.
const readers = 8

// there reads resources and gives those that are there and that accept takes.
func (r *run) there(resources kube.ResourceList, accept func(metav1.Object, *resource.Info) bool) (kube.ResourceList, error) {
	found := make([]bool, len(resources))
	var group errgroup.Group
	group.SetLimit(readers)
	for i, info := range resources {
		group.Go(func() error {
			if err := r.ctx.Err(); err != nil {
				return err
			}
			err := info.Get()
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s %s: %w", info.Mapping.GroupVersionKind.Kind, info.ObjectName(), err)
			}
			obj, err := meta.Accessor(info.Object)
			found[i] = err == nil && accept(obj, info)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	i := -1
	return resources.Filter(func(*resource.Info) bool { i++; return found[i] }), nil
}
