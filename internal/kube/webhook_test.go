package kube

import (
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWebhookJudges: which webhooks the API server would ask about the app's Ingress.
func TestWebhookJudges(t *testing.T) {
	ingress := webhookTarget{group: "networking.k8s.io", resource: "ingresses", namespaced: true,
		namespace: map[string]string{"kubernetes.io/metadata.name": "pw-crud"}, labels: map[string]string{"app": "pw-crud"}}
	rule := func(change func(*admissionv1.RuleWithOperations)) []admissionv1.RuleWithOperations {
		r := admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{"CREATE", "UPDATE"},
			Rule: admissionv1.Rule{APIGroups: []string{"networking.k8s.io"}, APIVersions: []string{"v1beta1"}, Resources: []string{"ingresses"}}}
		if change != nil {
			change(&r)
		}
		return []admissionv1.RuleWithOperations{r}
	}
	cluster := admissionv1.ClusterScope
	selector := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	for name, test := range map[string]struct {
		webhook webhook
		want    bool
	}{
		"another version of it": {webhook{rules: rule(nil)}, true},
		"everything": {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) {
			r.APIGroups, r.Resources, r.Operations = []string{"*"}, []string{"*/*"}, []admissionv1.OperationType{"*"}
		})}, true},
		"another resource":      {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) { r.Resources = []string{"networkpolicies"} })}, false},
		"a subresource":         {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) { r.Resources = []string{"ingresses/status"} })}, false},
		"another group":         {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) { r.APIGroups = []string{""} })}, false},
		"deletions":             {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) { r.Operations = []admissionv1.OperationType{"DELETE"} })}, false},
		"what has no namespace": {webhook{rules: rule(func(r *admissionv1.RuleWithOperations) { r.Scope = &cluster })}, false},
		"our namespace":         {webhook{rules: rule(nil), namespaceSelector: selector("kubernetes.io/metadata.name", "pw-crud")}, true},
		"another namespace":     {webhook{rules: rule(nil), namespaceSelector: selector("kubernetes.io/metadata.name", "other")}, false},
		"our label":             {webhook{rules: rule(nil), objectSelector: selector("app", "pw-crud")}, true},
		"another label":         {webhook{rules: rule(nil), objectSelector: selector("app", "other")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.webhook.judges(ingress); got != test.want {
				t.Errorf("judges: %v, want %v", got, test.want)
			}
		})
	}
}

// TestWebhooksOf: what can't be judged is left out, and the policy's default is to refuse.
func TestWebhooksOf(t *testing.T) {
	service := admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "gone", Name: "admission"}}
	url, ignore := "https://policy.example.test", admissionv1.Ignore
	got := webhooksOf([]admissionv1.ValidatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []admissionv1.ValidatingWebhook{
		{Name: "default.test", ClientConfig: service},
		{Name: "url.test", ClientConfig: admissionv1.WebhookClientConfig{URL: &url}},
		{Name: "conditions.test", ClientConfig: service, MatchConditions: []admissionv1.MatchCondition{{Name: "a", Expression: "false"}}},
	}}}, []admissionv1.MutatingWebhookConfiguration{{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Webhooks: []admissionv1.MutatingWebhook{
		{Name: "lenient.test", ClientConfig: service, FailurePolicy: &ignore},
	}}})
	if len(got) != 2 || got[0].name != "default.test" || !got[0].blocks || got[1].name != "lenient.test" || got[1].blocks ||
		got[1].configuration.Kind != "MutatingWebhookConfiguration" || got[0].service.String() != "Service gone/admission" {
		t.Errorf("webhooks: %+v", got)
	}
}

// TestDeadWebhookHint: what is left over is deleted by a command that can be copied; pods that are not ready are looked at.
func TestDeadWebhookHint(t *testing.T) {
	w := DeadWebhookError{Configuration: Ref{GroupVersionKind: ValidatingWebhookKind, Name: "old-admission"}, Name: "validate.test",
		Service: Ref{GroupVersionKind: ServiceKind, Namespace: "old", Name: "admission"}, Lacks: NoNamespace, Blocks: true}
	if got, want := w.Error(), "ValidatingWebhookConfiguration old-admission: nothing answers for the webhook validate.test: its namespace is gone (Service old/admission)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := w.Hint(), "it is left over from something that was removed: kubectl delete validatingwebhookconfiguration old-admission"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.Lacks = NoEndpoint
	if got, want := w.Hint(), "see why its pods are not ready: kubectl -n old get pods; if it is not needed any more: kubectl delete validatingwebhookconfiguration old-admission"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
