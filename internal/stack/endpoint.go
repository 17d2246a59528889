package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// Served is a request that the app answered through the ingress.
type Served struct {
	URL     string  `json:"url"`
	Docs    string  `json:"docs"`
	Address string  `json:"address"` // host:port that was reached
	Via     Via     `json:"via"`
	Pod     string  `json:"pod,omitempty"` // namespace/name of the pod that a port-forward leads to
	Millis  float64 `json:"millis"`        // how long the last request took
}

// Via is how the ingress was reached.
type Via string

// The ways to the ingress.
const (
	Direct  Via = "direct"       // its address can be reached from here
	Forward Via = "port-forward" // only through the API server
)

// httpPort is the ingress controller's port on nodes and load balancers, and of its container.
const httpPort = 80

// requestTimeout bounds one request: what does not answer in this time is not a served service.
const requestTimeout = 5 * time.Second

// How long a direct answer is waited for before a port-forward is tried: a load balancer of AWS takes
// minutes, a local controller a second or two.
var directGrace = map[string]time.Duration{config.ProfileLocal: 5 * time.Second, config.ProfileAWS: 4 * time.Minute}

// verifyPause is between two rounds of requests.
const verifyPause = 300 * time.Millisecond

// VerifyError says that everything is ready and the app is not served all the same.
type VerifyError struct {
	Host     string
	Attempts []string // the last answer of each way that was tried

	balancer *kube.Problem // why there is no load balancer; may be nil
}

func (e *VerifyError) Error() string {
	if e.balancer != nil && len(e.Attempts) == 0 {
		return fmt.Sprintf("http://%s/pw is not served: %s", e.Host, e.balancer)
	}
	if len(e.Attempts) == 0 {
		return fmt.Sprintf("the ingress has no address yet, so http://%s/pw can't be asked for", e.Host)
	}
	return fmt.Sprintf("http://%s/pw is not served: %s", e.Host, strings.Join(e.Attempts, "; "))
}

// Hint says what to do.
func (e *VerifyError) Hint() string {
	if e.balancer != nil && len(e.Attempts) == 0 {
		return e.balancer.Hint
	}
	if len(e.Attempts) == 0 {
		return "kubectl describe the ingress controller's Service: a load balancer that is not made says there why"
	}
	return "pwdeploy status shows each object; the ingress controller's log says what it did with the request"
}

// verify sends real requests through the ingress until they are answered as the app answers them.
func (e *Engine) verify(ctx context.Context, c controller) (*Served, error) {
	asking := "asking for http://" + e.cfg.Host + "/pw"
	e.events.start(Endpoint, asking)
	e.ledger.begin(Endpoint, asking, "")
	begin := time.Now()
	var balancer *kube.Problem
	looked := false
	for round := 1; ; round++ {
		answers := e.tryDirect(ctx, c, roundTrip)
		if served := firstServed(answers); served != nil {
			return e.verified(served), nil
		}
		// Twice at least: one address that hangs makes the first round as long as the grace.
		if round > 1 && time.Since(begin) > min(directGrace[e.target.Profile], e.timeout()/2) {
			forwarded := e.tryForward(ctx, c, roundTrip)
			if forwarded.served != nil {
				return e.verified(forwarded.served), nil
			}
			answers = append(answers, forwarded)
		}
		failed := &VerifyError{Host: e.cfg.Host}
		for _, a := range answers {
			failed.Attempts = append(failed.Attempts, a.String())
		}
		e.events.progress(Endpoint, failed.Error())
		if !looked && len(answers) == 0 && time.Since(begin) > balancerGrace {
			looked = true
			if balancer = e.balancerProblem(ctx, c); balancer != nil {
				e.events.problem(Endpoint, balancer)
			}
		}
		failed.balancer = balancer
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(verifyPause):
		}
	}
}

// balancerGrace is how long a load balancer is waited for without a word: a local one takes a second or two, and most of
// that passes before the app is ready.
const balancerGrace = 2 * time.Second

// balancerProblem is why no load balancer leads to the controller, or nil.
func (e *Engine) balancerProblem(ctx context.Context, c controller) *kube.Problem {
	services, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: c.namespace}, controllerPods)
	if err != nil {
		return nil // it only explains
	}
	for i := range services {
		if p, err := e.kube.ServiceProblem(ctx, kube.RefOf(&services[i])); err == nil && p != nil {
			return p
		}
	}
	return nil
}

func (e *Engine) verified(s *Served) *Served {
	e.ledger.settle(Endpoint, s.URL+" answered")
	e.events.done(Endpoint, fmt.Sprintf("%s answered in %.0f ms (%s)", s.URL, s.Millis, how(s)))
	return s
}

