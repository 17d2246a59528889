package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// maxHistory is how many revisions of a release are kept. Helm's default is all of them.
const maxHistory = 5

// ClientOptions says how a Client reaches a cluster.
type ClientOptions struct {
	// Getter gives the connection, with a default namespace. All getters share one cache of the cluster's
	// kinds: Helm would otherwise ask for them at every action. Its rest.Config needs a warning handler, or
	// the API server's warnings go to the terminal.
	Getter func(namespace string) genericclioptions.RESTClientGetter
	// FieldManager is the name under which fields are owned. A Client that only renders needs none.
	FieldManager string
	// Log gets what Helm says, at debug level. nil: nothing is logged.
	Log *slog.Logger
	// KubeVersion is the cluster's version for Template, such as v1.34.0. Empty means Helm's default. The
	// other methods ask the cluster.
	KubeVersion string
}

// Client plans and carries out releases in one cluster. It is safe for concurrent use; two operations on
// the same release at once are not.
type Client struct {
	options ClientOptions
	log     *slog.Logger

	mu           sync.Mutex
	capabilities *chartutil.Capabilities
}

// NewClient makes a Client. It does not talk to the cluster.
//
// It changes two things that belong to the whole program, because Helm offers no other way: the name of
// the field manager, which is a variable of Helm's and the program's name by default, and the output of
// the standard logger, to which Helm and its libraries write warnings that would reach the terminal.
func NewClient(o ClientOptions) *Client {
	c := &Client{options: o, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if o.FieldManager != "" {
		kube.ManagedFieldsManager = o.FieldManager
	}
	log.SetFlags(0)
	log.SetOutput(logWriter{c.log})
	return c
}

// logWriter receives what libraries write to the standard logger.
type logWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug(strings.TrimSpace(string(p)), "from", "helm")
	return len(p), nil
}

// Get gives the newest revision of a release, or ErrReleaseNotFound. It costs one request, and reads only
// the metadata of Helm's records; for a release of somebody else's it reads the newest record too.
func (c *Client) Get(ctx context.Context, namespace, name string) (*Release, error) {
	r := c.newRun(ctx, namespace)
	defer r.close()
	return r.newest(name)
}

// Plan says what Apply would do. A release that is not of the Spec's instance is a *ForeignReleaseError,
// one with a status that pwdeploy does not know a *PendingError. One on which an operation did not end is to be
// upgraded, or installed if it was being taken away: Apply ends that first. Like Get it costs one request, and one more
// for a release that was being taken away, whose records Apply will need.
//
// It compares what was applied last with what should be there, not with the cluster: objects that were
// deleted or changed since are for the caller to find (see Objects) and to mend (see Spec.Force).
func (c *Client) Plan(ctx context.Context, spec Spec) (Plan, error) {
	if err := spec.validate(); err != nil {
		return Plan{}, err
	}
	if spec.Instance == "" {
		return Plan{}, fmt.Errorf("release %s/%s: no instance is given", spec.Namespace, spec.Name)
	}
	digest, err := spec.digest()
	if err != nil {
		return Plan{}, err
	}
	current, err := c.Get(ctx, spec.Namespace, spec.Name)
	if err != nil && !errors.Is(err, ErrReleaseNotFound) {
		return Plan{}, err
	}
	plan := Plan{Current: current, Digest: digest}
	plan.Action, err = decide(current, spec, digest)
	if err == nil && current != nil && plan.Action == ActionInstall {
		err = c.requireRecords(ctx, spec)
	}
	return plan, err
}

// requireRecords finds out whether what Helm recorded of a release can be read: it tells what an uninstall that did not
// end has left.
func (c *Client) requireRecords(ctx context.Context, spec Spec) error {
	r := c.newRun(ctx, spec.Namespace)
	defer r.close()
	_, err := r.history(spec.Name)
	return err
}

// decide is the table of what follows from a release's state.
func decide(current *Release, spec Spec, digest string) (Action, error) {
	if current == nil {
		return ActionInstall, nil
	}
	if current.Instance != spec.Instance {
		return ActionNone, &ForeignReleaseError{current}
	}
	switch current.Status {
	case StatusDeployed:
		if current.Digest == digest && !spec.Force {
			return ActionNone, nil
		}
		return ActionUpgrade, nil
	case StatusFailed, StatusSuperseded, StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback:
		return ActionUpgrade, nil
	case StatusUninstalled, StatusUninstalling:
		return ActionInstall, nil
	default:
		return ActionNone, &PendingError{current}
	}
}

