// Package kube talks to a Kubernetes API server: it connects, applies, watches and deletes objects, and
// says why one is not ready. It knows nothing of what pwdeploy deploys.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// FieldManager is the name under which pwdeploy owns fields (server-side apply, KEP-555).
const FieldManager = "pwdeploy"

// connectTimeout bounds the first request: a cluster that does not say its version in this time is
// reported as away rather than waited for.
const connectTimeout = 15 * time.Second

// Options says which cluster to use and how.
type Options struct {
	Kubeconfig string // path; empty: KUBECONFIG, then ~/.kube/config, as kubectl does
	Context    string // empty: the kubeconfig's current one
	UserAgent  string
	Log        *slog.Logger                                 // nil: nothing is logged
	Wrap       func(rt http.RoundTripper) http.RoundTripper // seam for counting requests; may be nil
	// Tell gets a line when the API server is away, throttles or is slow, and when it is back; may be nil.
	Tell func(message string)
	// Patience is how long an API server that is away is waited for, where a request has no deadline of its own; 0: for ever.
	Patience time.Duration
	// Over is closed when the command is over: an API server that is away is waited for no longer. nil: never.
	Over <-chan struct{}
	// Diagnose is given a problem of a container and the last lines of its log, and may name the cause better: this
	// package does not know the programs that run. It may be nil.
	Diagnose func(p *Problem, log []string)
}

// Client is a connection to one cluster. It is safe for concurrent use.
type Client struct {
	Context string // the kubeconfig's context in use; empty inside a cluster
	Cluster string // the kubeconfig's name of the cluster
	Host    string // the API server's URL
	Version *version.Info

	options Options
	traffic traffic
	link    *link
	config  *rest.Config
	log     *slog.Logger
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	cached  discovery.CachedDiscoveryInterface
	mapper  meta.RESTMapper
}

// Connect reads the kubeconfig and asks the cluster for its version. It changes nothing, the
// kubeconfig's current context included. What goes wrong is a *ConnectError.
func Connect(ctx context.Context, o Options) (*Client, error) {
	c, err := newClient(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var v version.Info
	body, err := c.typed.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	if err == nil {
		err = json.Unmarshal(body, &v)
	}
	if err != nil {
		failure := classify(err, c.Context, c.Host)
		if plugin := c.config.ExecProvider; plugin != nil && failure.Problem == unreachable {
			failure.Problem = "no credentials for the cluster"
			failure.Advice = fmt.Sprintf("they come from the command %s, which may need a new login (for EKS: aws sso login)", plugin.Command)
		}
		if expired := clientCertificate(c.config, time.Now()); expired != "" && apierrors.IsUnauthorized(err) {
			failure.Problem = expired
			failure.Advice = "fetch the kubeconfig again, or renew the certificate (kubeadm certs renew); check this machine's clock too"
		}
		return nil, failure
	}
	c.Version = &v
	c.link.connect()
	return c, nil
}

func newClient(o Options) (*Client, error) {
	raw := loadKubeconfig(o, "")
	c := &Client{options: o, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := c.chooseContext(raw, o.Context); err != nil {
		return nil, err
	}
	config, err := raw.ClientConfig()
	if err != nil {
		return nil, noConfig(err, c.Context)
	}
	c.Host = config.Host
	c.link = newLink(o, config.Host)
	c.config = tune(config, o, c.log)
	c.config.Wrap(c.traffic.wrap)
	c.config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &persistentTransport{next, c.link} })
	return c, c.makeClients()
}

