package stack

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// namespacePlan is a namespace of the deployment.
type namespacePlan struct {
	object *unstructured.Unstructured
	exists bool
	ours   bool // made by this deployment: may be changed, and deleted in the end
	trial  *kube.Trial
}

// NamespaceTerminatingError says that a namespace is still being deleted: nothing can be made in it.
type NamespaceTerminatingError struct {
	Name string
	Why  string // what its deletion waits for, where the cluster says so
}

func (e *NamespaceTerminatingError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("Namespace %s is being deleted: %s", e.Name, e.Why)
	}
	return fmt.Sprintf("Namespace %s is being deleted", e.Name)
}

// Hint says what to do.
func (e *NamespaceTerminatingError) Hint() string {
	return fmt.Sprintf("wait until it is gone (kubectl get namespace %s -w), then run this again", e.Name)
}

// planNamespaces reads the namespaces that the run needs, side by side.
func (e *Engine) planNamespaces(ctx context.Context, p *plan) ([]namespacePlan, error) {
	wanted := []*unstructured.Unstructured{p.app.namespace, e.namespaceObject(e.cfg.Redis.Namespace)}
	if !p.controller.foreign {
		wanted = append(wanted, e.namespaceObject(e.cfg.Ingress.Namespace))
	}
	plans := make([]namespacePlan, len(wanted))
	group, ctx := errgroup.WithContext(ctx)
	for i, o := range wanted {
		group.Go(func() error {
			trial, err := e.kube.Try(ctx, o, kube.Terms{Instance: e.instance()})
			if err != nil {
				return err
			}
			if trial.Live != nil && trial.Live.GetDeletionTimestamp() != nil {
				return &NamespaceTerminatingError{Name: o.GetName(), Why: kube.WhyDeleting(trial.Live)}
			}
			plans[i] = namespacePlan{object: o, exists: trial.Live != nil, ours: trial.Foreign == nil, trial: trial}
			return nil
		})
	}
	return plans, group.Wait()
}

func (e *Engine) namespaceObject(name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kube.NamespaceKind)
	o.SetName(name)
	kube.MarkOwned(o, e.instance())
	return o
}

// makeNamespaces applies the namespaces that are ours or missing. Somebody else's is used as it is.
func (e *Engine) makeNamespaces(ctx context.Context, plans []namespacePlan) (bool, error) {
	var ours []*kube.Trial
	var missing []string
	for _, p := range plans {
		if p.ours {
			ours = append(ours, p.trial)
		}
		if !p.exists {
			missing = append(missing, p.object.GetName())
		}
	}
	if len(missing) > 0 {
		e.ledger.begin(Namespaces, "making "+strings.Join(missing, ", "), "some may be there")
	}
	changes, err := e.kube.CarryAll(ctx, ours)
	return changed(changes), err
}

func changed(changes []kube.Change) bool {
	for _, c := range changes {
		if c.Action != kube.Unchanged && c.Action != kube.Absent {
			return true
		}
	}
	return false
}
