package helm

import (
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// recover makes a release fit for an upgrade after a run on it was killed or failed. Helm would refuse it for ever while
// its newest revision is pending (helm/helm#8987), and an upgrade starts from the last deployed revision: what only the
// revision made that did not end would be nobody's. So that one is marked as failed and, unless it is of what is about
// to be applied, the release first goes back to the one before.
//
// Nobody else must be at work on the release: the caller holds the deployment's lock.
func (r *run) recover(cfg *action.Configuration, spec Spec, plan Plan) error {
	if plan.Current == nil || !unended(plan.Current.Status) {
		return nil
	}
	newest, err := cfg.Releases.Last(spec.Name)
	if err != nil {
		return fmt.Errorf("read its newest revision: %w", err)
	}
	if newest.Info.Status.IsPending() {
		newest.SetStatus(release.StatusFailed, "the run that made it did not end")
		if err := cfg.Releases.Update(newest); err != nil {
			return fmt.Errorf("mark revision %d as failed: %w", newest.Version, err)
		}
	}
	if newest.Labels[DigestLabel] == plan.Digest {
		return nil
	}
	good, err := cfg.Releases.Deployed(spec.Name)
	if errors.Is(err, driver.ErrNoDeployedReleases) {
		return nil // an upgrade then starts from the newest, whatever became of it
	}
	if err != nil {
		return fmt.Errorf("read its deployed revision: %w", err)
	}
	return r.rollback(spec, Plan{RollbackTo: good.Version})
}

// unended tells the statuses of a revision that may have left something behind.
func unended(status string) bool {
	switch status {
	case StatusFailed, StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback:
		return true
	}
	return false
}
