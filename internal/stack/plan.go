package stack

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// plan is what up will do. Making it changes nothing; all that can be known to fail fails here.
type plan struct {
	controller controller
	namespaces []namespacePlan
	redis      releasePlan
	ingress    *releasePlan // nil: somebody else's controller is used
	app        appPlan
	password   []byte // Redis', where it was made already
	back       bool   // it deploys an earlier revision: that worked, and whatever is wrong with the cluster must not keep from it
}

// releasePlan is a release as it should be, and what has to be done for it.
type releasePlan struct {
	spec helm.Spec
	helm.Plan

	objects []*unstructured.Unstructured // that it will consist of, where a release that is there is changed
	refused []*kube.Trial                // of those, what the cluster does not take as things are

	mends []string // what was done to objects of a release that is to stay as it is; empty where it is to be changed
}

// appPlan holds the app's objects by when they are applied.
type appPlan struct {
	namespace *unstructured.Unstructured
	objects   []*unstructured.Unstructured // all but the namespace and the Ingress
	ingress   *unstructured.Unstructured   // applied when the controller's admission webhook answers
	trials    []*kube.Trial                // of all of them and the password: what applying would do
}

// all gives the objects that pwdeploy owns in the app's namespace.
func (p appPlan) all() []*unstructured.Unstructured {
	return append(append([]*unstructured.Unstructured{}, p.objects...), p.ingress)
}

