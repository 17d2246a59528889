package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
)

const (
	// settle is how long the controller waits after a change for the others that come with it, pause how long it
	// leaves between two reloads.
	settle = 50 * time.Millisecond
	pause  = 250 * time.Millisecond
	// statusPeriod is how often the status of the Ingresses is compared even if nothing changed, and how soon a
	// failed reload is tried again.
	statusPeriod = 10 * time.Second
	// maxWorkers is enough for a lab, and keeps a machine with many processors from starting hundreds of processes.
	maxWorkers = 4
	// stopTimeout bounds the wait for NGINX's last requests; the pod's own grace period may be shorter.
	stopTimeout = 250 * time.Second
)

// Controller keeps NGINX's configuration what the cluster's Ingresses say.
type Controller struct {
	Options Options
	Client  kubernetes.Interface
	// Binary is NGINX, Dir where it keeps its files.
	Binary, Dir string
	Log         *slog.Logger

	factories []informers.SharedInformerFactory
	objects   informers.SharedInformerFactory
	secrets   informers.SharedInformerFactory
	changed   chan struct{}
	// serving is false before the first configuration and after the signal to stop.
	serving  atomic.Bool
	nginx    *nginx
	balancer *balancer
}

// Run works until ctx ends, then stops NGINX gracefully.
func (c *Controller) Run(ctx context.Context) error {
	c.Log.Warn("this is a stand-in: NGINX from Debian's package behind the lab's own small controller, not ingress-nginx")
	c.changed = make(chan struct{}, 1)
	c.nginx = &nginx{binary: c.Binary, dir: c.Dir, log: c.Log, done: make(chan error, 1)}
	c.balancer = &balancer{dir: c.Dir, log: c.Log, open: map[string]*pool{}}
	if err := c.prepare(); err != nil {
		return err
	}
	// Informers and servers outlive ctx: they are needed while the last requests are answered.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 2)
	if err := c.serveHealth(working, failed); err != nil {
		return err
	}
	if err := c.watch(ctx, working); err != nil {
		return err
	}
	if err := c.serveWebhook(working, failed); err != nil {
		return err
	}
	for {
		select {
		case <-c.changed:
			sleep(ctx, settle)
			c.sync(working)
			sleep(ctx, pause)
		case <-time.After(statusPeriod):
			c.sync(working)
		case err := <-failed:
			return err
		case err := <-c.nginx.done:
			return fmt.Errorf("nginx ended by itself: %w", err)
		case <-ctx.Done():
			return c.stop(working)
		}
	}
}

// stop says first that the controller is not ready, so that nothing new comes, and then lets NGINX finish.
func (c *Controller) stop(ctx context.Context) error {
	c.serving.Store(false)
	c.Log.Info("stop", "grace", c.Options.ShutdownGrace)
	deadline := time.After(c.Options.ShutdownGrace)
	for waiting := true; waiting; {
		select {
		case <-c.changed: // pods come and go meanwhile
			c.sync(ctx)
		case <-deadline:
			waiting = false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.nginx.quit(ctx)
}

// prepare makes NGINX's folder and its default certificate.
func (c *Controller) prepare() error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	ca, err := certs.NewAuthority("Lab Ingress Controller", 365*24*time.Hour)
	if err != nil {
		return err
	}
	pair, err := ca.Issue(certs.Request{CommonName: "Kubernetes Ingress Controller Fake Certificate", Hosts: []string{"ingress.local"}, Lifetime: 365 * 24 * time.Hour})
	if err != nil {
		return err
	}
	return os.WriteFile(certificateFile(c.Dir, ""), slices.Concat(pair.Cert, pair.Key), 0o600)
}

// watch starts the informers and waits for the first full picture.
func (c *Controller) watch(ctx, working context.Context) error {
	slim := informers.WithTransform(func(o any) (any, error) {
		if m, ok := o.(metav1.Object); ok {
			m.SetManagedFields(nil)
		}
		return o, nil
	})
	namespace := informers.WithNamespace(c.Options.WatchNamespace)
	c.objects = informers.NewSharedInformerFactoryWithOptions(c.Client, 0, slim, namespace)
	c.secrets = informers.NewSharedInformerFactoryWithOptions(c.Client, 0, slim, namespace, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)).String()
	}))
	c.factories = []informers.SharedInformerFactory{c.objects, c.secrets}
	for _, informer := range []cache.SharedIndexInformer{
		c.objects.Networking().V1().Ingresses().Informer(), c.objects.Networking().V1().IngressClasses().Informer(),
		c.objects.Core().V1().Services().Informer(), c.objects.Discovery().V1().EndpointSlices().Informer(),
		c.secrets.Core().V1().Secrets().Informer(),
	} {
		if _, err := informer.AddEventHandler(c.handler()); err != nil {
			return err
		}
	}
	for _, f := range c.factories {
		f.StartWithContext(working)
	}
	for _, f := range c.factories {
		for kind, synced := range f.WaitForCacheSync(ctx.Done()) {
			if !synced {
				return fmt.Errorf("the list of %s didn't come: %w", kind, ctx.Err())
			}
		}
	}
	c.touch()
	return nil
}

