package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// StatusResult is what is there, and how it is.
type StatusResult struct {
	Target     Target            `json:"target"`
	Deployed   bool              `json:"deployed"` // something of this deployment is there
	Healthy    bool              `json:"healthy"`  // all of it is there, ready and served
	Drifted    bool              `json:"drifted"`  // somebody changed what was deployed
	Host       string            `json:"host"`
	URL        string            `json:"url,omitempty"`
	Endpoint   *Served           `json:"endpoint,omitempty"` // the request that was answered
	Components []ComponentStatus `json:"components"`
}

// ComponentStatus is how a component is.
type ComponentStatus struct {
	Name    Component      `json:"name"`
	Ready   bool           `json:"ready"`
	Drifted bool           `json:"drifted,omitempty"` // somebody changed some of its objects
	Version string         `json:"version,omitempty"` // "chart 23.1.1, revision 1", or the image
	Message string         `json:"message"`
	Reason  string         `json:"reason,omitempty"` // why it is not ready
	Hint    string         `json:"hint,omitempty"`
	Objects []ObjectStatus `json:"objects,omitempty"`

	served *Served // of the endpoint
	image  string  // that the first of its workloads runs
}

// ObjectStatus is how one object is.
type ObjectStatus struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	Ready     bool     `json:"ready"`
	Missing   bool     `json:"missing,omitempty"` // it is not there at all
	Message   string   `json:"message"`
	Reason    string   `json:"reason,omitempty"`
	Hint      string   `json:"hint,omitempty"`
	Evidence  []string `json:"evidence,omitempty"`
	Workload  bool     `json:"workload"` // it runs pods, or is a volume: the objects that matter most

	Drift []kube.Conflict `json:"drift,omitempty"` // what somebody changed of it since it was applied
}

