package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/rest"

	"github.com/pwdeploy/pwdeploy/internal/retry"
)

// HookError says that a hook of a chart, a Job or Pod that runs before or after its objects are made, did
// not succeed.
type HookError struct {
	Kind, Namespace, Name string
	Problem               string // what the cluster says of it
	Err                   error  // context.DeadlineExceeded if it ran out of time; may be nil
}

func (e *HookError) Error() string {
	return fmt.Sprintf("hook %s %s/%s %s", e.Kind, e.Namespace, e.Name, e.Problem)
}

// Unwrap gives the cause.
func (e *HookError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *HookError) Hint() string {
	return fmt.Sprintf("kubectl -n %s get events and the logs of the hook's pods say why; running this again retries it", e.Namespace)
}

// kubeClient is Helm's client of the cluster, made to stop when the context of an action ends, to wait
// for hooks by a watch of its own, and to remember what went wrong.
type kubeClient struct {
	*kube.Client
	ctx    context.Context // kept, because Helm's interface takes none
	onHook func(kind, namespace, name string)
	err    error             // the first one that Helm will flatten to text
	gone   map[string]bool   // hooks that Delete saw gone
	ours   kube.ResourceList // what DeleteWithPropagationPolicy may delete
}

func (r *run) newKubeClient() *kubeClient {
	client := kube.New(r.getter)
	client.Log = r.debugf
	client.Namespace = r.namespace
	r.kube = &kubeClient{Client: client, ctx: r.ctx, gone: map[string]bool{}}
	return r.kube
}

// IsReachable does not ask: the caller has just talked to the cluster.
func (k *kubeClient) IsReachable() error { return k.ctx.Err() }

// Build reads a manifest. It does not validate: see run.install.
func (k *kubeClient) Build(reader io.Reader, _ bool) (kube.ResourceList, error) {
	list, err := k.Client.Build(reader, false)
	return list, k.remember(err)
}

// Create makes objects.
func (k *kubeClient) Create(resources kube.ResourceList) (*kube.Result, error) {
	if err := k.ctx.Err(); err != nil {
		return nil, err
	}
	result, err := k.Client.Create(resources)
	return result, k.remember(err)
}

// Update changes objects. Helm reads the result even beside an error.
//
// What an earlier attempt has made is there and not in original. Helm would take it for applied as it is, resource
// version included, and the API server refuses a patch that takes that away.
func (k *kubeClient) Update(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	if err := k.ctx.Err(); err != nil {
		return &kube.Result{}, err
	}
	original = append(slices.Clone(original), target.Difference(original)...)
	result, err := k.Client.Update(original, target, force)
	if result == nil {
		result = &kube.Result{}
	}
	return result, k.remember(err)
}

// Delete deletes what is left of hooks, one after the other, and notes what is gone at once: Helm asks
// WaitForDelete about each, and a chart may have many.
func (k *kubeClient) Delete(resources kube.ResourceList) (*kube.Result, []error) {
	result := &kube.Result{}
	for _, info := range resources {
		if err := k.ctx.Err(); err != nil {
			return nil, []error{err}
		}
		if err := k.deleteHook(info); err != nil {
			return nil, []error{k.remember(err)}
		}
		result.Deleted = append(result.Deleted, info)
	}
	return result, nil
}

