package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// held is the lock as a run holds it. nil: there is none to hold, or no longer.
type held struct {
	*Engine
	lock *kube.Lock
}

// lock makes this run the only one that changes the deployment, and gives the context that ends if it no
// longer is. namespace is that of the app; it is made first where it is missing, for the lock lives in it.
//
// What was read before may be out of date then: stale tells.
func (e *Engine) lock(ctx context.Context, command string, timeout time.Duration, namespace namespacePlan) (context.Context, *held, error) {
	if err := e.makeLockable(ctx, namespace); err != nil {
		return nil, nil, err
	}
	locked, lock, err := e.kube.Lock(ctx, kube.LockOptions{
		Namespace: e.cfg.Namespace, Who: whoAmI(), Command: command, Duration: e.leaseDuration, Timeout: timeout,
		Waiting: func(h kube.Holder) {
			e.events.progress(Lock, fmt.Sprintf("held by %s, pwdeploy %s, since %s; waiting to see whether it is alive", h.Who, h.Command, h.Since.Local().Format(time.TimeOnly)))
		},
		Stalled: func(err error) {
			e.events.emit(Lock, Problem, fmt.Sprintf("can't be renewed: %v", err), "nothing is written until it can")
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if lock.Contended {
		e.events.done(Lock, "ours now")
	}
	return locked, &held{Engine: e, lock: lock}, nil
}

// makeLockable makes the namespace that the lock lives in. One that another first run has made meanwhile is left as it
// is: it may not be this run's to change.
func (e *Engine) makeLockable(ctx context.Context, namespace namespacePlan) error {
	if namespace.exists {
		return nil
	}
	found, err := e.kube.Find(ctx, kube.RefOf(namespace.object))
	if err != nil || found != nil {
		return err
	}
	name := namespace.object.GetName()
	e.ledger.begin(Namespaces, "making "+name, "it may be there")
	if _, err := e.kube.Apply(ctx, namespace.object, e.instance()); err != nil {
		return err
	}
	e.ledger.settle(Namespaces, name+" made")
	return nil
}

// lostLock puts the loss of the lock, if that ended the context, in place of what it brought about.
func lostLock(ctx context.Context, err error) error {
	var lost *kube.LockLostError
	if err != nil && errors.As(context.Cause(ctx), &lost) {
		return lost
	}
	return err
}

// namespaceGoing reports whether an error says that the lock's namespace is being deleted. Nothing can be
// made in it then, by any run: there is no lock, and no need of one to wait until it is gone.
func namespaceGoing(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// release gives the lock back. What can't be given back expires by itself.
func (h *held) release(ctx context.Context) {
	if h == nil || h.lock == nil {
		return
	}
	if err := h.lock.Release(ctx); err != nil {
		h.events.warn(Lock, fmt.Sprintf("it could not be released and expires in %s: %v", kube.LeaseDuration, err))
	}
}

// abandon lets the lock go with its namespace.
func (h *held) abandon() {
	if h != nil {
		h.lock.Abandon()
		h.lock = nil
	}
}

// stale reports whether another run may have changed the deployment since this one read it, and takes over
// the record as it is now.
func (h *held) stale(ctx context.Context) (bool, error) {
	if h == nil {
		return false, nil
	}
	now, err := h.kube.ReadInventory(ctx, h.cfg.Namespace)
	if err != nil {
		return false, err
	}
	was := h.inventory
	h.inventory = now
	h.target = targetOf(h.cfg, h.kube, h.nodes, now)
	return h.lock.Contended || !sameRecord(was, now), nil
}

// sameRecord reports whether two are of the same moment.
func sameRecord(a, b *kube.Inventory) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UpdatedAt.Equal(b.UpdatedAt) && a.Complete == b.Complete && a.Same(b)
}

// whoAmI is how other runs and people see this one.
func whoAmI() string { return fmt.Sprintf("%s pid %d", whoRuns(), os.Getpid()) }

// appNamespace is the app's among the planned ones.
func (p *plan) appNamespace() namespacePlan {
	return p.namespaces[0] // planNamespaces puts it first
}

// isSettled reports whether the cluster is as the plan wants it, so that the run has nothing to change and
// needs no lock. Whatever can't be asked is for the run itself to meet.
func (r *run) isSettled(ctx context.Context) bool {
	r.record = r.inventoryBefore()
	if !r.upToDate() || r.plan.changes() {
		return false
	}
	secret, err := r.kube.Find(ctx, r.passwordRef()) // the plan may have found the app's copy
	if err != nil || secret == nil {
		return false
	}
	r.password = r.plan.password
	stuck, err := r.kube.StuckPulls(ctx, r.deploymentRef())
	return err == nil && len(stuck) == 0
}

// changes reports whether the app's objects or a namespace are to be changed.
func (p *plan) changes() bool {
	trials := slices.Clone(p.app.trials)
	for _, ns := range p.namespaces {
		if ns.ours {
			trials = append(trials, ns.trial)
		}
	}
	return slices.ContainsFunc(trials, func(t *kube.Trial) bool { return t.Action != kube.Unchanged })
}