// makePlan reads the cluster and fetches the charts, side by side.
func (e *Engine) makePlan(ctx context.Context, o UpOptions) (*plan, error) {
	if o.back != nil {
		return e.planBack(ctx, o)
	}
	if err := e.checkMoved(); err != nil {
		return nil, err
	}
	p := &plan{}
	var redisChart, ingressChart *helm.Chart
	group, ctx2 := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		redisChart, err = e.fetch(ctx2, Redis, source(helm.DefaultRedis(), e.cfg.Redis.Chart))
		return err
	})
	group.Go(func() (err error) {
		if p.controller, err = e.findController(ctx2); err != nil || p.controller.foreign {
			return err
		}
		ingressChart, err = e.fetch(ctx2, Ingress, source(helm.DefaultIngressNginx(), e.cfg.Ingress.Chart))
		return err
	})
	group.Go(func() (err error) {
		p.password, err = e.findPassword(ctx2)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := e.planApp(p); err != nil {
		return nil, err
	}
	if err := e.planReleases(ctx, p, redisChart, ingressChart); err != nil {
		return nil, err
	}
	return p, e.checkPlan(ctx, p, o)
}

// MovedError says that the configuration puts a release into another namespace than the last run did.
// Helm can't move a release, and Redis' data would stay behind.
type MovedError struct{ Release, From, To string }

func (e *MovedError) Error() string {
	return fmt.Sprintf("release %s is in namespace %s, and the configuration puts it into %s", e.Release, e.From, e.To)
}

// Hint says what to do.
func (e *MovedError) Hint() string {
	return fmt.Sprintf("set its namespace back to %s, or run pwdeploy down first", e.From)
}

// ProfileError says that the deployment was made with another profile. What differs between them, Redis'
// volumes and the load balancer's class, can't be changed in place.
type ProfileError struct{ Was, Wanted string }

func (e *ProfileError) Error() string {
	return fmt.Sprintf("the deployment has profile %s, and the configuration names %s", e.Was, e.Wanted)
}

// Hint says what to do.
func (e *ProfileError) Hint() string {
	return fmt.Sprintf("leave the profile at %s, or run pwdeploy down first", e.Was)
}

// checkMoved refuses what an up can't change on a deployment that is there.
func (e *Engine) checkMoved() error {
	if e.inventory == nil {
		return nil
	}
	if was := e.inventory.Settings[settingProfile]; was != "" && was != e.target.Profile {
		return &ProfileError{Was: was, Wanted: e.target.Profile}
	}
	wanted := map[string]string{redisRelease: e.cfg.Redis.Namespace, ingressRelease: e.cfg.Ingress.Namespace}
	for _, r := range e.inventory.Releases {
		if to, ok := wanted[r.Name]; ok && to != r.Namespace {
			return &MovedError{Release: r.Name, From: r.Namespace, To: to}
		}
	}
	return nil
}

// fetch says first what it fetches: a slow registry should be known by its name.
func (e *Engine) fetch(ctx context.Context, c Component, src helm.Source) (*helm.Chart, error) {
	e.events.start(c, "chart "+src.String())
	chart, err := e.charts.Fetch(ctx, src)
	if err != nil {
		return nil, err
	}
	if chart.CacheErr != nil {
		e.events.warn(c, fmt.Sprintf("the chart could not be kept for next time: %v", chart.CacheErr))
	}
	return chart, nil
}

// source lays a user's overrides over the default. Another reference makes the default's pins void.
func source(standard helm.Source, o config.Chart) helm.Source {
	if o.Ref != "" {
		return helm.Source{Ref: o.Ref, Version: o.Version, Digest: o.Digest}
	}
	if o.Version != "" {
		standard.Version, standard.Digest = o.Version, ""
	}
	if o.Digest != "" {
		standard.Digest = o.Digest
	}
	return standard
}

// redisPort is where the chart's Services listen.
const redisPort = 6379

// params are what the manifests are rendered with. The profiles are named as the overlays are.
func params(cfg config.Config, profile string, c controller) manifests.Params {
	return manifests.Params{
		Overlay: profile, Namespace: cfg.Namespace, Host: cfg.Host, Image: cfg.Image, Replicas: cfg.Replicas,
		IngressClass: c.class, IngressNamespace: c.namespace, RedisNamespace: cfg.Redis.Namespace,
		RedisHost: "redis-master." + cfg.Redis.Namespace + ".svc.cluster.local", RedisPort: redisPort,
	}
}

func (e *Engine) planApp(p *plan) error {
	objs, err := manifests.Build(params(e.cfg, e.target.Profile, p.controller))
	if err != nil {
		return &InputError{Err: err}
	}
	for _, o := range objs {
		kube.MarkOwned(o, e.instance())
	}
	p.takeApp(objs)
	return nil
}

// takeApp sorts the app's objects by when they are applied.
func (p *plan) takeApp(objs []*unstructured.Unstructured) {
	for _, o := range objs {
		switch o.GroupVersionKind().GroupKind() {
		case kube.NamespaceKind.GroupKind():
			p.app.namespace = o
		case kube.IngressKind.GroupKind():
			p.app.ingress = o
		default:
			p.app.objects = append(p.app.objects, o)
		}
	}
}

// InputError says that the configuration can't be turned into objects. Nothing was touched.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *InputError) Unwrap() error { return e.Err }

func (e *Engine) planReleases(ctx context.Context, p *plan, redisChart, ingressChart *helm.Chart) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		p.redis, err = e.planRelease(ctx, e.redisSpec(redisChart), e.cfg.Redis.Chart.Values)
		return err
	})
	if !p.controller.foreign {
		group.Go(func() error {
			rp, err := e.planRelease(ctx, e.ingressSpec(ingressChart), e.cfg.Ingress.Chart.Values)
			p.ingress = &rp
			return err
		})
	}
	return group.Wait()
}

func (e *Engine) planRelease(ctx context.Context, spec helm.Spec, valuesFiles []string) (releasePlan, error) {
	var err error
	if spec.Values, err = helm.MergeValuesFiles(spec.Values, valuesFiles...); err != nil {
		return releasePlan{}, &InputError{Err: err}
	}
	made, err := e.helm.Plan(ctx, spec)
	if err != nil {
		return releasePlan{}, err
	}
	rp := releasePlan{spec: spec, Plan: made}
	if made.Action == helm.ActionNone {
		if rp.mends, err = e.findMends(ctx, spec); err != nil {
			return releasePlan{}, err
		}
		if len(rp.mends) > 0 {
			rp.spec.Force, rp.Action = true, helm.ActionUpgrade
		}
	}
	return rp, nil
}