func loadKubeconfig(o Options, namespace string) clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	rules.WarnIfAllMissing = false
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	overrides.Context.Namespace = namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// chooseContext notes the names of the context and its cluster, and refuses a context that is not there
// (clientcmd would silently fall back to localhost or to the pod's own account).
func (c *Client) chooseContext(raw clientcmd.ClientConfig, name string) error {
	kubeconfig, err := raw.RawConfig()
	if err != nil {
		return noConfig(err, name)
	}
	c.Context = name
	if c.Context == "" {
		c.Context = kubeconfig.CurrentContext
	}
	if c.Context == "" {
		return nil
	}
	chosen, ok := kubeconfig.Contexts[c.Context]
	if !ok {
		names := make([]string, 0, len(kubeconfig.Contexts))
		for name := range kubeconfig.Contexts {
			names = append(names, name)
		}
		slices.Sort(names)
		advice := "the kubeconfig has no contexts: create a cluster or fetch its kubeconfig"
		if len(names) > 0 {
			advice = "known contexts: " + strings.Join(names, ", ")
		}
		return &ConnectError{Problem: fmt.Sprintf("context %q is not in the kubeconfig", c.Context), Advice: advice}
	}
	c.Cluster = chosen.Cluster
	return nil
}

func noConfig(err error, contextName string) *ConnectError {
	e := &ConnectError{Context: contextName, Err: err}
	switch {
	case clientcmd.IsEmptyConfig(err), errors.Is(err, rest.ErrNotInCluster):
		e.Problem, e.Err = "no cluster is configured in "+strings.Join(clientcmd.NewDefaultClientConfigLoadingRules().GetLoadingPrecedence(), ", "), nil
		e.Advice = "create one (minikube start, kind create cluster, aws eks update-kubeconfig) or name a kubeconfig with --kubeconfig"
	case errors.Is(err, fs.ErrNotExist):
		e.Problem, e.Advice = "the kubeconfig can't be read", "check the path given with --kubeconfig or KUBECONFIG"
	default:
		e.Problem, e.Advice = "the kubeconfig is not valid", "kubectl config view shows what kubectl makes of it"
	}
	return e
}

// tune sets what every request shares. The client-side limit of 5 requests a second is switched off:
// the API server's own priority and fairness decides (KEP-1040).
func tune(config *rest.Config, o Options, log *slog.Logger) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = -1, 0
	config.ContentType = runtime.ContentTypeJSON // client-go prefers protobuf for most kinds, which persistentTransport can't read
	config.WarningHandlerWithContext = warnings{log}
	if o.UserAgent != "" {
		config.UserAgent = o.UserAgent
	}
	if o.Wrap != nil {
		config.Wrap(o.Wrap)
	}
	return config
}

func (c *Client) makeClients() error {
	httpClient, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return noConfig(err, c.Context)
	}
	typed, err := kubernetes.NewForConfigAndClient(c.config, httpClient)
	if err != nil {
		return noConfig(err, c.Context)
	}
	dyn, err := dynamic.NewForConfigAndClient(c.config, httpClient)
	if err != nil {
		return noConfig(err, c.Context)
	}
	c.typed, c.dynamic = typed, dyn
	c.cached = memory.NewMemCacheClient(typed.Discovery())
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(c.cached)
	return nil
}

// warnings sends the API server's warnings to the log: they never reach the terminal raw.
type warnings struct{ log *slog.Logger }

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (w warnings) HandleWarningHeaderWithContext(ctx context.Context, code int, agent, text string) {
	w.log.InfoContext(ctx, "the API server warns", "code", code, "agent", agent, "text", text)
}

// Getter gives Helm and cli-runtime the same connection and discovery, with a default namespace.
func (c *Client) Getter(namespace string) genericclioptions.RESTClientGetter {
	return &getter{client: c, namespace: namespace}
}

type getter struct {
	client    *Client
	namespace string
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.client.config), nil }

// ToDiscoveryClient implements genericclioptions.RESTClientGetter.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.client.cached, nil
}

// ToRESTMapper implements genericclioptions.RESTClientGetter.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.client.mapper, nil }

// ToRawKubeConfigLoader implements genericclioptions.RESTClientGetter.
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return loadKubeconfig(g.client.options, g.namespace)
}
