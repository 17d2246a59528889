package harness

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// controllerSelector selects the Services of ingress-nginx' controller.
const controllerSelector = "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller"

// Edge plays what fake pods can't: the node port of the ingress controller, which leads to the app by the Ingresses
// that are really there, and the controller's admission webhook.
type Edge struct {
	t    *testing.T
	ns   string // the controller's
	node string // the address of the nodes
	stop context.CancelFunc
	done sync.WaitGroup // what follows the cluster

	webhook      *httptest.Server
	webhookDelay time.Duration // between the webhook's configuration and its first answer

	mu       sync.Mutex
	servers  map[int32]*http.Server
	asked    int      // what the webhook was asked
	requests []string // what the app was asked
	stored   map[string]string
}

// StartEdge plays them for the controller in a namespace until the test ends.
func StartEdge(t *testing.T, namespace string) *Edge {
	t.Helper()
	e := &Edge{t: t, ns: namespace, node: nodeAddress(t), servers: map[int32]*http.Server{}, stored: map[string]string{}, webhookDelay: 300 * time.Millisecond}
	e.webhook = httptest.NewTLSServer(http.HandlerFunc(e.admit))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	e.stop = stop
	for _, follow := range []func(context.Context) error{e.followServices, e.followWebhooks} {
		e.done.Go(func() {
			for ctx.Err() == nil {
				if err := follow(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	t.Cleanup(e.Close)
	return e
}

// nodeAddress is the one that all nodes of a control plane without kubelets have.
func nodeAddress(t *testing.T) string {
	t.Helper()
	nodes, err := Admin(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				return a.Address
			}
		}
	}
	t.Fatal("no node has an address")
	return ""
}

// Close ends it early.
func (e *Edge) Close() {
	e.stop()
	e.done.Wait()
	e.webhook.Close()
	for _, s := range e.servers {
		s.Close()
	}
}

// followServices listens on the node ports that lead to controllers' port 80, as kube-proxy does.
func (e *Edge) followServices(ctx context.Context) error {
	w, err := Admin(e.t).CoreV1().Services(e.ns).Watch(ctx, metav1.ListOptions{LabelSelector: controllerSelector})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		service, ok := event.Object.(*corev1.Service)
		if !ok {
			return nil
		}
		for _, p := range service.Spec.Ports {
			if p.Port != 80 || p.NodePort == 0 {
				continue
			}
			if err := e.listen(ctx, p.NodePort, event.Type != "DELETED"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Edge) listen(ctx context.Context, port int32, on bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if server := e.servers[port]; (server != nil) == on {
		return nil
	} else if !on {
		delete(e.servers, port)
		return server.Close()
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(e.node, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(e.route), ReadHeaderTimeout: time.Second}
	e.servers[port] = server
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			e.t.Error(err)
		}
	}()
	return nil
}

// route answers as the app if an Ingress for the host leads to a Service with a Deployment that is available.
func (e *Edge) route(w http.ResponseWriter, r *http.Request) {
	list, err := Admin(e.t).NetworkingV1().Ingresses("").List(r.Context(), metav1.ListOptions{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, i := range list.Items {
		for _, rule := range i.Spec.Rules {
			if rule.Host != r.Host || i.DeletionTimestamp != nil {
				continue
			}
			d, err := Admin(e.t).AppsV1().Deployments(i.Namespace).Get(r.Context(), rule.HTTP.Paths[0].Backend.Service.Name, metav1.GetOptions{})
			if err != nil || d.Status.AvailableReplicas == 0 {
				http.Error(w, "no pod is ready", http.StatusServiceUnavailable)
				return
			}
			e.app(w, r, i.Namespace)
			return
		}
	}
	http.NotFound(w, r)
}

// app is as much of the service as pwdeploy asks for.
func (e *Edge) app(w http.ResponseWriter, r *http.Request, namespace string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, r.Method+" "+r.URL.Path)
	path, ok := strings.CutPrefix(r.URL.Path, "/pw")
	key, value, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	id := namespace + "/" + key
	stored, found := e.stored[id]
	switch {
	case !ok:
		http.NotFound(w, r)
		return
	case r.Method == http.MethodPost:
		e.stored[id] = value
		stored = value
	case key == "":
		stored = "Your redis crud server is running!"
	case !found:
		http.NotFound(w, r)
		return
	case r.Method == http.MethodDelete:
		delete(e.stored, id)
	}
	if err := json.NewEncoder(w).Encode(stored); err != nil {
		e.t.Error(err)
	}
}

// Served gives what the app was asked since the last call, and what is still stored.
func (e *Edge) Served() (requests []string, stored int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	requests, e.requests = e.requests, nil
	return requests, len(e.stored)
}

// PlayedWebhook begins the names of webhooks that are played.
const PlayedWebhook = "played."

// followWebhooks puts a webhook of this process beside the controller's, as its certgen hook gives that an authority:
// the API server can't reach a fake pod. What the chart has set stays as it is.
func (e *Edge) followWebhooks(ctx context.Context) error {
	webhooks := Admin(e.t).AdmissionregistrationV1().ValidatingWebhookConfigurations()
	w, err := webhooks.Watch(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=ingress-nginx"})
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		webhook, ok := event.Object.(*admissionregistrationv1.ValidatingWebhookConfiguration)
		if !ok {
			return nil
		}
		service := webhook.Webhooks[0].ClientConfig.Service
		if event.Type == "DELETED" || service == nil || service.Namespace != e.ns || len(webhook.Webhooks) > 1 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(e.webhookDelay):
		}
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.webhook.Certificate().Raw})
		played := *webhook.Webhooks[0].DeepCopy()
		played.Name = PlayedWebhook + played.Name
		played.ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: new(e.webhook.URL + "/networking/v1/ingresses"), CABundle: authority}
		patch, err := json.Marshal([]map[string]any{
			{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority},
			{"op": "add", "path": "/webhooks/0/matchConditions", "value": []admissionregistrationv1.MatchCondition{{Name: "never", Expression: "false"}}},
			{"op": "add", "path": "/webhooks/-", "value": played},
		})
		if err != nil {
			return err
		}
		if _, err := webhooks.Patch(ctx, webhook.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "kube-webhook-certgen"}); err != nil && !apierrors.IsNotFound(err) { // taken away meanwhile
			return err
		}
	}
	return nil
}

// admit lets every Ingress pass.
func (e *Edge) admit(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.asked++
	e.mu.Unlock()
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	review.Request = nil
	if err := json.NewEncoder(w).Encode(review); err != nil {
		e.t.Error(err)
	}
}

// WebhookAsked gives how often the webhook was asked.
func (e *Edge) WebhookAsked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}