// checkPlan asks the cluster whether the plan can be carried out, and looks for objects in its way.
func (e *Engine) checkPlan(ctx context.Context, p *plan, o UpOptions) error {
	var err error
	if p.namespaces, err = e.planNamespaces(ctx, p); err != nil {
		return err
	}
	wanted, err := e.accessFor(ctx, p)
	if err != nil {
		return err
	}
	if err := errors.Join(e.kube.CheckAccess(ctx, wanted), e.preflight(ctx, p)); err != nil {
		return err
	}
	if err := e.try(ctx, p, o); err != nil {
		return err
	}
	return e.checkNewHost(ctx, p)
}

// accessFor lists what the run will do, object by object and verb by verb.
func (e *Engine) accessFor(ctx context.Context, p *plan) ([]kube.Access, error) {
	var all []kube.Access
	add := func(objs []*unstructured.Unstructured, namespace string, verbs ...string) error {
		for _, o := range objs {
			ns := o.GetNamespace()
			if ns == "" {
				ns = namespace
			}
			access, err := e.kube.AccessTo(o.GroupVersionKind(), ns, verbs...)
			if err != nil {
				return err
			}
			all = append(all, access...)
		}
		return nil
	}
	err := add(append(p.app.all(), p.app.namespace), "", "get", "create", "patch")
	beside, besideErr := e.accessBeside(p)
	err = errors.Join(err, besideErr)
	all = append(all, beside...)
	for _, rp := range p.releases() {
		objs, renderErr := e.releaseObjects(ctx, rp)
		err = errors.Join(err, renderErr, add(objs, rp.spec.Namespace, "get", "create", "patch"))
		secrets, accessErr := e.kube.AccessTo(kube.SecretKind, rp.spec.Namespace, "get", "list", "create", "update", "delete")
		err = errors.Join(err, accessErr)
		all = append(all, secrets...)
	}
	return all, err
}

// releaseObjects are what a release will consist of.
func (e *Engine) releaseObjects(ctx context.Context, rp releasePlan) ([]*unstructured.Unstructured, error) {
	if rp.Action == helm.ActionRollback {
		return e.helm.ObjectsOf(ctx, rp.spec.Namespace, rp.spec.Name, rp.RollbackTo)
	}
	return e.helm.Template(ctx, rp.spec)
}

// accessBeside lists what the run does beside applying: the record, the passwords, waiting, pulling again,
// pruning.
func (e *Engine) accessBeside(p *plan) ([]kube.Access, error) {
	var all []kube.Access
	var errs []error
	add := func(kind schema.GroupVersionKind, namespace string, verbs ...string) {
		access, err := e.kube.AccessTo(kind, namespace, verbs...)
		all, errs = append(all, access...), append(errs, err)
	}
	add(kube.SecretKind, e.cfg.Namespace, "get", "list", "create", "update", "patch", "delete")
	add(kube.SecretKind, e.cfg.Redis.Namespace, "get", "list", "create")
	add(kube.PodKind, e.cfg.Namespace, "delete")
	add(kube.LeaseKind, e.cfg.Namespace, "get", "create", "update", "delete")
	if e.inventory != nil {
		for _, ref := range e.inventory.Refs() {
			access, err := e.kube.AccessTo(ref.GroupVersionKind, ref.Namespace, "delete")
			if !meta.IsNoMatchError(err) { // nothing is left of a kind that is gone
				all, errs = append(all, access...), append(errs, err)
			}
		}
	}
	namespaces := []string{e.cfg.Namespace, e.cfg.Redis.Namespace}
	if !p.controller.foreign {
		namespaces = append(namespaces, e.cfg.Ingress.Namespace)
	}
	for _, namespace := range namespaces {
		for _, kind := range kube.WatchedKinds() {
			add(kind, namespace, "list", "watch")
		}
	}
	return all, errors.Join(errs...)
}

// releases gives the releases that have to be changed.
func (p *plan) releases() []releasePlan {
	var out []releasePlan
	if p.redis.Action != helm.ActionNone {
		out = append(out, p.redis)
	}
	if p.ingress != nil && p.ingress.Action != helm.ActionNone {
		out = append(out, *p.ingress)
	}
	return out
}
