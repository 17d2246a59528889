package faults

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// checkScenes are about what up's first look finds, before anything is made.
func checkScenes() []scene {
	return []scene{
		{name: "quota that is used up", provoke: quota,
			want: want{code: 1, object: "Deployment {app}/pw-crud", reason: "exceeded quota", hint: "kubectl -n {app} describe resourcequota,limitrange"}},
		{name: "limit range", provoke: limitRange,
			want: want{code: 1, object: "Deployment {app}/pw-crud", reason: "maximum memory usage per Container is 10Mi", hint: "kubectl -n {app} describe resourcequota,limitrange"}},
		{name: "Pod Security refuses", provoke: podSecurity,
			want: want{code: 1, object: "Deployment {ingress}/ingress-nginx-controller", reason: `violates PodSecurity "baseline:latest"`, says: []string{"hostPort"}, hint: "kubectl get namespace {ingress} --show-labels"}},
		{name: "host used by another Ingress", provoke: otherIngress,
			want: want{code: 1, object: "Ingress {redis}/other", reason: "host {host} with path / is served by", hint: "--host"}},
		{name: "webhook left over from a deleted namespace", provoke: leftoverWebhook,
			want: want{code: 1, object: "ValidatingWebhookConfiguration it-", reason: "its namespace is gone", says: []string{"Service {app}-gone/admission"}, hint: "kubectl delete validatingwebhookconfiguration it-"}},
	}
}

// quota allows no pods in the app's namespace.
func quota(t *testing.T, s *harness.Site) {
	harness.MakeNamespace(t, s.App, nil)
	ref := kube.RefOf(harness.Create(t, harness.Object(t, s.App, "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: '0'}}}")))
	harness.Eventually(t, "the quota is counted", func() bool {
		hard, _, _ := unstructured.NestedMap(harness.Read(t, ref).Object, "status", "hard")
		return len(hard) > 0
	})
}

// limitRange allows less memory than the app's pods may use.
func limitRange(t *testing.T, s *harness.Site) {
	harness.MakeNamespace(t, s.App, nil)
	harness.Create(t, harness.Object(t, s.App, "{apiVersion: v1, kind: LimitRange, metadata: {name: little}, spec: {limits: [{type: Container, max: {memory: 10Mi}}]}}"))
}

// podSecurity forbids the ports of the node that our own controller listens on.
func podSecurity(t *testing.T, s *harness.Site) {
	s.Class = s.App // nobody's: a controller of ours is planned
	harness.MakeNamespace(t, s.Ingress, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
}

// otherIngress serves the host in another namespace.
func otherIngress(t *testing.T, s *harness.Site) {
	harness.MakeNamespace(t, s.Redis, nil)
	harness.Create(t, harness.Object(t, s.Redis, fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: other}, spec: {ingressClassName: %s, rules: [
  {host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}}`, s.Class, s.Host)))
}

// leftoverWebhook judges Ingresses of the scene's own namespace only: scenes beside it are not disturbed.
func leftoverWebhook(t *testing.T, s *harness.Site) {
	ref := kube.RefOf(harness.Create(t, harness.Object(t, "", fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: %s}, webhooks: [
  {name: validate.example.test, admissionReviewVersions: [v1], sideEffects: None, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}},
   rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], resources: [ingresses], operations: [CREATE, UPDATE]}],
   clientConfig: {service: {namespace: %s-gone, name: admission}}}]}`, harness.UniqueName("it"), s.App, s.App))))
	t.Cleanup(func() { harness.Remove(t, ref) })
}