func (k *kubeClient) deleteHook(info *resource.Info) error {
	background := metav1.DeletePropagationBackground
	left, err := resource.NewHelper(info.Client, info.Mapping).
		DeleteWithOptions(info.Namespace, info.Name, &metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	// The server answers with a Status where nothing is left, and with the object where a finalizer or a
	// graceful end holds it.
	if err != nil || left.GetObjectKind().GroupVersionKind().Kind == "Status" {
		k.gone[hookKey(info)] = true
	}
	return nil
}

func hookKey(info *resource.Info) string {
	return info.Mapping.Resource.String() + " " + info.Namespace + "/" + info.Name
}

// DeleteWithPropagationPolicy deletes what an uninstall takes away, and nothing that is not the release's.
func (k *kubeClient) DeleteWithPropagationPolicy(resources kube.ResourceList, policy metav1.DeletionPropagation) (*kube.Result, []error) {
	resources = resources.Intersect(k.ours)
	if err := k.removeBy(resources, policy); err != nil {
		return nil, []error{err}
	}
	return &kube.Result{Deleted: resources}, nil
}

// remove deletes objects, admission webhooks first.
func (k *kubeClient) remove(resources kube.ResourceList) error {
	webhooks := resources.Filter(isWebhook)
	for _, list := range []kube.ResourceList{webhooks, resources.Difference(webhooks)} {
		if err := k.removeBy(list, metav1.DeletePropagationBackground); err != nil {
			return err
		}
	}
	return nil
}

func (k *kubeClient) removeBy(resources kube.ResourceList, policy metav1.DeletionPropagation) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	if len(resources) == 0 { // Helm takes that for an error
		return nil
	}
	_, errs := k.Client.DeleteWithPropagationPolicy(resources, policy)
	return k.remember(errors.Join(errs...))
}

func isWebhook(info *resource.Info) bool {
	kind := info.Mapping.GroupVersionKind
	return kind.Group == "admissionregistration.k8s.io" && (kind.Kind == "ValidatingWebhookConfiguration" || kind.Kind == "MutatingWebhookConfiguration")
}

func (k *kubeClient) remember(err error) error {
	err = separate(err)
	if k.err == nil {
		k.err = err
	}
	return err
}

// separate takes the errors of several objects apart, which Helm collects in one with a text of its own
// ("1 error occurred:" and a list with asterisks).
func separate(err error) error {
	var collected interface{ WrappedErrors() []error } // github.com/hashicorp/go-multierror
	if !errors.As(err, &collected) {
		return err
	}
	return errors.Join(collected.WrappedErrors()...)
}

// WaitForDelete waits until the remains of a hook are gone, so that it can be made again. Helm's own
// looks every two seconds.
func (k *kubeClient) WaitForDelete(resources kube.ResourceList, timeout time.Duration) error {
	for _, info := range resources {
		if k.gone[hookKey(info)] {
			delete(k.gone, hookKey(info)) // it may be made again
			continue
		}
		err := k.waitGone(info, timeout)
		if errors.Is(err, context.DeadlineExceeded) {
			err = hookError(info, "of an earlier run is not gone after "+timeout.String(), err)
		}
		if err != nil {
			return k.remember(err)
		}
	}
	return nil
}

