package stack

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pwdeploy/pwdeploy/internal/helm"
)

// planAll makes up's plan as far as it can be made, and notes each refusal that up would meet: up stops at the
// first, check wants them all. Only a configuration that can't be used is returned.
func (l *look) planAll(ctx context.Context) error {
	l.checkRecord()
	l.planParts(ctx)
	if err := l.planApp(l.plan); err != nil {
		return err
	}
	if err := l.planCharts(ctx); err != nil {
		return err
	}
	var group sync.WaitGroup
	group.Go(func() { l.lookAtNamespaces(ctx) })
	group.Go(func() { l.lookAtAccess(ctx) })
	group.Wait()
	l.seen(CheckLeftovers, "existing objects", l.try(ctx, l.plan, UpOptions{}), "none in the way of the app's")
	return nil
}

// checkRecord judges what the last run recorded.
func (l *look) checkRecord() {
	const name = "earlier runs"
	moved := l.checkMoved()
	switch {
	case l.unread != nil:
		l.unseen(CheckLeftovers, name, l.unread)
	case moved != nil:
		l.fail(CheckLeftovers, name, moved)
	case l.inventory == nil:
		l.ok(CheckLeftovers, name, "none in namespace "+l.cfg.Namespace)
	case !l.inventory.Complete:
		l.warn(CheckLeftovers, name, fmt.Sprintf("the last one did not come to its end, at %s", l.inventory.UpdatedAt.UTC().Format("2006-01-02 15:04 MST")),
			"pwdeploy up goes on where it ended, unless it still runs")
	default:
		l.ok(CheckLeftovers, name, "the last one came to its end, at "+l.inventory.UpdatedAt.UTC().Format("2006-01-02 15:04 MST"))
	}
}

// planParts fetches the charts and finds the controller and the password, side by side.
func (l *look) planParts(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { l.fetched.redis = l.lookAtChart(ctx, Redis, source(helm.DefaultRedis(), l.cfg.Redis.Chart)) })
	group.Go(func() {
		var err error
		if l.plan.controller, err = l.findController(ctx); err != nil {
			l.seen(CheckIngress, "controller", err, "")
			l.plan.controller = controller{class: l.cfg.Ingress.ClassName, namespace: l.cfg.Ingress.Namespace}
			return
		}
		if !l.plan.controller.foreign {
			l.fetched.ingress = l.lookAtChart(ctx, Ingress, source(helm.DefaultIngressNginx(), l.cfg.Ingress.Chart))
		}
	})
	group.Go(func() {
		var err error
		l.plan.password, err = l.findPassword(ctx)
		l.seen(CheckLeftovers, "Redis' data", err, "no volumes without their password")
	})
	group.Wait()
}

// lookAtChart gives the chart, or nil.
func (l *look) lookAtChart(ctx context.Context, c Component, src helm.Source) *helm.Chart {
	name := fmt.Sprintf("chart %s", c)
	chart, err := l.fetch(ctx, c, src)
	if err != nil {
		l.fail(CheckSources, name, err)
		return nil
	}
	pinned := "trusted since it was first seen"
	if src.Digest != "" {
		pinned = "as pinned"
	}
	from := "fetched"
	if chart.Cached {
		from = "on disk already"
	}
	l.ok(CheckSources, name, fmt.Sprintf("%s, %s, digest %s", src, from, pinned))
	return chart
}

// planCharts plans the releases whose charts could be had.
func (l *look) planCharts(ctx context.Context) error {
	var group sync.WaitGroup
	var redisErr, ingressErr error
	if l.fetched.redis != nil {
		group.Go(func() {
			var rp *releasePlan
			rp, redisErr = l.lookAtRelease(ctx, l.redisSpec(l.fetched.redis), l.cfg.Redis.Chart.Values)
			if rp != nil {
				l.plan.redis = *rp
			}
		})
	}
	if l.fetched.ingress != nil {
		group.Go(func() {
			l.plan.ingress, ingressErr = l.lookAtRelease(ctx, l.ingressSpec(l.fetched.ingress), l.cfg.Ingress.Chart.Values)
		})
	}
	group.Wait()
	return errors.Join(redisErr, ingressErr)
}

// lookAtRelease plans a release, or gives nil where it can't be. Where the user may not see whether it is there,
// the rest is judged as if it were not. Only an error of the configuration is returned.
func (l *look) lookAtRelease(ctx context.Context, spec helm.Spec, valuesFiles []string) (*releasePlan, error) {
	rp, err := l.planRelease(ctx, spec, valuesFiles)
	var input *InputError
	switch {
	case errors.As(err, &input):
		return nil, err
	case apierrors.IsForbidden(err):
		rp = releasePlan{spec: spec, Plan: helm.Plan{Action: helm.ActionInstall}}
	case err != nil:
		l.seen(CheckLeftovers, "release "+spec.Name, err, "")
		return nil, nil
	}
	l.checkRelease(spec.Name, rp.Current, err)
	return &rp, nil
}

func (l *look) checkRelease(name string, current *helm.Release, err error) {
	check := "release " + name
	switch {
	case err != nil:
		l.unseen(CheckLeftovers, check, err)
	case current == nil:
		l.ok(CheckLeftovers, check, "not there yet")
	case current.Status == helm.StatusDeployed:
		l.ok(CheckLeftovers, check, fmt.Sprintf("ours, chart %s %s, revision %d", current.Chart, current.ChartVersion, current.Revision))
	default:
		l.warn(CheckLeftovers, check, fmt.Sprintf("%s since %s", current.Status, current.Updated.UTC().Format("2006-01-02 15:04 MST")), "pwdeploy up mends it")
	}
}

func (l *look) lookAtNamespaces(ctx context.Context) {
	namespaces, err := l.planNamespaces(ctx, l.plan)
	if err != nil {
		l.seen(CheckLeftovers, "namespaces", err, "")
		return
	}
	l.plan.namespaces = namespaces
	l.ok(CheckLeftovers, "namespaces", "none is being deleted")
}

func (l *look) lookAtAccess(ctx context.Context) {
	wanted, err := l.accessFor(ctx, l.plan)
	if err != nil {
		l.seen(CheckPermissions, "permissions", err, "")
		return
	}
	l.seen(CheckPermissions, "permissions", l.kube.CheckAccess(ctx, wanted), fmt.Sprintf("this user may do all that up will do (%d things)", len(wanted)))
}

// lookAtHost is part of up too.
func (l *look) lookAtHost(ctx context.Context) {
	if l.plan.app.ingress == nil {
		return
	}
	l.seen(CheckIngress, "host", l.checkHost(ctx, l.plan.app.ingress), fmt.Sprintf("%s is used by no other Ingress of class %s", l.cfg.Host, l.plan.controller.class))
}

// readWebhooks finds what is in the way of the app's objects and of its pods.
func (l *look) readWebhooks(ctx context.Context) {
	objs := l.plan.app.all()
	for _, w := range l.workloads {
		objs = append(objs, w.samplePod())
	}
	dead, err := l.kube.DeadWebhooks(ctx, objs...)
	if err != nil {
		l.unseen(CheckIngress, "webhooks", err)
		return
	}
	l.dead = dead
	if len(dead) == 0 {
		l.ok(CheckIngress, "webhooks", "each that is asked about what up makes has somebody to answer")
	}
}
