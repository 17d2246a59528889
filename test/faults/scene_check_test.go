package faults

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// checkScenes are about what up's first look finds, before anything is made.
func checkScenes() []scene {
	return []scene{
		{name: "quota that is used up", provoke: quota,
			want: want{code: 1, object: "Deployment {app}/pw-crud", reason: "exceeded quota", hint: "kubectl -n {app} describe resourcequota,limitrange", state: nothingChanged}},
		{name: "limit range", provoke: limitRange,
			want: want{code: 1, object: "Deployment {app}/pw-crud", reason: "maximum memory usage per Container is 10Mi", hint: "kubectl -n {app} describe resourcequota,limitrange", state: nothingChanged}},
		{name: "Pod Security refuses", provoke: podSecurity,
			want: want{code: 1, object: "Deployment {ingress}/ingress-nginx-controller", reason: `violates PodSecurity "baseline:latest"`, says: []string{"hostPort"}, hint: "kubectl get namespace {ingress} --show-labels", state: nothingChanged}},
		{name: "RBAC forbids one thing", provoke: func(t *testing.T, s *harness.Site) {
			s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+harness.UserWithoutIngresses(t))
		},
			want: want{code: 1, object: "ingresses.networking.k8s.io in {app}", reason: "not permitted", says: []string{"create ingresses", "patch ingresses"}, hint: "administrator", state: nothingChanged}},
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
