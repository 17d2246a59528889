package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// History is what was deployed, the newest first.
type History struct {
	Target    Target     `json:"target"`
	Revisions []Revision `json:"revisions"`
}

// Revision is one set of app and releases that was deployed, or that a run tried to deploy.
type Revision struct {
	Number     int            `json:"number"`
	Status     RevisionStatus `json:"status"`
	StartedAt  time.Time      `json:"startedAt"`
	EndedAt    time.Time      `json:"endedAt,omitzero"`
	By         string         `json:"by"`             // user@host that pwdeploy ran as and on
	User       string         `json:"user,omitempty"` // the cluster's name for the user
	Pwdeploy   string         `json:"pwdeploy"`       // version
	ConfigFile string         `json:"configFile,omitempty"`
	Image      string         `json:"image"`
	Host       string         `json:"host"`
	Profile    string         `json:"profile"`
	Charts     []ChartInUse   `json:"charts"`
	RollbackTo int            `json:"rollbackTo,omitempty"` // it went back to what that revision was
	Note       string         `json:"note,omitempty"`
}

// ChartInUse is a chart that a revision has a release of.
type ChartInUse struct {
	Release         string `json:"release"` // namespace/name
	Chart           string `json:"chart"`
	Version         string `json:"version"`
	ChartDigest     string `json:"chartDigest,omitempty"`     // as redis.chart.digest pins it
	ReleaseDigest   string `json:"releaseDigest"`             // of the chart and its values
	ReleaseRevision int    `json:"releaseRevision,omitempty"` // Helm's
}

// RevisionStatus says what became of a revision.
type RevisionStatus string

// The statuses. The newest deployed revision is the one in use.
const (
	RevisionDeployed   RevisionStatus = "deployed"
	RevisionSuperseded RevisionStatus = "superseded" // it was deployed, and a later one is
	RevisionFailed     RevisionStatus = "failed"
	RevisionPending    RevisionStatus = "pending" // a run is under way, or was killed
	RevisionUnreadable RevisionStatus = "unreadable"
)

// History reads what was deployed. It changes nothing.
func (e *Engine) History(ctx context.Context) (*History, error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	stored, err := e.kube.ReadRevisions(ctx, e.cfg.Namespace)
	if err != nil {
		return nil, err
	}
	return &History{Target: e.target, Revisions: revisionsOf(stored)}, nil
}

// revisionsOf says of stored revisions, the newest first, what they are to each other: that a revision was
// superseded is nowhere written down.
func revisionsOf(stored []*kube.Revision) []Revision {
	out := make([]Revision, 0, len(stored))
	deployed := false // a newer one is
	for i, s := range stored {
		r := revisionOf(s)
		if r.Status == RevisionDeployed {
			if deployed {
				r.Status = RevisionSuperseded
			}
			deployed = true
		}
		r.Note = noteOn(s, i > 0)
		out = append(out, r)
	}
	return out
}

func revisionOf(s *kube.Revision) Revision {
	r := Revision{
		Number: s.Number, Status: RevisionStatus(s.Status), StartedAt: s.StartedAt, EndedAt: s.EndedAt,
		By: s.By, User: s.User, Pwdeploy: s.Pwdeploy, ConfigFile: s.ConfigFile,
		Image: s.Settings[settingImage], Host: s.Settings[settingHost], Profile: s.Settings[settingProfile],
		Charts: []ChartInUse{}, RollbackTo: s.RollbackTo,
	}
	for _, c := range s.Releases {
		r.Charts = append(r.Charts, ChartInUse{
			Release: c.Namespace + "/" + c.Name, Chart: c.Chart, Version: c.Version,
			ChartDigest: c.ChartDigest, ReleaseDigest: c.Digest, ReleaseRevision: c.Revision,
		})
	}
	return r
}

func noteOn(s *kube.Revision, followed bool) string {
	switch {
	case s.Status == kube.RevisionUnreadable:
		return "damaged, or written by a newer pwdeploy"
	case s.Status == kube.RevisionPending && followed:
		return "did not end"
	case s.Status == kube.RevisionPending:
		return "under way, or cut off"
	case s.RollbackTo > 0:
		return fmt.Sprintf("rollback to %d", s.RollbackTo)
	case s.ObjectsLeftOut:
		return "too large to go back to"
	}
	return ""
}

// newRevision describes what a run is about to deploy.
func (r *run) newRevision(user string) *kube.Revision {
	rev := &kube.Revision{
		Number: 1, Status: kube.RevisionPending, StartedAt: now(), By: whoRuns(), User: user,
		Pwdeploy: r.version, ConfigFile: r.cfg.File, Settings: r.record.Settings, IngressClass: r.plan.controller.class,
		Set: r.plan.set(), Objects: r.plan.app.whole(),
	}
	if r.inventory != nil {
		rev.Number = r.inventory.Revision + 1
	}
	rev.Releases = r.plan.revisionReleases()
	if r.options.back != nil {
		rev.RollbackTo = r.options.back.Number
	}
	return rev
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

// whoRuns is who runs pwdeploy, and where: "user@host".
func whoRuns() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// whole gives the app's objects with their namespace: what a revision is made of.
func (p appPlan) whole() []*unstructured.Unstructured {
	return append([]*unstructured.Unstructured{p.namespace}, p.all()...)
}

func (p *plan) revisionReleases() []kube.RevisionRelease {
	releases := []kube.RevisionRelease{revisionRelease(p.redis)}
	if p.ingress != nil {
		releases = append(releases, revisionRelease(*p.ingress))
	}
	return releases
}

func revisionRelease(rp releasePlan) kube.RevisionRelease {
	out := kube.RevisionRelease{InventoryChart: releaseRecord(rp), ChartDigest: rp.spec.Chart.Digest}
	if rp.Current != nil && rp.Action == helm.ActionNone {
		out.Revision = rp.Current.Revision
	}
	return out
}

// set identifies what the plan deploys: equal plans are one revision. An object that can't be written as
// JSON does not get this far: it was rendered from YAML.
func (p *plan) set() string {
	type release struct{ Namespace, Name, Digest string }
	var releases []release
	for _, r := range p.revisionReleases() {
		releases = append(releases, release{r.Namespace, r.Name, r.Digest})
	}
	sum := sha256.New()
	if err := json.NewEncoder(sum).Encode(map[string]any{"objects": p.app.whole(), "releases": releases}); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil)[:20])
}

