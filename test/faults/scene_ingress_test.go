package faults

import (
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// ingressScenes are about who serves the app.
func ingressScenes() []scene {
	return []scene{
		{name: "namespace terminating", provoke: terminating,
			want: want{code: 1, object: "Namespace {app}", reason: "is being deleted", hint: "kubectl get namespace {app}"}},
	}
}

// terminating leaves the app's namespace in deletion, held by an object.
func terminating(t *testing.T, s *harness.Site) {
	harness.MakeNamespace(t, s.App, nil)
	held := harness.Object(t, s.App, "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [example.test/held]}}")
	ref := kube.RefOf(harness.Create(t, held))
	t.Cleanup(func() { harness.Unhold(t, ref) })
	harness.Remove(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App})
}
