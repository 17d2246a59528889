package faults

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// notRouted is the state of an app whose Ingress the cluster does not take.
const notRouted = "  app            image pw/crudservice:latest applied but for its Ingress"

// ingressScenes are about what the cluster does not let in.
func ingressScenes() []scene {
	refused, asked := make(chan time.Time, 1), make(chan time.Time, 1)
	return []scene{
		{name: "admission webhook refuses", provoke: webhookAnswers(0, "no Ingress without a cost centre", refused), shown: moment(refused),
			want: want{code: 1, object: "Ingress {app}/pw-crud", reason: `admission webhook "judge.example.test" denied the request`,
				says: []string{"no Ingress without a cost centre"}, hint: "do what it asks for", state: notRouted}},
		{name: "admission webhook times out", provoke: webhookAnswers(10*time.Second, "", asked), shown: gaveUp(asked), command: []string{"up", "--timeout", "40s"},
			want: want{code: 1, object: "Ingress {app}/pw-crud", reason: `failed calling webhook "judge.example.test"`, hint: "kubectl get validatingwebhookconfigurations", state: notRouted}},
		{name: "admission webhook without endpoints", provoke: func(t *testing.T, s *harness.Site) {
			ns := harness.Namespace(t, nil)
			harness.Create(t, harness.Object(t, ns, "{apiVersion: v1, kind: Service, metadata: {name: judge}, spec: {ports: [{port: 443}], selector: {a: b}}}"))
			webhook(t, s, fmt.Sprintf("{service: {namespace: %s, name: judge}}", ns))
		}, command: []string{"up", "--timeout", "30s"},
			want: want{code: 1, object: "ValidatingWebhookConfiguration {app}", reason: "its Service has no ready endpoint", says: []string{"judge.example.test"}, hint: "get pods", state: notRouted}},
		{name: "admission webhook left over", provoke: func(t *testing.T, s *harness.Site) {
			webhook(t, s, "{service: {namespace: "+s.App+"-gone, name: judge}}")
		},
			want: want{code: 1, object: "ValidatingWebhookConfiguration {app}", reason: "its namespace is gone", hint: "kubectl delete validatingwebhookconfiguration {app}", state: nothingChanged}},
		{name: "ingress class owned by another", provoke: func(t *testing.T, s *harness.Site) {
			harness.MakeNamespace(t, s.Ingress, nil)
			harness.Create(t, harness.Object(t, s.Ingress, `{apiVersion: v1, kind: Secret, type: helm.sh/release.v1, metadata: {name: sh.helm.release.v1.ingress-nginx.v1, labels: {
  owner: helm, name: ingress-nginx, version: "1", status: deployed, pwdeploy/instance: `+s.App+`}}, stringData: {release: ""}}`))
		},
			want: want{code: 1, object: "IngressClass {class}", reason: "belongs to another controller", hint: "ingress.className", state: nothingChanged}},
		{name: "host used by another Ingress", provoke: func(t *testing.T, s *harness.Site) {
			ns := harness.Namespace(t, nil)
			harness.Create(t, harness.Object(t, ns, fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: theirs}, spec: {ingressClassName: %s, rules: [
  {host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: theirs, port: {number: 80}}}}]}}]}}`, s.Class, s.Host)))
		},
			want:  want{code: 1, object: "host {host} with path /", reason: "is served by Ingress", says: []string{"/theirs"}, hint: "--host", state: nothingChanged},
			after: untouched},
		{name: "namespace terminating", provoke: terminating,
			want: want{code: 1, object: "Namespace {app}", reason: "is being deleted", says: []string{"example.test/held"}, hint: "kubectl get namespace {app}", state: nothingChanged}},
		{name: "finalizer stuck", provoke: func(t *testing.T, s *harness.Site) {
			if r := s.Pwdeploy(t.Context(), "up"); r.Code != 0 {
				t.Fatal(r.Errors)
			}
			ref := kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.App, Name: "pw-crud"}
			service := harness.Read(t, ref)
			service.SetFinalizers([]string{"example.test/held"})
			if _, err := harness.Admin(t).Resource(t, ref.GroupVersionKind, ref.Namespace).Update(t.Context(), service, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { harness.Unhold(t, ref) })
		}, command: []string{"down", "--yes", "--timeout", "20s"},
			want: want{code: 1, object: "Service {app}/pw-crud", reason: "example.test/held", hint: "kubectl -n {app} patch service pw-crud",
				state: "  app            deleted 8 objects, not all gone yet\n"}},
	}
}

// untouched makes sure that nothing was made.
func untouched(t *testing.T, s *harness.Site) {
	for _, ns := range []string{s.App, s.Redis} {
		if harness.Read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: ns}) != nil {
			t.Errorf("namespace %s was made", ns)
		}
	}
}

// webhook configures one that is asked about the Ingresses of the scene alone.
func webhook(t *testing.T, s *harness.Site, client string) {
	o := harness.Object(t, "", fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: %s}, webhooks: [{
  name: judge.example.test, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: %d, clientConfig: %s,
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}},
  rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [ingresses]}]}]}`, s.App, webhookSeconds, client, s.App))
	ref := kube.RefOf(harness.Create(t, o))
	t.Cleanup(func() { harness.Remove(t, ref) })
}

// webhookSeconds is how long the API server waits for a webhook's answer.
const webhookSeconds = 2

// gaveUp returns when the API server has waited in vain for the webhook that is asked.
func gaveUp(asked chan time.Time) func(*testing.T, *harness.Site) time.Time {
	return func(t *testing.T, s *harness.Site) time.Time {
		at := moment(asked)(t, s)
		if at.IsZero() {
			return at
		}
		return at.Add(webhookSeconds * time.Second)
	}
}

// webhookAnswers configures a webhook that says no after a while, and notes when it was asked.
func webhookAnswers(after time.Duration, no string, asked chan time.Time) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		forget(asked)
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var review admissionv1.AdmissionReview
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			note(asked)
			select {
			case <-r.Context().Done():
			case <-time.After(after):
			}
			review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Result: &metav1.Status{Message: no}}
			review.Request = nil
			_ = json.NewEncoder(w).Encode(review) // the API server may have given up
		}))
		t.Cleanup(server.Close)
		authority, err := json.Marshal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		if err != nil {
			t.Fatal(err)
		}
		webhook(t, s, fmt.Sprintf(`{url: "%s/judge", caBundle: %s}`, server.URL, authority))
	}
}

// terminating leaves the app's namespace in deletion, held by an object.
func terminating(t *testing.T, s *harness.Site) {
	harness.MakeNamespace(t, s.App, nil)
	held := harness.Object(t, s.App, "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [example.test/held]}}")
	ref := kube.RefOf(harness.Create(t, held))
	t.Cleanup(func() { harness.Unhold(t, ref) })
	namespace := kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App}
	harness.Remove(t, namespace)
	harness.Eventually(t, "the cluster says what holds the namespace", func() bool {
		return kube.WhyDeleting(harness.Read(t, namespace)) != ""
	})
}
