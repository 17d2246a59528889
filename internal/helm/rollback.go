package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RevisionGoneError says that a release can't go back to what it was: Helm keeps so many revisions, and none
// of them is of that chart and those values.
type RevisionGoneError struct {
	Release *Release // the newest revision; where there is none, just the names
	Chart   string   // that is asked for: name and version
}

func (e *RevisionGoneError) Error() string {
	return fmt.Sprintf("release %s/%s can't go back to chart %s with the values of then: Helm keeps %d revisions, and none is of that",
		e.Release.Namespace, e.Release.Name, e.Chart, maxHistory)
}

// Hint says what to do.
func (e *RevisionGoneError) Hint() string {
	return "pwdeploy up with that version of the chart and those values does the same"
}

// PlanRollback says what has to be done to make a release again what it was when it had this digest. Chart
// and Values of spec are not used but for words. A release of somebody else's is a *ForeignReleaseError, one
// that was never of that digest, or too long ago, or that is not there, a *RevisionGoneError. An operation that did not end is no obstacle, unless it takes the release away: then it
// is a *PendingError. It costs one request.
func (c *Client) PlanRollback(ctx context.Context, spec Spec, digest string) (Plan, error) {
	r := c.newRun(ctx, spec.Namespace)
	defer r.close()
	all, err := r.revisions(spec.Name)
	if errors.Is(err, ErrReleaseNotFound) {
		return Plan{}, &RevisionGoneError{Release: &Release{Name: spec.Name, Namespace: spec.Namespace}, Chart: spec.Chart.Name + " " + spec.Chart.Version}
	}
	if err != nil {
		return Plan{}, err
	}
	return decideRollback(all, spec, digest)
}

// decideRollback is the table of what follows from a release's revisions, of which there is at least one.
func decideRollback(all []*Release, spec Spec, digest string) (Plan, error) {
	plan := Plan{Digest: digest}
	var target *Release
	for _, rel := range all {
		if plan.Current == nil || rel.Revision > plan.Current.Revision {
			plan.Current = rel
		}
		if rel.Digest == digest && (target == nil || better(rel, target)) {
			target = rel
		}
	}
	current := plan.Current
	switch {
	case current.Instance != spec.Instance:
		return plan, &ForeignReleaseError{current}
	case current.Status == StatusUninstalling:
		return plan, &PendingError{current}
	case target == nil:
		return plan, &RevisionGoneError{Release: current, Chart: spec.Chart.Name + " " + spec.Chart.Version}
	case current.Status == StatusDeployed && current.Digest == digest && !spec.Force:
		plan.Action = ActionNone
	default:
		plan.Action, plan.RollbackTo = ActionRollback, target.Revision
	}
	return plan, nil
}

// better prefers, of two revisions of one digest, one that came to its end, and then the later one.
func better(a, b *Release) bool {
	if unended(a.Status) != unended(b.Status) {
		return unended(b.Status)
	}
	return a.Revision > b.Revision
}

// Rollback carries out a plan of PlanRollback: it applies what that revision applied, as a revision of its own. As with
// Apply, workloads may not be ready yet when it returns, and nothing goes on behind the caller's back when ctx ends.
func (c *Client) Rollback(ctx context.Context, spec Spec, plan Plan) error {
	r := c.newRun(ctx, spec.Namespace)
	defer r.close()
	if err := r.rollback(spec, plan); err != nil {
		return fmt.Errorf("roll back release %s/%s to revision %d: %w", spec.Namespace, spec.Name, plan.RollbackTo, err)
	}
	return nil
}

// rollback runs Helm's. It does not refuse a release whose newest revision is pending, as an upgrade would.
func (r *run) rollback(spec Spec, plan Plan) error {
	if err := r.prepareRollback(spec.Name, plan.RollbackTo); err != nil {
		return err
	}
	cfg, err := r.configuration(nil)
	if err != nil {
		return err
	}
	r.kube.onHook = spec.OnHook
	a := action.NewRollback(cfg)
	a.Version = plan.RollbackTo
	a.Timeout = spec.hookTimeout()
	a.MaxHistory = maxHistory
	if err := a.Run(spec.Name); err != nil {
		_, failErr := failPending(cfg.Releases, spec.Name, "the rollback did not end")
		return errors.Join(r.cause(err), failErr)
	}
	return nil
}

// prepareRollback sees to what an earlier run left that did not end. Helm compares the revision that it goes back to
// with the newest. Where that is an earlier attempt at the same, nothing would tell them apart, and what that attempt
// had still to take back would stay: its record is given up. What only older revisions made is deleted.
func (r *run) prepareRollback(name string, to int) error {
	history, err := r.history(name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(history, func(rel *release.Release) bool { return rel.Version == to })
	if i < 0 {
		return fmt.Errorf("revision %d is gone", to)
	}
	target, newest := history[i], history[0]
	if !unended(newest.Info.Status.String()) {
		return nil
	}
	records, err := r.records()
	if err != nil {
		return err
	}
	for newest != target && unended(newest.Info.Status.String()) && newest.Labels[DigestLabel] == target.Labels[DigestLabel] {
		if _, err := records.Delete(name, newest.Version); err != nil {
			return fmt.Errorf("give up revision %d, which did not end: %w", newest.Version, err)
		}
		history = history[1:]
		newest = history[0]
	}
	return r.sweep(name, newest, target)
}

// ObjectsOf gives what the manifest of one revision of a release holds, with the namespaces filled in.
func (c *Client) ObjectsOf(ctx context.Context, namespace, name string, revision int) ([]*unstructured.Unstructured, error) {
	r := c.newRun(ctx, namespace)
	defer r.close()
	rel, err := r.revision(name, revision)
	if err != nil {
		return nil, err
	}
	return r.objects(rel.Manifest)
}