func (k *kubeClient) waitGone(info *resource.Info, timeout time.Duration) error {
	helper := resource.NewHelper(info.Client, info.Mapping)
	return wait.PollUntilContextTimeout(k.ctx, 100*time.Millisecond, timeout, true, func(context.Context) (bool, error) {
		_, err := helper.Get(info.Namespace, info.Name)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// waitAllGone waits for what an earlier run left and this one has deleted.
func (k *kubeClient) waitAllGone(resources kube.ResourceList, timeout time.Duration) error {
	for _, info := range resources {
		err := k.waitGone(info, timeout)
		if errors.Is(err, context.DeadlineExceeded) && k.ctx.Err() == nil {
			err = fmt.Errorf("%s %s/%s of an earlier run is not gone after %s: %w", info.Mapping.GroupVersionKind.Kind, info.Namespace, info.Name, timeout, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// WatchUntilReady waits until hooks have done their work: Jobs and Pods run to their end, all other kinds
// are done when they are made.
func (k *kubeClient) WatchUntilReady(resources kube.ResourceList, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	defer cancel()
	for _, info := range resources {
		if !runsToEnd(info) {
			continue
		}
		if k.onHook != nil {
			k.onHook(info.Mapping.GroupVersionKind.Kind, info.Namespace, info.Name)
		}
		err := waitForHook(ctx, info)
		if errors.Is(err, context.DeadlineExceeded) && k.ctx.Err() == nil {
			err = hookError(info, "did not end within "+timeout.String(), err)
		}
		if err != nil {
			return k.remember(err)
		}
	}
	return nil
}

var (
	jobKind = schema.GroupKind{Group: "batch", Kind: "Job"}
	podKind = schema.GroupKind{Kind: "Pod"}
)

func runsToEnd(info *resource.Info) bool {
	kind := info.Mapping.GroupVersionKind.GroupKind()
	return kind == jobKind || kind == podKind
}

func hookError(info *resource.Info, problem string, err error) *HookError {
	return &HookError{
		Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name,
		Problem: problem, Err: err,
	}
}

// waitForHook watches from the state in which the hook was made, so that no change is missed: a Job with
// ttlSecondsAfterFinished 0 is gone as soon as it ends. A watch that breaks off is begun again from the
// present state.
func waitForHook(ctx context.Context, info *resource.Info) error {
	helper := resource.NewHelper(info.Client, info.Mapping)
	for {
		done, err := followHook(ctx, helper, info)
		if done || err != nil {
			return err
		}
		if err := retry.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := info.Get(); apierrors.IsNotFound(err) {
			// It ended while nobody looked. What it should have made is needed next, and will be missed
			// there if it failed.
			return nil
		} else if err != nil && ctx.Err() == nil && !transient(err) {
			return err
		}
	}
}

// followHook watches a hook until it ends or the watch does.
func followHook(ctx context.Context, helper *resource.Helper, info *resource.Info) (done bool, err error) {
	if done, err := ended(info, info.Object); done {
		return true, err
	}
	w, err := helper.WatchSingle(info.Namespace, info.Name, info.ResourceVersion)
	if err != nil {
		if transient(err) {
			err = nil
		}
		return false, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case event, open := <-w.ResultChan():
			if !open || event.Type == watch.Error {
				return false, nil
			}
			if done, err := ended(info, event.Object); done {
				return true, err
			}
			if event.Type == watch.Deleted {
				return true, hookError(info, "was deleted before it ended", nil)
			}
		}
	}
}

// transient reports whether a request may succeed later: the server did not refuse it for what it is.
func transient(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code == http.StatusGone || code == http.StatusTooManyRequests || code >= 500
}

// ended reports whether a Job or Pod ran to its end, and its failure if it failed.
func ended(info *resource.Info, obj runtime.Object) (bool, error) {
	hook, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return false, nil
	}
	if info.Mapping.GroupVersionKind.GroupKind() == jobKind {
		return jobEnded(info, hook)
	}
	phase, _, _ := unstructured.NestedString(hook.Object, "status", "phase")
	if phase == "Failed" {
		message, _, _ := unstructured.NestedString(hook.Object, "status", "message")
		return true, hookError(info, problem("failed", message), nil)
	}
	return phase == "Succeeded", nil
}

func jobEnded(info *resource.Info, job *unstructured.Unstructured) (bool, error) {
	conditions, _, _ := unstructured.NestedSlice(job.Object, "status", "conditions")
	for _, c := range conditions {
		condition, ok := c.(map[string]any)
		if !ok || condition["status"] != "True" {
			continue
		}
		switch condition["type"] {
		case "Complete":
			return true, nil
		case "Failed":
			message, _ := condition["message"].(string)
			return true, hookError(info, problem("failed", message), nil)
		}
	}
	return false, nil
}

func problem(what, message string) string {
	if message == "" {
		return what
	}
	return what + ": " + message
}

// boundGetter ties every request of an action to a context: Helm and cli-runtime pass none of their own.
type boundGetter struct {
	genericclioptions.RESTClientGetter
	ctx context.Context
}

// ToRESTConfig implements genericclioptions.RESTClientGetter.
func (g *boundGetter) ToRESTConfig() (*rest.Config, error) {
	config, err := g.RESTClientGetter.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &boundTransport{next, g.ctx} })
	return config, nil
}

type boundTransport struct {
	next http.RoundTripper
	ctx  context.Context
}

// RoundTrip implements http.RoundTripper.
func (t *boundTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	stop := context.AfterFunc(t.ctx, cancel) //nolint:contextcheck // it ends with either context
	release := func() { stop(); cancel() }
	resp, err := t.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		release()
		return nil, err
	}
	resp.Body = &boundBody{resp.Body, release}
	return resp, nil
}

type boundBody struct {
	io.ReadCloser
	release func()
}

// Close implements io.Closer.
func (b *boundBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
