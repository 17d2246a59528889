package integration

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func (s *site) service() kube.Ref {
	return kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.App, Name: "pw-crud"}
}

// TestUpConflict: fields that somebody else has set are told all at once, before anything is touched, and are taken
// over only by those who say so.
func TestUpConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	secret := kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: s.App, Name: "pw-crud-redis"}
	password := secretValue(t, secret, "redis-password")
	merge(t, s.deployment(), "kubectl-edit", `{"spec": {"replicas": 4, "minReadySeconds": 1}}`)
	s.podsReady(t, 4)
	merge(t, s.service(), "console", `{"spec": {"type": "NodePort"}}`)
	merge(t, secret, someoneElse, `{"data": {"redis-password": "dGhlaXJz"}}`)

	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "up", "--image", "pw/crudservice:other")
	requireRefused(t, r, 1, "3 fields were set by somebody else", "--take-over")
	for object, parts := range map[string][]string{
		"Deployment": {".spec.replicas", "2", "4", "kubectl-edit"}, "Service": {".spec.type", "ClusterIP", "NodePort", "console"},
		"Secret": {".data.redis-password", kube.Hidden, kube.Hidden, someoneElse},
	} {
		requireRow(t, r.Errors, object, parts...)
	}
	if !strings.Contains(r.Errors, "Nothing was changed. ") || strings.Contains(r.Errors, "--keep-replicas") {
		t.Errorf("the hint is another:\n%s", r.Errors)
	}
	for _, form := range []string{password, "dGhlaXJz", "theirs\t"} {
		if strings.Contains(r.Errors, form) {
			t.Error("a Secret's value was shown")
		}
	}
	requireUntouched(t, before, s.snapshot(t))

	if got := s.up(t, "--take-over"); !got.Changed {
		t.Error("nothing was taken over")
	}
	requireSpec(t, read(t, s.deployment()), []string{"--replicas", "2"})
	if n, _, _ := unstructured.NestedInt64(read(t, s.deployment()).Object, "spec", "minReadySeconds"); n != 1 {
		t.Error("a field that is not ours was set back")
	}
	if got := secretValue(t, secret, "redis-password"); got != password {
		t.Error("the password is still theirs")
	}
	if again := s.up(t); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}
}

// podsReady waits for so many pods: they come by themselves after the Deployment was changed.
func (s *site) podsReady(t *testing.T, n int64) {
	t.Helper()
	eventually(t, "the pods are there", func() bool {
		ready, _, _ := unstructured.NestedInt64(read(t, s.deployment()).Object, "status", "availableReplicas")
		return ready == n
	})
}

// requireRow looks for a table's row with all of parts.
func requireRow(t *testing.T, text, object string, parts ...string) {
	t.Helper()
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		found := len(fields) > 0 && fields[0] == object
		for _, p := range parts {
			found = found && strings.Contains(line, p)
		}
		if found {
			return
		}
	}
	t.Errorf("no row of %s with %q:\n%s", object, parts, text)
}

// TestUpForeign: objects of somebody else's are told all at once, beside what else is in the way.
func TestUpForeign(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	account := kube.Ref{GroupVersionKind: kube.ServiceKind.GroupVersion().WithKind("ServiceAccount"), Namespace: s.App, Name: "pw-crud"}
	for _, ref := range []kube.Ref{s.service(), account} {
		merge(t, ref, someoneElse, `{"metadata": {"labels": {"pwdeploy/instance": "other"}}}`)
	}
	merge(t, s.deployment(), "kubectl-edit", `{"spec": {"replicas": 4}}`)
	s.podsReady(t, 4)
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "up", "--take-over")
	requireRefused(t, r, 1, "Service "+s.App+"/pw-crud exists and is managed by pwdeploy", "--namespace")
	if !strings.Contains(r.Errors, "ServiceAccount "+s.App+"/pw-crud exists") {
		t.Errorf("the other object is not named:\n%s", r.Errors)
	}
	requireUntouched(t, before, s.snapshot(t))
}

// TestKeepReplicas: the number of pods is an autoscaler's, once pwdeploy is told so.
func TestKeepReplicas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	if s.up(t, "--keep-replicas", "--replicas", "1"); t.Failed() {
		return
	}
	requireSpec(t, read(t, s.deployment()), []string{"--replicas", "1"})
	scale(t, s.deployment(), 3)
	r := s.Pwdeploy(t.Context(), "up")
	requireRefused(t, r, 1, "a field was set by somebody else", "--keep-replicas")
	requireRow(t, r.Errors, "Deployment", ".spec.replicas", "3", "autoscaler (scale)")
	if s.up(t, "--keep-replicas"); t.Failed() {
		return
	}
	if again := s.up(t, "--keep-replicas"); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}
	if s.up(t, "--keep-replicas", "--image", "pw/crudservice:other"); t.Failed() {
		return
	}
	requireSpec(t, read(t, s.deployment()), []string{"--replicas", "3", "--image", "pw/crudservice:other"})

	// An autoscaler that has set nothing yet tells as much as the field's owner would.
	merge(t, s.deployment(), "kubectl-edit", `{"spec": {"replicas": 4}}`)
	create(t, object(t, s.App, `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: pods}, spec: {
  maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: pw-crud}}}`))
	requireRefused(t, s.Pwdeploy(t.Context(), "up", "--image", "pw/crudservice:other"), 1, ".spec.replicas", "--keep-replicas")
}

// TestUpUnchangedRequests: looking for conflicts costs an up that has nothing to do no more than it cost before, which
// was two reads and a patch an object.
func TestUpUnchangedRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	var first, again requests
	s.open(t, &first)
	s.open(t, &again)
	deployment := fmt.Sprintf("/apis/apps/v1/namespaces/%s/deployments/pw-crud", s.App)
	var of []string
	for _, r := range again.all() {
		if strings.Contains(r, deployment) {
			of = append(of, r)
		}
	}
	if len(of) != 2 || !strings.HasPrefix(of[0], "GET ") || !strings.Contains(of[1], "dryRun=All") {
		t.Errorf("one read and one dry run are enough:\n%s", strings.Join(of, "\n"))
	}
	if patches := strings.Count(strings.Join(again.writes(), "\n"), "PATCH "); patches > 0 {
		t.Errorf("%d patches in earnest", patches)
	}
	t.Logf("%d requests", again.count())
}
