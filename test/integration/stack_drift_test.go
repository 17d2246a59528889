package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

var disruptionBudgetKind = schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}

// status reads the deployment's state.
func (s *site) status(t *testing.T, code int) stack.StatusResult {
	t.Helper()
	r := s.Pwdeploy(t.Context(), "status", "-o", "json")
	var out stack.StatusResult
	if err := json.Unmarshal([]byte(r.Out), &out); err != nil || r.Code != code {
		t.Fatalf("exit code %d, want %d, %v\n%s\n%s%s", r.Code, code, err, strings.Join(changes(out), "\n"), r.Out, r.Errors)
	}
	return out
}

// changes are what status tells of changed and deleted objects, without the time.
func changes(r stack.StatusResult) []string {
	var out []string
	for _, c := range r.Components {
		for _, o := range c.Objects {
			if o.Missing {
				out = append(out, o.Kind+" "+o.Name+" is missing")
			}
			for _, d := range o.Drift {
				change, _, _ := strings.Cut(d.Change(), " on 2")
				out = append(out, o.Kind+" "+o.Name+" "+change)
			}
		}
	}
	return out
}

func requireChanges(t *testing.T, r stack.StatusResult, want ...string) {
	t.Helper()
	got := changes(r)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("not told: %s", w)
		}
	}
	if len(got) != len(want) || r.Drifted != (len(got) > 0) {
		t.Errorf("drifted: %v\n%s", r.Drifted, strings.Join(got, "\n"))
	}
}

// TestDrift: what somebody changed or deleted, of the app and of both charts, is told by status, to those too who may
// only read, and mended by up. What nobody changed is no drift.
func TestDrift(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	startEdge(t, s.Ingress)
	s.up(t)
	requireChanges(t, s.status(t, 0))

	controller := kube.Ref{GroupVersionKind: kube.DeploymentKind, Namespace: s.Ingress, Name: "ingress-nginx-controller"}
	replicas := kube.Ref{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-replicas"}
	service := kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.Redis, Name: "redis-master"}
	scripts := kube.Ref{GroupVersionKind: kube.ConfigMapKind, Namespace: s.Redis, Name: "redis-health"}
	merge(t, replicas, "kubectl-edit", `{"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 31}}}}`)
	merge(t, service, "kubectl-edit", `{"metadata": {"labels": {"app.kubernetes.io/name": null, "theirs": "yes"}}}`)
	merge(t, controller, "console", `{"spec": {"revisionHistoryLimit": 3, "progressDeadlineSeconds": 700}}`)
	remove(t, scripts)
	remove(t, kube.Ref{GroupVersionKind: disruptionBudgetKind, Namespace: s.Redis, Name: "redis-master"})
	scale(t, s.deployment(), 1)
	merge(t, s.service(), "console", `{"spec": {"type": "NodePort"}}`)
	merge(t, kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: s.App, Name: "pw-crud-redis"}, someoneElse, `{"data": {"redis-password": "dGhlaXJz"}}`)

	want := []string{
		"StatefulSet redis-replicas .spec.template.spec.terminationGracePeriodSeconds is 31 instead of 30, set by kubectl-edit",
		"Service redis-master .metadata.labels.app.kubernetes.io/name was removed, it was redis",
		"ConfigMap redis-health is missing",
		"PodDisruptionBudget redis-master is missing",
		"Deployment ingress-nginx-controller .spec.revisionHistoryLimit is 3 instead of 10, set by console",
		"Deployment pw-crud .spec.replicas is 1 instead of 2, set by autoscaler (scale)",
		"Service pw-crud .spec.type is NodePort instead of ClusterIP, set by console",
		"Secret pw-crud-redis .data.redis-password has another value, set by " + someoneElse,
	}
	eventually(t, "the changes are rolled out", func() bool {
		pods, err := adminClient(t).CoreV1().Pods(s.App).List(t.Context(), metav1.ListOptions{})
		set := read(t, replicas)
		current, _, _ := unstructured.NestedString(set.Object, "status", "currentRevision")
		update, _, _ := unstructured.NestedString(set.Object, "status", "updateRevision")
		seen, _, _ := unstructured.NestedInt64(set.Object, "status", "observedGeneration")
		return err == nil && len(pods.Items) == 1 && current == update && seen == set.GetGeneration()
	})
	before := s.snapshot(t)
	requireChanges(t, s.status(t, 3), want...)
	reader := *s
	reader.Env = slices.Clone(s.Env)
	readOnly(t, &reader)
	requireChanges(t, reader.status(t, 3), want...)
	if r := s.Pwdeploy(t.Context(), "status"); r.Code != 3 || strings.Contains(r.Out, "dGhlaXJz") {
		t.Errorf("exit code %d\n%s", r.Code, r.Out)
	}
	requireUntouched(t, before, s.snapshot(t))

	requireRefused(t, s.Pwdeploy(t.Context(), "up"), 1, "3 fields were set by somebody else", "--take-over")
	r := s.Pwdeploy(t.Context(), "up", "--take-over")
	for _, line := range []string{
		"redis          mending: ConfigMap " + s.Redis + "/redis-health was deleted\n",
		"ingress-nginx  mending: Deployment " + s.Ingress + "/ingress-nginx-controller: .spec.revisionHistoryLimit is 3 instead of 10, set by console",
		" mended (",
	} {
		if !strings.Contains(r.Errors, line) {
			t.Errorf("exit code %d, not told: %s\n%s", r.Code, line, r.Errors)
		}
	}
	requireChanges(t, s.status(t, 0))
	if l := read(t, service).GetLabels(); l["theirs"] != "yes" {
		t.Errorf("a label that is no matter of ours is gone: %v", l)
	}
	if again := s.up(t); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}
}