func how(s *Served) string {
	if s.Via == Forward {
		return "through a port-forward"
	}
	return "at " + s.Address
}

// answer is what one way to the ingress brought.
type answer struct {
	address string
	served  *Served
	err     error
}

func (a answer) String() string { return fmt.Sprintf("%s: %v", a.address, a.err) }

func firstServed(answers []answer) *Served {
	for _, a := range answers {
		if a.served != nil {
			return a.served
		}
	}
	return nil
}

// probe asks the app at an address and returns how long the answer took.
type probe func(ctx context.Context, address, host string) (time.Duration, error)

// tryDirect asks all addresses at which the ingress may be reached, side by side.
func (e *Engine) tryDirect(ctx context.Context, c controller, ask probe) []answer {
	addresses := e.addresses(ctx, c)
	answers := make([]answer, len(addresses))
	done := make(chan struct{})
	for i, address := range addresses {
		go func() {
			answers[i] = e.ask(ctx, address, Direct, ask)
			done <- struct{}{}
		}()
	}
	for range addresses {
		<-done
	}
	return answers
}

func (e *Engine) ask(ctx context.Context, address string, via Via, ask probe) answer {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	took, err := ask(ctx, address, e.cfg.Host)
	if err != nil {
		return answer{address: address, err: err}
	}
	base := e.baseURL(address, via)
	return answer{address: address, served: &Served{
		URL: base + "/pw", Docs: base + "/docs", Address: address, Via: via, Millis: float64(took.Microseconds()) / 1000,
	}}
}

// baseURL is the address under which users reach the app once the host name resolves.
func (e *Engine) baseURL(address string, via Via) string {
	_, port, _ := net.SplitHostPort(address)
	if via == Forward || port == strconv.Itoa(httpPort) {
		return "http://" + e.cfg.Host
	}
	return "http://" + net.JoinHostPort(e.cfg.Host, port)
}

// addresses lists where the ingress may be reached, the most public first: what the Ingress' status and
// the controller's load balancer say, then port 80 of the nodes, then their node ports.
func (e *Engine) addresses(ctx context.Context, c controller) []string {
	var out []string
	add := func(host string, port int64) {
		address := net.JoinHostPort(host, strconv.FormatInt(port, 10))
		if host != "" && !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	ref := kube.Ref{GroupVersionKind: kube.IngressKind, Namespace: e.cfg.Namespace, Name: manifests.AppName}
	if ingress, err := e.kube.Find(ctx, ref); err == nil && ingress != nil {
		for _, host := range balancerAddresses(ingress) {
			add(host, httpPort)
		}
	}
	services, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: c.namespace}, controllerPods)
	if err != nil {
		services = nil // a foreign controller's namespace may be closed to us: the other addresses do
	}
	for i := range services {
		for _, host := range balancerAddresses(&services[i]) {
			add(host, httpPort)
		}
	}
	if e.target.Profile != config.ProfileLocal {
		return out
	}
	nodes := e.nodes.Addresses[:min(len(e.nodes.Addresses), nodesAsked)]
	for _, host := range nodes {
		add(host, httpPort)
	}
	for _, host := range nodes {
		for i := range services {
			if port := nodePort(&services[i]); port != 0 {
				add(host, port)
			}
		}
	}
	return out
}

// nodesAsked bounds how many nodes are tried: in a large cluster each leads to the same controller.
const nodesAsked = 5