// newSet reports whether this run deploys something else than the last one that was complete: then there
// will be a revision of it.
func (r *run) newSet() bool {
	return r.inventory == nil || !r.inventory.Complete || r.inventory.Set != r.plan.set()
}

// askWho asks the cluster who the user is, if that is going to be recorded.
func (r *run) askWho(ctx context.Context) <-chan string {
	user := make(chan string, 1)
	go func() {
		defer close(user)
		if r.newSet() {
			user <- r.kube.WhoAmI(ctx)
		}
	}()
	return user
}

// recordBefore stores, side by side, what is about to be made and the revision that it is for.
func (r *run) recordBefore(ctx context.Context, user string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.kube.WriteInventory(ctx, r.cfg.Namespace, r.record) })
	if r.newSet() {
		r.revision = r.newRevision(user)
		group.Go(func() error { return r.kube.WriteRevision(ctx, r.cfg.Namespace, r.revision) })
	}
	return group.Wait()
}

// endGrace bounds how long it may take to record how a run ended, after its time was up or it was
// interrupted.
const endGrace = 5 * time.Second

// revisionFailed records that the run did not come to its end, and adds to the failure what a rollback returns to.
// It is no second failure if that can't be done: the revision then stays pending.
func (r *run) revisionFailed(ctx context.Context, failure error) {
	if r.revision == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endGrace)
	defer cancel()
	r.revision.Status, r.revision.EndedAt = kube.RevisionFailed, now()
	_ = r.kube.EndRevision(ctx, r.cfg.Namespace, r.revision)
	var up *UpError
	if !errors.As(failure, &up) {
		return
	}
	if before := r.before(ctx); before != nil {
		back := revisionOf(before)
		up.Back = &back
	}
}

// before is the revision that a rollback returns to after this run failed, or nil.
func (r *run) before(ctx context.Context) *kube.Revision {
	if r.options.back != nil {
		return r.options.back
	}
	before, err := r.lastDeployed(ctx)
	if err != nil || before == nil || before.Set == r.revision.Set || before.ObjectsLeftOut {
		return nil
	}
	return before
}

// revisionDeployed records that the run came to its end, before the inventory says so: a run that is killed
// in between finds the same set again and takes the revision up.
func (r *run) revisionDeployed(ctx context.Context) error {
	if r.revision == nil {
		return nil
	}
	for i := range r.revision.Releases {
		release := &r.revision.Releases[i]
		if release.Revision > 0 {
			continue
		}
		made, err := r.helm.Get(ctx, release.Namespace, release.Name)
		if err != nil {
			return err
		}
		release.Revision = made.Revision
	}
	r.revision.Status, r.revision.EndedAt = kube.RevisionDeployed, now()
	if err := r.kube.EndRevision(ctx, r.cfg.Namespace, r.revision); err != nil {
		return err
	}
	if err := r.removeExpired(ctx); err != nil {
		r.events.warn(App, fmt.Sprintf("revisions that are too old could not be removed: %v", err))
	}
	return nil
}

// How many revisions are kept: so many in all, and so many that were deployed, however many failed after
// them.
const (
	keptRevisions = 10
	keptDeployed  = 2
)

// removeExpired deletes revisions that are too old.
func (r *run) removeExpired(ctx context.Context) error {
	if r.revision.Number <= keptRevisions {
		return nil
	}
	all, err := r.kube.ReadRevisions(ctx, r.cfg.Namespace)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, number := range expired(all) {
		group.Go(func() error { return r.kube.DeleteRevision(ctx, r.cfg.Namespace, number) })
	}
	return group.Wait()
}

// expired gives the numbers of the revisions, the newest first, that are no longer kept.
func expired(all []*kube.Revision) []int {
	var out []int
	deployed := 0
	for i, rev := range all {
		good := rev.Status == kube.RevisionDeployed
		if good {
			deployed++
		}
		if i >= keptRevisions && (!good || deployed > keptDeployed) {
			out = append(out, rev.Number)
		}
	}
	return out
}

// lastDeployed reads the revision that was deployed last, whose Objects are what the app's should be, or
// returns nil if there is none or it can't be read.
func (e *Engine) lastDeployed(ctx context.Context) (*kube.Revision, error) {
	if e.inventory == nil || e.inventory.Revision == 0 {
		return nil, nil
	}
	rev, err := e.kube.ReadRevision(ctx, e.cfg.Namespace, e.inventory.Revision)
	if err != nil || rev == nil || rev.Status == kube.RevisionUnreadable {
		return nil, err
	}
	return rev, nil
}

// removeRevisions deletes the revisions where the app's namespace stays.
func (e *Engine) removeRevisions(ctx context.Context) error {
	all, err := e.kube.ReadRevisions(ctx, e.cfg.Namespace)
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, rev := range all {
		group.Go(func() error { return e.kube.DeleteRevision(ctx, e.cfg.Namespace, rev.Number) })
	}
	return group.Wait()
}
