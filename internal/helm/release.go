package helm

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Statuses of a release, as Helm writes them.
const (
	StatusDeployed        = "deployed"
	StatusFailed          = "failed"
	StatusSuperseded      = "superseded"
	StatusUninstalled     = "uninstalled"
	StatusUninstalling    = "uninstalling"
	StatusPendingInstall  = "pending-install"
	StatusPendingUpgrade  = "pending-upgrade"
	StatusPendingRollback = "pending-rollback"
)

// Spec is the release that should exist.
type Spec struct {
	Name, Namespace string
	Chart           *Chart
	Values          map[string]any
	// Instance says whose release it is. It is kept as a label on the release; a release without it, or
	// with another one, is never touched.
	Instance string
	// HookTimeout bounds each hook of the chart. 0 means DefaultHookTimeout: Helm itself would wait for
	// ever.
	HookTimeout time.Duration
	// Force applies the release again although neither chart nor values changed: its objects are known to
	// differ from its manifest.
	Force bool
	// OnHook is called when the wait for a hook begins: a Job or Pod that runs before or after the
	// chart's objects are made. May be nil.
	OnHook func(kind, namespace, name string)
}

func (s Spec) validate() error {
	switch {
	case s.Name == "" || s.Namespace == "":
		return errors.New("a release needs a name and a namespace")
	case s.Chart == nil:
		return fmt.Errorf("release %s/%s: no chart is given", s.Namespace, s.Name)
	default:
		return nil
	}
}

func (s Spec) hookTimeout() time.Duration { return orDefault(s.HookTimeout) }

func orDefault(timeout time.Duration) time.Duration {
	if timeout <= 0 {
		return DefaultHookTimeout
	}
	return timeout
}

// DefaultHookTimeout bounds a hook when Spec.HookTimeout is 0. It leaves time to pull an image.
const DefaultHookTimeout = 5 * time.Minute

// Release is what is known of a release: its newest revision.
type Release struct {
	Name, Namespace                 string
	Chart, ChartVersion, AppVersion string
	Status                          string // one of the Status constants
	Instance                        string // empty if pwdeploy did not install it
	Digest                          string // of chart and values; empty if pwdeploy did not install it
	Revision                        int
	Updated                         time.Time
	// Objects is what is on its way out. Only Uninstall sets it.
	Objects []*unstructured.Unstructured
}

// Action is what has to be done, or was done, to make a release what it should be.
type Action string

// The actions.
const (
	ActionNone    Action = "none"
	ActionInstall Action = "install"
	ActionUpgrade Action = "upgrade"
	// ActionRollback makes a release again what one of its earlier revisions was.
	ActionRollback Action = "rollback"
)

// Plan says what has to be done.
type Plan struct {
	Action  Action
	Current *Release // nil if there is none
	Digest  string   // of the chart and values that should be there
	// RollbackTo is Helm's revision that ActionRollback goes back to.
	RollbackTo int
}
