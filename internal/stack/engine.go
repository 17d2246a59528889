// Package stack knows what the deployment consists of (Redis, ingress-nginx, the app) and carries out up,
// status and down on it. It returns values and a stream of events, and never prints.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// Names of the releases and of what pwdeploy itself adds beside them.
const (
	redisRelease   = "redis"
	ingressRelease = "ingress-nginx"

	redisPasswordSecret = "pwdeploy-redis" // in Redis' namespace, made once
	redisPasswordKey    = "redis-password" //nolint:gosec // the name of a key, not a credential
)

// Options is what an Engine needs beside its configuration.
type Options struct {
	Version string      // of pwdeploy, for the user agent
	Emit    func(Event) // gets the events, from one goroutine at a time; may be nil
	Log     *slog.Logger
	Wrap    func(http.RoundTripper) http.RoundTripper // seam for counting requests; may be nil

	LeaseDuration time.Duration // of the lock, in whole seconds; 0 means kube.LeaseDuration
	Looking       bool          // for Check: a record that this user may not read is no error
}

// Engine carries out commands on one cluster.
type Engine struct {
	cfg       config.Config
	version   string // of pwdeploy
	target    Target
	nodes     kube.Nodes
	inventory *kube.Inventory // of the last up; nil if there was none
	unread    error           // why the record could not be read, for Check
	kube      *kube.Client
	helm      *helm.Client
	charts    *helm.Store
	events    *emitter
	ledger    *ledger

	leaseDuration time.Duration
}

// Target is the cluster that a command is about to touch.
type Target struct {
	Context         string `json:"context"`
	Cluster         string `json:"cluster,omitempty"`
	Server          string `json:"server"`
	Kubernetes      string `json:"kubernetes"`             // the API server's version
	Distribution    string `json:"distribution,omitempty"` // kind, minikube, eks, ...; empty if not recognized
	Profile         string `json:"profile"`
	ProfileDetected bool   `json:"profileDetected"`
	Namespace       string `json:"namespace"`
}

// Open checks the configuration, connects to the cluster, and finds out what kind of cluster it is. It
// changes nothing. A configuration that can't be used is an *InputError, and the cluster is not asked.
func Open(ctx context.Context, cfg config.Config, o Options) (*Engine, error) {
	if err := check(cfg); err != nil {
		return nil, &InputError{Err: err}
	}
	over := ctx.Done()
	ctx, cancel := limited(ctx, time.Duration(cfg.Timeout))
	defer cancel()
	events := newEmitter(o.Emit)
	client, err := kube.Connect(ctx, kube.Options{
		Kubeconfig: cfg.Kubeconfig, Context: cfg.Context, UserAgent: "pwdeploy/" + o.Version, Log: o.Log, Wrap: o.Wrap,
		Diagnose: diagnose,
		Tell:     func(message string) { events.warn(Cluster, message) }, Over: over, Patience: time.Duration(cfg.Timeout),
	})
	if err != nil {
		return nil, err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	inventory, err := client.ReadInventory(ctx, cfg.Namespace)
	unread := err
	if err != nil && (!o.Looking || !apierrors.IsForbidden(err)) {
		return nil, err
	}
	cacheDir, err := cacheDir(cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	return &Engine{
		cfg: cfg, version: o.Version, kube: client, nodes: nodes, inventory: inventory, unread: unread, events: events, ledger: newLedger(), leaseDuration: o.LeaseDuration,
		target: targetOf(cfg, client, nodes, inventory),
		charts: helm.NewStore(cacheDir),
		helm: helm.NewClient(helm.ClientOptions{
			Getter:       func(ns string) genericclioptions.RESTClientGetter { return client.Getter(ns) },
			FieldManager: kube.FieldManager, Log: o.Log, KubeVersion: client.Version.GitVersion,
		}),
	}, nil
}

// check finds what is wrong with a configuration before any cluster is asked.
func check(cfg config.Config) error {
	return errors.Join(
		params(cfg, config.ProfileLocal, controller{class: cfg.Ingress.ClassName, namespace: cfg.Ingress.Namespace}).Validate(),
		source(helm.DefaultRedis(), cfg.Redis.Chart).Validate(),
		source(helm.DefaultIngressNginx(), cfg.Ingress.Chart).Validate(),
	)
}

// Target says which cluster the engine works on.
func (e *Engine) Target() Target { return e.target }

func targetOf(cfg config.Config, client *kube.Client, nodes kube.Nodes, inventory *kube.Inventory) Target {
	t := Target{
		Context: client.Context, Cluster: client.Cluster, Server: client.Host, Kubernetes: client.Version.GitVersion,
		Distribution: nodes.Distribution, Profile: cfg.Profile, Namespace: cfg.Namespace,
	}
	if t.Profile == "" && inventory != nil {
		t.Profile = inventory.Settings[settingProfile]
	}
	if t.Profile == "" {
		t.Profile, t.ProfileDetected = profileOf(nodes.Distribution), true
	}
	return t
}

// What the record's settings are named.
const (
	settingHost    = "host"
	settingImage   = "image"
	settingProfile = "profile"

	settingKeepReplicas = "keepReplicas" // "true", or left out
)

// profileOf is the profile that suits a distribution. Where nothing is recognized it is the one that
// needs least of the cluster.
func profileOf(distribution string) string {
	if distribution == "eks" || distribution == "eks-auto" {
		return config.ProfileAWS
	}
	return config.ProfileLocal
}

func cacheDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for charts: %w; set cacheDir in pwdeploy.yaml", err)
	}
	return filepath.Join(base, "pwdeploy", "charts"), nil
}

// instance marks what this deployment owns: deployments in other namespaces are somebody else's.
func (e *Engine) instance() string { return e.cfg.Namespace }

func (e *Engine) timeout() time.Duration { return time.Duration(e.cfg.Timeout) }

// follow makes the engine look where the last run put things, whatever the configuration at hand says:
// status and down are often run without the file or the flags that up had.
func (e *Engine) follow() {
	if e.inventory == nil {
		return
	}
	for _, r := range e.inventory.Releases {
		switch r.Name {
		case redisRelease:
			e.cfg.Redis.Namespace = r.Namespace
		case ingressRelease:
			e.cfg.Ingress.Namespace = r.Namespace
		}
	}
	if host := e.inventory.Settings[settingHost]; host != "" {
		e.cfg.Host = host
	}
	if e.inventory.Settings[settingKeepReplicas] != "" {
		e.cfg.KeepReplicas = true
	}
	if e.inventory.IngressClass != "" {
		e.cfg.Ingress.ClassName = e.inventory.IngressClass
	}
}

// TimeUpError is the cause of a context whose time, Config.Timeout, is over: it says so where "context deadline
// exceeded" would stand. It is a context.DeadlineExceeded.
type TimeUpError struct{ Limit time.Duration }

// Error implements error.
func (e *TimeUpError) Error() string {
	return fmt.Sprintf("the %s of --timeout are over", e.Limit)
}

// Hint says what to do.
func (e *TimeUpError) Hint() string {
	return "set --timeout higher; where the API server is slow, look at it, its etcd and its webhooks first"
}

// Is makes it what a context without a cause gives.
func (e *TimeUpError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout is what context.DeadlineExceeded says of itself to net.Error.
func (e *TimeUpError) Timeout() bool { return true }

// limited gives a context for a whole command.
func (e *Engine) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return limited(ctx, e.timeout())
}

func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &TimeUpError{limit})
}
