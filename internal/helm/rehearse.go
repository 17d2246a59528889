package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// Refusal is an object that the API server does not take as a release is to change it.
type Refusal struct {
	Object *unstructured.Unstructured // as it is to be, with its namespace
	Err    error                      // the server's own, which apierrors.IsInvalid tells
}

// rehearsals bounds how many objects are tried at once.
const rehearsals = 8

// Rehearse finds out what the API server would refuse of changing a release that is there to objs: just the patches
// that Helm would send, by dry run. Nothing is changed. What can't be asked now is left for Apply to meet.
func (c *Client) Rehearse(ctx context.Context, namespace, name string, objs []*unstructured.Unstructured) ([]Refusal, error) {
	r := c.newRun(ctx, namespace)
	defer r.close()
	current, err := r.deployed(name)
	if err != nil {
		return nil, err
	}
	answers := &dryAnswers{invalid: map[string]*metav1.Status{}}
	client := kube.New(&dryGetter{boundGetter: r.getter.(*boundGetter), answers: answers})
	client.Log, client.Namespace = r.debugf, namespace
	was, err := client.Build(bytes.NewBufferString(current.Manifest), false)
	if err != nil {
		return nil, err
	}
	manifest, err := manifestOf(objs)
	if err != nil {
		return nil, err
	}
	wanted, err := client.Build(manifest, false)
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	group.SetLimit(rehearsals)
	for _, info := range wanted {
		group.Go(func() error {
			one := kube.ResourceList{info}
			original := was.Intersect(one)
			if len(original) == 0 { // as kubeClient.Update has it
				original = one
			}
			_, _ = client.Update(original, one, false) // the answers tell more than its errors
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var refused []Refusal
	for _, info := range wanted {
		path := info.Client.Get().NamespaceIfScoped(info.Namespace, info.Namespaced()).Resource(info.Mapping.Resource.Resource).Name(info.Name).URL().Path
		if status := answers.invalid[path]; status != nil {
			obj, _ := info.Object.(*unstructured.Unstructured)
			refused = append(refused, Refusal{Object: obj, Err: &apierrors.StatusError{ErrStatus: *status}})
		}
	}
	return refused, nil
}

// manifestOf writes objects as a manifest, without the hooks, which are made anew each time.
func manifestOf(objs []*unstructured.Unstructured) (io.Reader, error) {
	var out bytes.Buffer
	for _, o := range objs {
		if _, hook := o.GetAnnotations()[release.HookAnnotation]; hook {
			continue
		}
		body, err := o.MarshalJSON()
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(body)
	}
	return &out, nil
}

// dryAnswers keeps what the API server does not take, by the object's path: Helm flattens that to text.
type dryAnswers struct {
	mu      sync.Mutex
	invalid map[string]*metav1.Status
}

// dryGetter makes every write of a client a dry run.
type dryGetter struct {
	*boundGetter
	answers *dryAnswers
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (g *dryGetter) ToRESTConfig() (*rest.Config, error) {
	config, err := g.boundGetter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &dryTransport{next, g.answers} })
	return config, nil
}

type dryTransport struct {
	next    http.RoundTripper
	answers *dryAnswers
}

// RoundTrip implements http.RoundTripper.
func (t *dryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet {
		return t.next.RoundTrip(req)
	}
	path := req.URL.Path
	req = req.Clone(req.Context())
	query := req.URL.Query()
	query.Set("dryRun", metav1.DryRunAll)
	req.URL.RawQuery = query.Encode()
	resp, err := t.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusUnprocessableEntity {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	status := &metav1.Status{}
	if json.Unmarshal(body, status) == nil {
		t.answers.mu.Lock()
		defer t.answers.mu.Unlock()
		t.answers.invalid[path] = status
	}
	return resp, nil
}
