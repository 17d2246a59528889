package helm

import (
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// recover makes a release fit for an upgrade after a run on it was killed or failed. Helm would refuse it for ever while
// its newest revision is pending (helm/helm#8987), and an upgrade starts from the last deployed revision: what only the
// revision made that did not end would be nobody's. So that one is marked as failed and, unless it is of what is about
// to be applied, the release first goes back to the one before.
//
// Nobody else must be at work on the release: the caller holds the deployment's lock.
func (r *run) recover(spec Spec, plan Plan) error {
	if plan.Current == nil || !unended(plan.Current.Status) {
		return nil
	}
	records, err := r.records()
	if err != nil {
		return err
	}
	newest, err := failPending(records, spec.Name, "the run that made it did not end")
	if err != nil {
		return err
	}
	good, err := records.Deployed(spec.Name)
	switch {
	case errors.Is(err, driver.ErrNoDeployedReleases): // an upgrade then starts from the newest, whatever became of it
		return r.sweep(spec.Name, newest)
	case err != nil:
		return fmt.Errorf("read its deployed revision: %w", err)
	case newest.Labels[DigestLabel] == plan.Digest:
		return r.sweep(spec.Name, newest, good)
	}
	return r.rollback(spec, Plan{RollbackTo: good.Version})
}

// failPending gives the newest revision, which it marks as failed if it is pending: Helm refuses every upgrade while it
// is. It does not do so by itself where a run is killed, nor where a rollback can't read a manifest or a hook fails.
func failPending(records *storage.Storage, name, why string) (*release.Release, error) {
	newest, err := records.Last(name)
	if err != nil {
		return nil, fmt.Errorf("read its newest revision: %w", err)
	}
	if !newest.Info.Status.IsPending() {
		return newest, nil
	}
	newest.SetStatus(release.StatusFailed, why)
	if err := records.Update(newest); err != nil {
		return nil, fmt.Errorf("mark revision %d as failed: %w", newest.Version, err)
	}
	return newest, nil
}

// unended tells the statuses of a revision that may have left something behind.
func unended(status string) bool {
	switch status {
	case StatusFailed, StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback:
		return true
	}
	return false
}