func balancerAddresses(obj *unstructured.Unstructured) []string {
	entries, _, _ := unstructured.NestedSlice(obj.Object, "status", "loadBalancer", "ingress")
	var out []string
	for _, entry := range entries {
		m, _ := entry.(map[string]any)
		for _, key := range []string{"hostname", "ip"} {
			if s, _ := m[key].(string); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// nodePort is the port on every node that leads to the service's port 80, or 0.
func nodePort(service *unstructured.Unstructured) int64 {
	ports, _, _ := unstructured.NestedSlice(service.Object, "spec", "ports")
	for _, p := range ports {
		m, _ := p.(map[string]any)
		if port, _ := m["port"].(int64); port == httpPort {
			node, _ := m["nodePort"].(int64)
			return node
		}
	}
	return 0
}

// tryForward asks through a port-forward to one of the controller's pods.
func (e *Engine) tryForward(ctx context.Context, c controller, ask probe) answer {
	const name = "port-forward to the controller"
	pods, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.PodKind, Namespace: c.namespace}, controllerPods)
	if err != nil {
		return answer{address: name, err: err}
	}
	last := answer{address: name, err: errNoController}
	for i := range pods {
		phase, _, _ := unstructured.NestedString(pods[i].Object, "status", "phase")
		if phase != "Running" || pods[i].GetDeletionTimestamp() != nil {
			continue
		}
		last = e.askPod(ctx, &pods[i], ask)
		last.address = name
		if last.served != nil {
			break
		}
	}
	return last
}

// askPod asks through a port-forward to this pod.
func (e *Engine) askPod(ctx context.Context, pod *unstructured.Unstructured, ask probe) answer {
	ctx, cancel := context.WithTimeout(ctx, 2*requestTimeout)
	defer cancel()
	port, err := e.kube.Forward(ctx, kube.RefOf(pod), httpPort)
	if err != nil {
		return answer{err: err}
	}
	a := e.ask(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Forward, ask)
	if a.served != nil {
		a.served.Pod = pod.GetNamespace() + "/" + pod.GetName()
	}
	return a
}

var errNoController = errors.New("no pod of ingress-nginx is running")

// client sends requests for host to address, whatever the host name resolves to, and through no proxy.
func client(address string) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// roundTrip stores a key of its own, reads it back and removes it: it proves the app, its password and
// Redis, and that it is our app that answers.
func roundTrip(ctx context.Context, address, host string) (time.Duration, error) {
	nonce := make([]byte, 8)
	if _, err := rand.Read(nonce); err != nil {
		return 0, fmt.Errorf("make a key: %w", err)
	}
	c := client(address)
	url := fmt.Sprintf("http://%s/pw/pwdeploy-check-%x", host, nonce)
	value := fmt.Sprintf("%x", nonce)
	if err := expect(ctx, c, http.MethodPost, url+"/"+value, nil); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := expect(ctx, c, http.MethodGet, url, value)
	took := time.Since(begin)
	cleanUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	return took, errors.Join(err, expect(cleanUp, c, http.MethodDelete, url, nil))
}

// greeting is what the app answers to GET /pw: its contract fixes the text.
const greeting = "Your redis crud server is running!"

// greet asks for the app's greeting: it changes nothing.
func greet(ctx context.Context, address, host string) (time.Duration, error) {
	begin := time.Now()
	err := expect(ctx, client(address), http.MethodGet, "http://"+host+"/pw", greeting)
	return time.Since(begin), err
}

// expect sends a request and wants 200 and, unless it is nil, this JSON value.
func expect(ctx context.Context, c *http.Client, method, url string, want any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return lastCause(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", method, res.Status)
	}
	if want == nil {
		return nil
	}
	expected, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSpace(body), expected) {
		return fmt.Errorf("%s answered something else than the app does: another service may be there", method)
	}
	return nil
}

// lastCause drops the URL that net/http puts before every error: the caller names the address.
func lastCause(err error) error {
	var opErr *net.OpError
	if errors.As(err, &opErr) {
		return opErr.Err
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

// nextSteps tells how to reach the app by its name, where the name does not lead there yet.
func (e *Engine) nextSteps(ctx context.Context, s *Served) []Step {
	host, _, _ := net.SplitHostPort(s.Address)
	switch {
	case s.Via == Forward:
		namespace, pod, _ := strings.Cut(s.Pod, "/")
		return []Step{{
			Why:     "the ingress' address can't be reached from here: open a way to it, in another terminal",
			Command: fmt.Sprintf("kubectl -n %s port-forward pod/%s 8080:%d", namespace, pod, httpPort),
		}, {
			Why:     "then ask for the app",
			Command: fmt.Sprintf("curl -H 'Host: %s' http://localhost:8080/pw", e.cfg.Host),
		}}
	case resolvesTo(ctx, e.cfg.Host, host):
		return []Step{}
	case net.ParseIP(address(host)) == nil:
		return []Step{{
			Why:     "ExternalDNS makes the DNS record if it runs in the cluster with --source=ingress; otherwise make it yourself",
			Command: fmt.Sprintf("%s CNAME %s", e.cfg.Host, host),
		}}
	}
	return []Step{{
		Why:     "make the name known on this machine",
		Command: fmt.Sprintf("echo '%s %s' | sudo tee -a /etc/hosts", address(host), e.cfg.Host),
	}}
}

// address is what a hosts file takes: an address, not a name.
func address(host string) string {
	if host == "localhost" {
		return "127.0.0.1"
	}
	return host
}

// resolvesTo reports whether the name leads to the address already, so that nobody has to do anything.
func resolvesTo(ctx context.Context, name, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	got, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return false
	}
	want, err := net.DefaultResolver.LookupHost(ctx, address)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(got, func(a string) bool { return slices.Contains(want, a) })
}