// TestDriftKeepReplicas: the number of pods that an autoscaler has set is no drift for those who leave it to one, also
// where status does not get the flag; and what one does to the pods of a chart is left alone.
func TestDriftKeepReplicas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t, "--keep-replicas")
	scale(t, s.deployment(), 1)
	requireChanges(t, s.status(t, 0))

	replicas := kube.Ref{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-replicas"}
	create(t, object(t, s.Redis, `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: pods}, spec: {
  minReplicas: 2, maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: redis-replicas}}}`))
	eventually(t, "the autoscaler has set the number of pods, and they are ready", func() bool {
		ready, _, _ := unstructured.NestedInt64(read(t, replicas).Object, "status", "availableReplicas")
		return ready == 2
	})
	requireChanges(t, s.status(t, 0))
	if again := s.up(t, "--keep-replicas"); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}
}

// The most requests that status may send, with somebody else's controller: what was measured, and a little room. What
// was deployed costs two of them, the changes none: the objects are read anyway.
const budgetStatus = 38

// TestStatusRequests: status stays quick.
func TestStatusRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	var traffic requests
	if r, err := s.engine(t, &traffic).Status(t.Context()); err != nil || !r.Healthy || r.Drifted {
		t.Errorf("got %+v, %v", r, err)
	}
	t.Logf("%d requests (budget %d)", traffic.count(), budgetStatus)
	if traffic.count() > budgetStatus || len(traffic.writes()) > 0 {
		t.Errorf("over the budget, or it writes:\n%s", strings.Join(traffic.all(), "\n"))
	}
}

// redisValues makes pwdeploy use values of its own for Redis.
func (s *site) redisValues(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "redis.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"PWDEPLOY_REDIS_CHART_VALUES=" + path}
}

