package kube

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds in which admission webhooks are configured.
var (
	ValidatingWebhookKind = schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"}
	MutatingWebhookKind   = schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"}
)

// Absence says what a dead webhook lacks.
type Absence string

// What a webhook can lack.
const (
	NoNamespace Absence = "its namespace is gone"
	NoService   Absence = "its Service is gone"
	NoEndpoint  Absence = "its Service has no ready endpoint"
)

// DeadWebhookError is an admission webhook that the API server would call and that nothing answers.
type DeadWebhookError struct {
	Configuration Ref    // of kind ValidatingWebhookKind or MutatingWebhookKind
	Name          string // of the webhook in its configuration
	Service       Ref    // that should answer
	Lacks         Absence
	Blocks        bool // what it should judge is refused; else it is let through (failurePolicy)
}

// Leftover reports whether nothing is there that could come back by itself.
func (w *DeadWebhookError) Leftover() bool { return w.Lacks != NoEndpoint }

func (w *DeadWebhookError) Error() string {
	return fmt.Sprintf("%s: nothing answers for the webhook %s: %s (%s)", w.Configuration, w.Name, w.Lacks, w.Service)
}

// Hint says what to do.
func (w *DeadWebhookError) Hint() string {
	if w.Leftover() {
		return fmt.Sprintf("it is left over from something that was removed: kubectl delete %s %s", resourceOf(w.Configuration), w.Configuration.Name)
	}
	return fmt.Sprintf("see why its pods are not ready: kubectl -n %s get pods; if it is not needed any more: kubectl delete %s %s",
		w.Service.Namespace, resourceOf(w.Configuration), w.Configuration.Name)
}

func resourceOf(configuration Ref) string {
	if configuration.Kind == MutatingWebhookKind.Kind {
		return "mutatingwebhookconfiguration"
	}
	return "validatingwebhookconfiguration"
}

// DeadWebhooks finds the admission webhooks that would be called when one of objs is created, and that
// nothing answers: leftovers of what was deleted, and those whose pods are not ready. Webhooks outside the
// cluster (by URL) can't be judged and are left out, and so are those with matchConditions. It costs two
// lists, and two requests more for each webhook that applies.
func (c *Client) DeadWebhooks(ctx context.Context, objs ...*unstructured.Unstructured) ([]DeadWebhookError, error) {
	configured, err := c.webhooks(ctx)
	if err != nil {
		return nil, err
	}
	targets, err := c.webhookTargets(ctx, configured, objs)
	if err != nil {
		return nil, err
	}
	called := slices.DeleteFunc(configured, func(w webhook) bool { return !slices.ContainsFunc(targets, w.judges) })
	return c.dead(ctx, called)
}

// webhook is one webhook of a configuration, whichever the kind.
type webhook struct {
	configuration                     Ref
	name                              string
	service                           Ref
	blocks                            bool
	rules                             []admissionv1.RuleWithOperations
	namespaceSelector, objectSelector *metav1.LabelSelector
}