// Apply makes the release what the Spec says, and does nothing where it is that already. It returns when
// the objects are in the cluster and the hooks are through, not when the workloads are ready. A hook that
// fails is a *HookError.
//
// When ctx is cancelled Apply stops before the next step, lets Helm record that the release failed, and
// returns; nothing goes on behind the caller's back (as it does with Helm's own cancellation,
// helm/helm#12086). The next Apply upgrades the failed release.
func (c *Client) Apply(ctx context.Context, spec Spec) (*Release, Action, error) {
	plan, err := c.Plan(ctx, spec)
	if err != nil || plan.Action == ActionNone {
		return plan.Current, plan.Action, err
	}
	r := c.newRun(ctx, spec.Namespace)
	defer r.close()
	applied, err := r.apply(spec, plan)
	if err != nil {
		return applied, plan.Action, fmt.Errorf("%s release %s/%s: %w", plan.Action, spec.Namespace, spec.Name, err)
	}
	return applied, plan.Action, nil
}

// Objects gives what the manifest of the deployed revision holds, or of the newest where none is
// deployed, with the namespaces filled in. Hooks are no part of it.
func (c *Client) Objects(ctx context.Context, namespace, name string) ([]*unstructured.Unstructured, error) {
	r := c.newRun(ctx, namespace)
	defer r.close()
	rel, err := r.deployed(name)
	if err != nil {
		return nil, err
	}
	return r.objects(rel.Manifest)
}

// Template renders a Spec without a cluster, hooks and custom resource definitions included, in the order
// in which Helm would create the objects; hooks, which carry the annotation helm.sh/hook, come last.
func (c *Client) Template(_ context.Context, spec Spec) ([]*unstructured.Unstructured, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	loaded, err := spec.Chart.load()
	if err != nil {
		return nil, err
	}
	install, err := c.dryInstall(spec)
	if err != nil {
		return nil, err
	}
	rel, err := install.Run(loaded, cloneValues(spec.Values))
	if err != nil {
		return nil, fmt.Errorf("render chart %s %s: %w", spec.Chart.Name, spec.Chart.Version, err)
	}
	return parseManifest(withHooks(rel))
}

func (c *Client) dryInstall(spec Spec) (*action.Install, error) {
	install := action.NewInstall(&action.Configuration{Log: c.debugf})
	install.ReleaseName, install.Namespace = spec.Name, spec.Namespace
	install.DryRun, install.ClientOnly, install.IncludeCRDs = true, true, true
	if c.options.KubeVersion == "" {
		return install, nil
	}
	version, err := chartutil.ParseKubeVersion(c.options.KubeVersion)
	install.KubeVersion = version
	return install, err
}

func withHooks(rel *release.Release) string {
	var b strings.Builder
	b.WriteString(rel.Manifest)
	for _, h := range rel.Hooks {
		b.WriteString("\n---\n" + h.Manifest)
	}
	return b.String()
}

// debugf is where Helm's actions log.
func (c *Client) debugf(format string, v ...any) {
	if c.log.Enabled(context.Background(), slog.LevelDebug) {
		c.log.Debug(strings.TrimSpace(fmt.Sprintf(format, v...)), "from", "helm")
	}
}

// kinds asks the cluster once what it is and which kinds it knows: chart templates depend on it.
func (c *Client) kinds(getter genericclioptions.RESTClientGetter) (*chartutil.Capabilities, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capabilities != nil {
		return c.capabilities, nil
	}
	disco, err := getter.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	version, err := disco.ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("ask the cluster for its version: %w", err)
	}
	kinds, err := action.GetVersionSet(disco)
	if err != nil {
		return nil, err
	}
	c.capabilities = &chartutil.Capabilities{
		KubeVersion: chartutil.KubeVersion{Version: version.GitVersion, Major: version.Major, Minor: version.Minor},
		APIVersions: kinds,
		HelmVersion: chartutil.DefaultCapabilities.HelmVersion,
	}
	return c.capabilities, nil
}

