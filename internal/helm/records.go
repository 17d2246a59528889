package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
)

// Labels on the Secrets in which Helm records the revisions of a release. The first four are Helm's own,
// the others are pwdeploy's.
const (
	labelOwner    = "owner"
	labelName     = "name"
	labelStatus   = "status"
	labelRevision = "version"
	labelCreated  = "createdAt"
	labelModified = "modifiedAt"

	// InstanceLabel says which deployment a release belongs to.
	InstanceLabel = "pwdeploy/instance"
	// DigestLabel says of which chart and values a release was made.
	DigestLabel       = "pwdeploy/digest"
	labelChart        = "pwdeploy/chart"
	labelChartVersion = "pwdeploy/chart-version"
	labelAppVersion   = "pwdeploy/app-version"
)

// digestFormat changes when the way in which a release is made of a chart and values changes, so that
// releases are made anew.
const digestFormat = 1

// digest identifies the chart and values of a Spec: equal digests make equal releases. It is shortened to
// what fits a label.
func (s Spec) digest() (string, error) {
	canonical, err := json.Marshal(map[string]any{ // keys are sorted, at every depth
		"format": digestFormat, "chart": s.Chart.contents, "values": s.Values,
		"name": s.Name, "namespace": s.Namespace,
	})
	if err != nil {
		return "", fmt.Errorf("values of release %s/%s: %w", s.Namespace, s.Name, err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:20]), nil
}

func releaseLabels(s Spec, digest string) map[string]string {
	return map[string]string{
		InstanceLabel: s.Instance, DigestLabel: digest,
		labelChart: labelValue(s.Chart.Name), labelChartVersion: labelValue(s.Chart.Version), labelAppVersion: labelValue(s.Chart.AppVersion),
	}
}

// labelValue makes a version fit a label: the plus sign of a semantic version may not stand there, nor
// more than 63 characters.
func labelValue(s string) string {
	s = strings.ReplaceAll(s, "+", "_")
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z') {
			return r
		}
		return '-'
	}, s)
	return strings.Trim(s[:min(len(s), 63)], "-_.")
}

// records opens Helm's store of a namespace's releases.
func (r *run) records() (*storage.Storage, error) {
	config, err := r.getter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	secrets := driver.NewSecrets(client.Secrets(r.namespace))
	secrets.Log = r.debugf
	s := storage.Init(&records{Driver: secrets, written: map[string]release.Status{}})
	s.Log = r.debugf
	s.MaxHistory = maxHistory
	return s, nil
}

// records leaves out writes that say nothing new: Helm writes the whole record at every hook, to note that
// it began. The write that ends the action holds that too.
type records struct {
	driver.Driver
	written map[string]release.Status
}

// Create implements driver.Driver.
func (r *records) Create(key string, rel *release.Release) error {
	r.written[key] = rel.Info.Status
	return r.Driver.Create(key, rel)
}

// Update implements driver.Driver.
func (r *records) Update(key string, rel *release.Release) error {
	if last, ok := r.written[key]; ok && last == rel.Info.Status && last.IsPending() {
		return nil
	}
	r.written[key] = rel.Info.Status
	return r.Driver.Update(key, rel)
}

// newest gives the newest revision by the labels of the records, which are small where the records are
// not.
func (r *run) newest(name string) (*Release, error) {
	all, err := r.revisions(name)
	if err != nil {
		return nil, err
	}
	newest := all[0]
	for _, rel := range all[1:] {
		if rel.Revision > newest.Revision {
			newest = rel
		}
	}
	if newest.Instance == "" {
		r.describeForeign(newest)
	}
	return newest, nil
}

// revisions gives what Helm keeps of a release, in no order. None is ErrReleaseNotFound.
func (r *run) revisions(name string) ([]*Release, error) {
	config, err := r.getter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	list, err := client.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(r.namespace).
		List(r.ctx, metav1.ListOptions{LabelSelector: labelOwner + "=helm," + labelName + "=" + name})
	if err != nil {
		return nil, fmt.Errorf("read the releases in namespace %s: %w", r.namespace, err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("%w: %s/%s", ErrReleaseNotFound, r.namespace, name)
	}
	all := make([]*Release, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, fromLabels(r.namespace, list.Items[i].Labels))
	}
	return all, nil
}