// Status reads how the deployment is. It changes nothing.
func (e *Engine) Status(ctx context.Context) (*StatusResult, error) {
	ctx, cancel := e.limited(ctx)
	defer cancel()
	e.follow()
	found, err := e.findController(ctx)
	if err != nil {
		return nil, err
	}
	reads := []func() (ComponentStatus, error){
		func() (ComponentStatus, error) {
			return e.releaseStatus(ctx, Redis, e.cfg.Redis.Namespace, redisRelease)
		},
		func() (ComponentStatus, error) { return e.controllerStatus(ctx, found) },
		func() (ComponentStatus, error) { return e.appStatus(ctx) },
		func() (ComponentStatus, error) { return e.endpointStatus(ctx, found) },
	}
	components := make([]ComponentStatus, len(reads))
	var group errgroup.Group
	for i, read := range reads {
		group.Go(func() (err error) {
			components[i], err = read()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return e.summarize(components), nil
}

func (e *Engine) summarize(components []ComponentStatus) *StatusResult {
	out := &StatusResult{Target: e.target, Host: e.cfg.Host, Healthy: true, Deployed: e.inventory != nil, Components: components}
	for _, c := range components {
		out.Healthy, out.Drifted = out.Healthy && c.Ready, out.Drifted || c.Drifted
		if c.served != nil {
			out.URL, out.Endpoint = c.served.URL, c.served
		}
	}
	return out
}

// Component messages that are told apart from one another.
const (
	messageReady        = "ready"
	messageNotInstalled = "not installed"
	messageNotReady     = "not ready"
	messageDrifted      = "drifted"
)

func (e *Engine) releaseStatus(ctx context.Context, c Component, namespace, name string) (ComponentStatus, error) {
	out := ComponentStatus{Name: c, Message: messageNotInstalled}
	release, err := e.helm.Get(ctx, namespace, name)
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Version = fmt.Sprintf("chart %s, revision %d", release.ChartVersion, release.Revision)
	if release.Instance != e.instance() {
		foreign := &helm.ForeignReleaseError{Release: release}
		out.Message, out.Reason, out.Hint = "not ours", foreign.Error(), foreign.Hint()
		return out, nil
	}
	objs, err := e.helm.Objects(ctx, namespace, name)
	if err != nil {
		return out, err
	}
	refs := kube.RefsOf(objs)
	if c == Redis {
		refs = append(refs, e.passwordRef())
	}
	drift := noDrift
	if release.Status == helm.StatusDeployed { // else some of it may be of the next revision, or of the one before
		drift = releaseDrift(objs)
	}
	if err := e.assess(ctx, &out, refs, drift); err != nil {
		return out, err
	}
	if release.Status != helm.StatusDeployed {
		out.Ready, out.Message = false, "release "+release.Status
		if out.Reason == "" {
			out.Reason, out.Hint = "the last operation on the release did not end well", "run pwdeploy up again"
		}
	}
	return out, nil
}

// assess fills a component in with the state of its objects, and with what of them drift finds to be changed.
func (e *Engine) assess(ctx context.Context, out *ComponentStatus, refs []kube.Ref, drift driftFunc) error {
	states, err := e.kube.Assess(ctx, refs)
	if err != nil {
		return err
	}
	out.Ready, out.Message = true, messageReady
	for _, s := range states {
		if out.image == "" {
			out.image = s.Image
		}
		o := objectStatus(s)
		if o.Drift = drift(s); len(o.Drift) > 0 {
			out.Drifted = true
			if o.Ready && !o.Workload {
				o.Message = messageDrifted
			}
			o.Hint = cmp.Or(o.Hint, driftHint(out.Name, o.Drift))
		}
		out.Objects = append(out.Objects, o)
		if s.Ready {
			continue
		}
		out.Ready, out.Message = false, messageNotReady
		if out.Reason == "" {
			out.Reason, out.Hint = s.String(), o.Hint
		}
	}
	if out.Ready && out.Drifted {
		out.Message = messageDrifted
	}
	return nil
}

func objectStatus(s kube.Readiness) ObjectStatus {
	o := ObjectStatus{Kind: s.Ref.Kind, Namespace: s.Ref.Namespace, Name: s.Ref.Name, Ready: s.Ready, Missing: s.Missing, Message: s.Message, Workload: kube.Waitable(s.Ref.GroupKind())}
	switch {
	case s.Problem != nil:
		o.Reason, o.Hint, o.Evidence = s.Problem.String(), s.Problem.Hint, s.Problem.Evidence
	case s.Missing:
		o.Hint = "pwdeploy up puts it back"
	}
	return o
}

func (e *Engine) controllerStatus(ctx context.Context, c controller) (ComponentStatus, error) {
	if !c.foreign {
		return e.releaseStatus(ctx, Ingress, c.namespace, ingressRelease)
	}
	out := ComponentStatus{Name: Ingress, Version: "class " + c.class}
	ref := kube.Ref{GroupVersionKind: kube.IngressClassKind, Name: c.class}
	if err := e.assess(ctx, &out, []kube.Ref{ref}, noDrift); err != nil {
		return out, err
	}
	if out.Ready {
		out.Message = "not ours, used as it is"
	}
	return out, nil
}

func (e *Engine) appStatus(ctx context.Context) (ComponentStatus, error) {
	out := ComponentStatus{Name: App, Message: messageNotInstalled}
	if e.inventory == nil {
		return out, nil
	}
	drift, err := e.appDrift(ctx)
	if err != nil {
		return out, err
	}
	if err := e.assess(ctx, &out, e.inventory.Refs(), drift); err != nil {
		return out, err
	}
	if out.Version = out.image; out.Version == "" {
		out.Version = e.inventory.Settings[settingImage]
	}
	if !e.inventory.Complete && out.Ready {
		out.Ready, out.Message = false, messageNotReady
		command := e.cutOff(ctx)
		out.Reason, out.Hint = "the last pwdeploy "+command+" did not come to its end", "run pwdeploy "+command+" again"
	}
	return out, nil
}

// cutOff is the command that did not come to its end. Where it can't be read it is taken for an up.
func (e *Engine) cutOff(ctx context.Context) string {
	all, err := e.kube.ReadRevisions(ctx, e.cfg.Namespace)
	if err == nil && unfinishedRollback(all) > 0 {
		return "rollback"
	}
	return "up"
}

// endpointStatus asks the app for its greeting through the ingress.
func (e *Engine) endpointStatus(ctx context.Context, c controller) (ComponentStatus, error) {
	out := ComponentStatus{Name: Endpoint, Message: "not served"}
	if e.inventory == nil {
		return out, nil
	}
	answers := e.tryDirect(ctx, c, greet)
	served := firstServed(answers)
	if served == nil {
		forwarded := e.tryForward(ctx, c, greet)
		answers, served = append(answers, forwarded), forwarded.served
	}
	if served != nil {
		out.Ready, out.Version, out.Message, out.served = true, served.URL, "served "+how(served), served
		return out, nil
	}
	failed := &VerifyError{Host: e.cfg.Host}
	for _, a := range answers {
		failed.Attempts = append(failed.Attempts, a.String())
	}
	out.Reason, out.Hint = failed.Error(), "see the components above"
	return out, nil
}