// TestRecreateRelease: what Helm could not change of a release is told before anything is touched, with the object and
// the field, and made anew by those who say so. Claims stay, and a run that was killed half-way is taken up.
func TestRecreateRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	master := kube.Ref{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-master"}
	claim := kube.Ref{GroupVersionKind: kube.PVCKind, Namespace: s.Redis, Name: "redis-data-redis-master-0"}
	pod := kube.Ref{GroupVersionKind: kube.PodKind, Namespace: s.Redis, Name: "redis-master-0"}
	refused := func(args ...string) {
		t.Helper()
		before := s.snapshot(t)
		r := s.Pwdeploy(t.Context(), append([]string{"up"}, args...)...)
		requireRefused(t, r, 1, "StatefulSet "+s.Redis+"/redis-master can't be changed in place:\n         spec.volumeClaimTemplates: field is immutable", "--recreate")
		requireUntouched(t, before, s.snapshot(t))
	}

	class := uniqueName("it")
	harness.Volume(t, class)
	persistent := "master: {persistence: {enabled: true, storageClass: " + class + "}}\n"
	s.redisValues(t, persistent)
	refused()
	refused("--take-over")
	orphan := metav1.DeletePropagationOrphan // as a run that is killed before Helm works leaves it
	if err := adminClient(t).AppsV1().StatefulSets(s.Redis).Delete(t.Context(), master.Name, metav1.DeleteOptions{PropagationPolicy: &orphan}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the StatefulSet is gone", func() bool { return read(t, master) == nil })
	if got, want := actions(s.up(t)), "redis upgraded, ingress-nginx reused, app unchanged"; got != want {
		t.Errorf("up: %s", got)
	}
	made := read(t, claim)
	if made == nil {
		t.Fatal("there is no claim")
	}

	was := read(t, master).GetUID()
	before := read(t, pod).GetUID()
	s.Env = nil
	refused()
	if got, want := actions(s.up(t, "--recreate")), "redis upgraded, ingress-nginx reused, app unchanged"; got != want {
		t.Errorf("up --recreate: %s", got)
	}
	if is := read(t, master); is == nil || is.GetUID() == was {
		t.Error("the StatefulSet was not made anew")
	}
	eventually(t, "the pod is a new one", func() bool {
		is := read(t, pod)
		return is != nil && is.GetUID() != before && metav1.GetControllerOf(is) != nil
	})
	if again := s.up(t, "--recreate"); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}

	s.redisValues(t, persistent)
	was = read(t, master).GetUID()
	kill := s.start(t, "up", "--recreate")
	eventually(t, "the StatefulSet is deleted", func() bool {
		is := read(t, master)
		return is == nil || is.GetUID() != was
	})
	kill()
	s.up(t)
	if templates, _, _ := unstructured.NestedSlice(read(t, master).Object, "spec", "volumeClaimTemplates"); len(templates) != 1 {
		t.Errorf("the volumes are %v", templates)
	}
	if is := read(t, claim); is == nil || is.GetUID() != made.GetUID() || is.GetDeletionTimestamp() != nil {
		t.Errorf("the claim is gone: %v", is)
	}
}

// TestRecreateApp: the same for the app's own objects.
func TestRecreateApp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	other := read(t, s.deployment()).DeepCopy()
	remove(t, s.deployment())
	eventually(t, "the Deployment is gone", func() bool { return read(t, s.deployment()) == nil })
	for _, path := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
		if err := unstructured.SetNestedStringMap(other.Object, map[string]string{"app": "other"}, path...); err != nil {
			t.Fatal(err)
		}
	}
	other.SetManagedFields(nil)
	other.SetResourceVersion("")
	other.SetUID("")
	create(t, other)
	s.podsReady(t, 2)

	before := s.snapshot(t)
	requireRefused(t, s.Pwdeploy(t.Context(), "up"), 1, "Deployment "+s.App+"/pw-crud can't be changed in place:\n         spec.selector: ", "--recreate")
	requireUntouched(t, before, s.snapshot(t))
	r := s.Pwdeploy(t.Context(), "up", "--recreate")
	if r.Code != 0 || !strings.Contains(r.Errors, "app            making Deployment "+s.App+"/pw-crud anew") {
		t.Errorf("up --recreate: exit code %d\n%s", r.Code, r.Errors)
	}
	requireChanges(t, s.status(t, 0))
	if again := s.up(t); again.Changed {
		t.Errorf("the next up: %s", actions(again))
	}
}