// webhooks lists those that a Service in the cluster answers.
func (c *Client) webhooks(ctx context.Context) ([]webhook, error) {
	var validating *admissionv1.ValidatingWebhookConfigurationList
	var mutating *admissionv1.MutatingWebhookConfigurationList
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		validating, err = c.typed.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		return listed(ValidatingWebhookKind, err)
	})
	group.Go(func() (err error) {
		mutating, err = c.typed.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
		return listed(MutatingWebhookKind, err)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return webhooksOf(validating.Items, mutating.Items), nil
}

func listed(kind schema.GroupVersionKind, err error) error {
	if err == nil {
		return nil
	}
	return failed(listOf(Ref{GroupVersionKind: kind}), err)
}

func webhooksOf(validating []admissionv1.ValidatingWebhookConfiguration, mutating []admissionv1.MutatingWebhookConfiguration) []webhook {
	var out []webhook
	add := func(service *admissionv1.ServiceReference, conditions []admissionv1.MatchCondition, w webhook) {
		if service == nil || len(conditions) > 0 {
			return
		}
		w.service = Ref{GroupVersionKind: ServiceKind, Namespace: service.Namespace, Name: service.Name}
		out = append(out, w)
	}
	for _, configuration := range validating {
		ref := Ref{GroupVersionKind: ValidatingWebhookKind, Name: configuration.Name}
		for _, w := range configuration.Webhooks {
			add(w.ClientConfig.Service, w.MatchConditions, webhook{configuration: ref, name: w.Name, blocks: blocks(w.FailurePolicy),
				rules: w.Rules, namespaceSelector: w.NamespaceSelector, objectSelector: w.ObjectSelector})
		}
	}
	for _, configuration := range mutating {
		ref := Ref{GroupVersionKind: MutatingWebhookKind, Name: configuration.Name}
		for _, w := range configuration.Webhooks {
			add(w.ClientConfig.Service, w.MatchConditions, webhook{configuration: ref, name: w.Name, blocks: blocks(w.FailurePolicy),
				rules: w.Rules, namespaceSelector: w.NamespaceSelector, objectSelector: w.ObjectSelector})
		}
	}
	return out
}

// blocks is the API's default where nothing is said.
func blocks(policy *admissionv1.FailurePolicyType) bool {
	return policy == nil || *policy == admissionv1.Fail
}

// webhookTarget is an object that is about to be created, as webhooks are matched with it.
type webhookTarget struct {
	group, resource   string
	namespaced        bool
	namespace, labels labels.Set // the labels of its namespace, and its own
}

// webhookTargets reads the namespaces' labels, where a webhook looks at them.
func (c *Client) webhookTargets(ctx context.Context, configured []webhook, objs []*unstructured.Unstructured) ([]webhookTarget, error) {
	namespaces := map[string]labels.Set{}
	needed := slices.ContainsFunc(configured, func(w webhook) bool { return !selectsAll(w.namespaceSelector) })
	targets := make([]webhookTarget, 0, len(objs))
	for _, o := range objs {
		access, err := c.AccessTo(o.GroupVersionKind(), o.GetNamespace(), "create")
		if err != nil {
			return nil, err
		}
		namespace := access[0].Namespace
		if _, known := namespaces[namespace]; !known && namespace != "" {
			set, err := c.namespaceLabels(ctx, namespace, needed)
			if err != nil {
				return nil, err
			}
			namespaces[namespace] = set
		}
		targets = append(targets, webhookTarget{group: access[0].Group, resource: access[0].Resource,
			namespaced: namespace != "", namespace: namespaces[namespace], labels: o.GetLabels()})
	}
	return targets, nil
}

func (c *Client) namespaceLabels(ctx context.Context, name string, needed bool) (labels.Set, error) {
	set := labels.Set{corev1.LabelMetadataName: name}
	if !needed {
		return set, nil
	}
	found, err := c.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return set, nil
	case err != nil:
		return nil, failed(Ref{GroupVersionKind: NamespaceKind, Name: name}, err)
	}
	return labels.Merge(set, found.Labels), nil
}

func selectsAll(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0
}

// judges reports whether the API server asks the webhook when the target is created. Versions of a resource
// are not told apart: a rule for one is applied to the others too (matchPolicy Equivalent, the default).
func (w webhook) judges(t webhookTarget) bool {
	ruled := slices.ContainsFunc(w.rules, func(r admissionv1.RuleWithOperations) bool {
		return hasOr(r.APIGroups, t.group) && hasOr(r.Resources, t.resource) && inScope(r.Scope, t.namespaced) &&
			(slices.Contains(r.Operations, admissionv1.Create) || slices.Contains(r.Operations, admissionv1.OperationAll))
	})
	return ruled && selects(w.objectSelector, t.labels) && (!t.namespaced || selects(w.namespaceSelector, t.namespace))
}

// hasOr reports whether the rule names it, or everything. Subresources ("pods/*", "*/*") are other things.
func hasOr(all []string, wanted string) bool {
	return slices.Contains(all, wanted) || slices.Contains(all, "*") || slices.Contains(all, "*/*")
}

func inScope(scope *admissionv1.ScopeType, namespaced bool) bool {
	if scope == nil || *scope == admissionv1.AllScopes {
		return true
	}
	return (*scope == admissionv1.NamespacedScope) == namespaced
}

func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	if selectsAll(selector) {
		return true
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}

// dead keeps the webhooks that nothing answers, in their order.
func (c *Client) dead(ctx context.Context, called []webhook) ([]DeadWebhookError, error) {
	lacks := make([]Absence, len(called))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelism)
	for i, w := range called {
		group.Go(func() (err error) {
			lacks[i], err = c.absence(ctx, w.service)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []DeadWebhookError
	for i, w := range called {
		if lacks[i] != "" {
			out = append(out, DeadWebhookError{Configuration: w.configuration, Name: w.name, Service: w.service, Lacks: lacks[i], Blocks: w.blocks})
		}
	}
	return out, nil
}

// absence says what a Service lacks to answer, or nothing.
func (c *Client) absence(ctx context.Context, service Ref) (Absence, error) {
	found, err := c.typed.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return c.whatIsGone(ctx, service.Namespace)
	}
	if err != nil {
		return "", failed(service, err)
	}
	if found.Spec.Type == corev1.ServiceTypeExternalName {
		return "", nil
	}
	slicesOf, err := c.typed.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name})
	if err != nil {
		return "", failed(service, err)
	}
	for _, s := range slicesOf.Items {
		if slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }) {
			return "", nil
		}
	}
	return NoEndpoint, nil
}

func (c *Client) whatIsGone(ctx context.Context, namespace string) (Absence, error) {
	_, err := c.typed.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return NoNamespace, nil
	case err == nil, apierrors.IsForbidden(err):
		return NoService, nil
	}
	return "", failed(Ref{GroupVersionKind: NamespaceKind, Name: namespace}, err)
}