func (c *Controller) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.touch() }, UpdateFunc: func(any, any) { c.touch() }, DeleteFunc: func(any) { c.touch() },
	}
}

func (c *Controller) touch() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// sync brings NGINX and the status of the Ingresses to the present state. What fails is tried again later.
func (c *Controller) sync(ctx context.Context) {
	s, err := c.state()
	if err != nil {
		c.Log.Error("read the state", "error", err)
		return
	}
	m := NewModel(&c.Options, s)
	if err := c.balancer.set(m.Upstreams); err != nil { //nolint:contextcheck // an upstream outlives the change that made it
		c.Log.Error("balance", "error", err)
		return
	}
	if err := c.nginx.apply(ctx, m, s.Secrets, min(runtime.NumCPU(), maxWorkers)); err != nil {
		c.Log.Error("configure nginx", "error", err)
		return
	}
	c.balancer.prune(m.Upstreams) //nolint:contextcheck // requests may end after the change
	if ctx.Err() == nil && c.Options.UpdateStatus {
		if err := c.publish(ctx, c.Options.own(s)); err != nil {
			c.Log.Error("write the status of the ingresses", "error", err)
		}
	}
	c.serving.CompareAndSwap(false, true)
}

// state reads the informers' picture. The objects are theirs and are only looked at.
func (c *Controller) state() (State, error) {
	s := State{Services: map[string]*corev1.Service{}, Secrets: map[string]*corev1.Secret{}}
	everything := labels.Everything()
	var errs [5]error
	s.Ingresses, errs[0] = c.objects.Networking().V1().Ingresses().Lister().List(everything)
	s.Classes, errs[1] = c.objects.Networking().V1().IngressClasses().Lister().List(everything)
	s.Slices, errs[2] = c.objects.Discovery().V1().EndpointSlices().Lister().List(everything)
	services, err := c.objects.Core().V1().Services().Lister().List(everything)
	errs[3] = err
	for _, o := range services {
		s.Services[key(o.Namespace, o.Name)] = o
	}
	secrets, err := c.secrets.Core().V1().Secrets().Lister().List(everything)
	errs[4] = err
	for _, o := range secrets {
		// One broken certificate would make NGINX refuse everybody's configuration.
		if _, err := tls.X509KeyPair(o.Data[corev1.TLSCertKey], o.Data[corev1.TLSPrivateKeyKey]); err == nil {
			s.Secrets[key(o.Namespace, o.Name)] = o
		}
	}
	return s, errors.Join(errs[:]...)
}

// serveHealth answers the probes: the controller works when NGINX answers and it isn't about to stop.
func (c *Controller) serveHealth(ctx context.Context, failed chan<- error) error {
	mux := http.NewServeMux()
	client := &http.Client{Timeout: 900 * time.Millisecond}
	mux.HandleFunc("GET "+c.Options.HealthPath, func(w http.ResponseWriter, r *http.Request) {
		if !c.serving.Load() {
			http.Error(w, "not ready", http.StatusInternalServerError)
			return
		}
		if err := ask(r.Context(), client, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(statusPort))); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return serve(ctx, net.JoinHostPort(c.Options.HealthHost, strconv.Itoa(c.Options.HealthPort)), mux, nil, failed)
}

func ask(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("nginx doesn't answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("nginx answers %s", response.Status)
	}
	return nil
}

// serveWebhook serves the admission webhook with the certificate as it is on disk at each handshake.
func (c *Controller) serveWebhook(ctx context.Context, failed chan<- error) error {
	if c.Options.Webhook == "" {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(filepath.Clean(c.Options.WebhookCertificate), filepath.Clean(c.Options.WebhookKey))
		return &pair, err
	}}
	return serve(ctx, c.Options.Webhook, &Webhook{Options: &c.Options, State: c.state, Log: c.Log}, config, failed)
}

// serve answers on an address until ctx ends.
func serve(ctx context.Context, address string, handler http.Handler, config *tls.Config, failed chan<- error) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