func fromLabels(namespace string, l map[string]string) *Release {
	revision, _ := strconv.Atoi(l[labelRevision]) // written by Helm; 0, older than all, if somebody broke it
	return &Release{
		Name: l[labelName], Namespace: namespace, Status: l[labelStatus], Revision: revision,
		Instance: l[InstanceLabel], Digest: l[DigestLabel], Chart: l[labelChart],
		ChartVersion: strings.ReplaceAll(l[labelChartVersion], "_", "+"), AppVersion: l[labelAppVersion],
		Updated: updated(l),
	}
}

// updated is the later of two labels: an upgrade inherits the one of modification.
func updated(l map[string]string) time.Time {
	created, _ := strconv.ParseInt(l[labelCreated], 10, 64)
	modified, _ := strconv.ParseInt(l[labelModified], 10, 64)
	return time.Unix(max(created, modified), 0)
}

// describeForeign fills in from the record what pwdeploy's labels would say, for the message. It is no
// failure if that can't be read.
func (r *run) describeForeign(found *Release) {
	rel, err := r.revision(found.Name, found.Revision)
	if err != nil {
		r.log.DebugContext(r.ctx, "the record of a foreign release can't be read", "release", found.Name, "error", err)
		return
	}
	if full := toRelease(rel); full != nil {
		found.Chart, found.ChartVersion, found.AppVersion = full.Chart, full.ChartVersion, full.AppVersion
	}
}

// revision reads one record.
func (r *run) revision(name string, revision int) (*release.Release, error) {
	return latest(r.query(map[string]string{labelOwner: "helm", labelName: name, labelRevision: strconv.Itoa(revision)}))
}

// history reads all records of a release, the newest first.
func (r *run) history(name string) ([]*release.Release, error) {
	return r.query(map[string]string{labelOwner: "helm", labelName: name})
}

// deployed reads the record of the deployed revision, or of the newest where none is.
func (r *run) deployed(name string) (*release.Release, error) {
	rel, err := latest(r.query(map[string]string{labelOwner: "helm", labelName: name, labelStatus: StatusDeployed}))
	if !errors.Is(err, ErrReleaseNotFound) {
		return rel, err
	}
	newest, err := r.newest(name)
	if err != nil {
		return nil, err
	}
	return r.revision(name, newest.Revision)
}

// query reads the records with these labels, the newest first. There is at least one.
func (r *run) query(labels map[string]string) ([]*release.Release, error) {
	records, err := r.records()
	if err != nil {
		return nil, err
	}
	found, err := records.Query(labels)
	switch {
	case errors.Is(err, driver.ErrReleaseNotFound):
		return nil, fmt.Errorf("%w: %s/%s", ErrReleaseNotFound, r.namespace, labels[labelName])
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, fmt.Errorf("the record of release %s/%s is damaged: kubectl -n %s delete secret -l owner=helm,name=%s gives it up",
			r.namespace, labels[labelName], r.namespace, labels[labelName])
	}
	slices.SortFunc(found, func(a, b *release.Release) int { return b.Version - a.Version })
	return found, nil
}

// latest gives the first of what query found.
func latest(found []*release.Release, err error) (*release.Release, error) {
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// toRelease takes over what matters of Helm's release; nil stays nil.
func toRelease(rel *release.Release) *Release {
	if rel == nil {
		return nil
	}
	r := &Release{
		Name: rel.Name, Namespace: rel.Namespace, Revision: rel.Version,
		Instance: rel.Labels[InstanceLabel], Digest: rel.Labels[DigestLabel],
	}
	if rel.Info != nil {
		r.Status, r.Updated = rel.Info.Status.String(), rel.Info.LastDeployed.Time
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart, r.ChartVersion, r.AppVersion = rel.Chart.Name(), rel.Chart.Metadata.Version, rel.Chart.AppVersion()
	}
	return r
}

// statusGrace is how long after the end of its context an action may still talk to the cluster, to
// record what became of the release.
const statusGrace = 15 * time.Second

// lingering gives a context that ends a while after ctx does.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	bound, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(bound, func() { timer.Stop() })
	})
	return bound, func() { stop(); cancel() }
}