// forgetKinds makes the next action ask again: a chart brought new ones.
func (c *Client) forgetKinds() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capabilities = nil
}

// run is one action in one namespace, bound to a context.
type run struct {
	*Client
	ctx       context.Context // kept, because Helm's interfaces take none; a run lives as long as the call
	namespace string
	getter    genericclioptions.RESTClientGetter
	kube      *kubeClient
	stop      context.CancelFunc
}

func (c *Client) newRun(ctx context.Context, namespace string) *run {
	bound, stop := lingering(ctx, statusGrace)
	getter := &boundGetter{RESTClientGetter: c.options.Getter(namespace), ctx: bound}
	return &run{Client: c, ctx: ctx, namespace: namespace, getter: getter, stop: stop}
}

func (r *run) close() { r.stop() }

// configuration is made anew for every action: it is bound to the action's context. What is dear in it,
// the connection and the cluster's kinds, is shared.
func (r *run) configuration(loaded *chart.Chart) (*action.Configuration, error) {
	records, err := r.records()
	if err != nil {
		return nil, err
	}
	cfg := &action.Configuration{
		RESTClientGetter: r.getter,
		Releases:         records,
		KubeClient:       r.newKubeClient(),
		Log:              r.debugf,
		HookOutputFunc:   func(_, _, _ string) io.Writer { return io.Discard },
	}
	if loaded != nil && len(loaded.CRDObjects()) > 0 {
		// Helm installs them first and must then see their kinds: it asks by itself.
		r.forgetKinds()
		return cfg, nil
	}
	cfg.Capabilities, err = r.kinds(r.getter)
	return cfg, err
}

func (r *run) apply(spec Spec, plan Plan) (*Release, error) {
	loaded, err := spec.Chart.load()
	if err != nil {
		return nil, err
	}
	change, prepare := r.upgrade, r.recover
	if plan.Action == ActionInstall {
		change, prepare = r.install, r.finishUninstall
	}
	if err := prepare(spec, plan); err != nil {
		return nil, err
	}
	cfg, err := r.configuration(loaded)
	if err != nil {
		return nil, err
	}
	r.kube.onHook = spec.OnHook
	rel, err := change(cfg, spec, plan, loaded)
	return toRelease(rel), r.cause(err)
}

// install runs Helm's install. Not Atomic: on a failure that would delete the evidence. No Wait: it is a
// poll in sequence that names no culprit.
//
// Validation against the OpenAPI schema is off: Helm would download the schema, and with servers that
// validate fields themselves (all since Kubernetes 1.27) then leaves it to them, without asking them to.
func (r *run) install(cfg *action.Configuration, spec Spec, plan Plan, loaded *chart.Chart) (*release.Release, error) {
	a := action.NewInstall(cfg)
	a.ReleaseName, a.Namespace = spec.Name, spec.Namespace
	a.Timeout = spec.hookTimeout()
	a.Labels = releaseLabels(spec, plan.Digest)
	a.DisableOpenAPIValidation = true
	a.Replace = plan.Current != nil
	// Not RunWithContext: when the context ends that returns and leaves its goroutine working. The
	// kubeClient stops the action between its steps.
	return a.Run(loaded, cloneValues(spec.Values))
}

func (r *run) upgrade(cfg *action.Configuration, spec Spec, plan Plan, loaded *chart.Chart) (*release.Release, error) {
	a := action.NewUpgrade(cfg)
	a.Namespace = spec.Namespace
	a.Timeout = spec.hookTimeout()
	a.Labels = releaseLabels(spec, plan.Digest)
	a.DisableOpenAPIValidation = true
	a.ResetValues = true
	a.MaxHistory = maxHistory
	return a.Run(spec.Name, loaded, cloneValues(spec.Values))
}

// cause puts what really happened in place of Helm's words for it: Helm flattens the errors of hooks and
// deletions to text.
func (r *run) cause(err error) error {
	switch {
	case err == nil:
		return nil
	case r.ctx.Err() != nil:
		return fmt.Errorf("stopped: %w", context.Cause(r.ctx))
	case r.kube.err != nil && !errors.Is(err, r.kube.err):
		return r.kube.err
	default:
		return err
	}
}
