package integration

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// TestLifecycle takes an empty cluster to a served request and back: up, up again, status, down.
func TestLifecycle(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	edge := startEdge(t, s.Ingress)
	empty := s.snapshot(t)

	first := s.up(t)
	if got, want := actions(first), "redis installed, ingress-nginx installed, app applied"; got != want || !first.Changed {
		t.Errorf("the first up: %s, changed: %v", got, first.Changed)
	}
	if e := first.Endpoint; e == nil || !strings.HasPrefix(e.URL, "http://"+s.Host) || e.Via != stack.Direct {
		t.Errorf("the endpoint is %+v", e)
	}
	if asked, left := edge.Served(); len(asked) != 3 || left != 0 {
		t.Errorf("the app was asked %v, and %d keys are left", asked, left)
	}
	if edge.WebhookAsked() < 2 {
		t.Error("the Ingress did not go through the admission webhook, by dry run and in earnest")
	}
	for _, ref := range s.written() {
		requireManagers(t, read(t, ref), kube.FieldManager)
	}
	before := s.snapshot(t)

	again := s.up(t)
	if got, want := actions(again), "redis unchanged, ingress-nginx unchanged, app unchanged"; got != want || again.Changed {
		t.Errorf("the second up: %s, changed: %v", got, again.Changed)
	}
	requireUntouched(t, before, s.snapshot(t))

	if r := s.Pwdeploy(t.Context(), "status"); r.Code != 0 {
		t.Errorf("status: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	requireUntouched(t, before, s.snapshot(t))

	if down := s.down(t, "--delete-data"); len(down.Kept) > 0 {
		t.Errorf("down kept %v", down.Kept)
	}
	requireUntouched(t, empty, s.snapshot(t))
	if r := s.Pwdeploy(t.Context(), "down", "--yes"); r.Code != 0 || !strings.Contains(r.Out, "Nothing to take away") {
		t.Errorf("down again: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
}

// written are objects that nobody but pwdeploy writes to, of the app and of both charts.
func (s *site) written() []kube.Ref {
	return []kube.Ref{
		{GroupVersionKind: kube.NamespaceKind, Name: s.App},
		{GroupVersionKind: kube.IngressKind, Namespace: s.App, Name: "pw-crud"},
		{GroupVersionKind: kube.ServiceKind, Namespace: s.App, Name: "pw-crud"},
		{GroupVersionKind: kube.SecretKind, Namespace: s.App, Name: "pw-crud-redis"},
		inventoryRef(s.App),
		s.password(),
		{GroupVersionKind: kube.ServiceKind, Namespace: s.Redis, Name: "redis-master"},
		{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-master"},
		{GroupVersionKind: kube.ServiceKind, Namespace: s.Ingress, Name: "ingress-nginx-controller"},
		{GroupVersionKind: kube.IngressClassKind, Name: "nginx"},
	}
}

func (s *site) password() kube.Ref {
	return kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: s.Redis, Name: "pwdeploy-redis"}
}

func (s *site) deployment() kube.Ref {
	return kube.Ref{GroupVersionKind: kube.DeploymentKind, Namespace: s.App, Name: "pw-crud"}
}

// cleanUp takes away what a failed test left.
func (s *site) cleanUp(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if r := s.Pwdeploy(context.WithoutCancel(t.Context()), "down", "--yes", "--delete-data"); r.Code != 0 && t.Failed() {
			t.Logf("down: exit code %d\n%s", r.Code, r.Errors)
		}
	})
}

// TestForeignController: somebody else's ingress controller serves the app, and neither up nor down changes it.
func TestForeignController(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	edge := s.ForeignController(t)
	before := s.snapshot(t)

	result := s.up(t)
	if got, want := actions(result), "redis installed, ingress-nginx reused, app applied"; got != want {
		t.Errorf("up: %s", got)
	}
	if asked, _ := edge.Served(); len(asked) != 3 {
		t.Errorf("the app was asked %v", asked)
	}
	if read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.Ingress}) != nil {
		t.Error("a namespace was made for a controller that is not needed")
	}
	policy := read(t, kube.Ref{GroupVersionKind: schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}, Namespace: s.App, Name: "pw-crud"})
	if text := intent(t, policy); !strings.Contains(text, s.Controller) {
		t.Errorf("the app's NetworkPolicy keeps the controller in %s out:\n%s", s.Controller, text)
	}
	requireKept(t, before, s.snapshot(t))

	s.down(t, "--delete-data")
	requireUntouched(t, before, s.snapshot(t))
}

// requireKept fails unless everything in a snapshot is still as it was.
func requireKept(t *testing.T, before, after snapshot) {
	t.Helper()
	for _, line := range differences(before, after) {
		if !strings.HasSuffix(line, " appeared") {
			t.Error(line)
		}
	}
}

// TestUpChanges: a change is carried out, and takes away what it replaces and nothing else.
func TestUpChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	for _, step := range []struct {
		name    string
		args    []string
		prepare func()
		want    string
		gone    []string // beside pods
	}{
		{name: "another image", args: []string{"--image", "pw/crudservice:other"}, want: "redis unchanged, ingress-nginx reused, app applied"},
		{name: "more pods", args: []string{"--image", "pw/crudservice:other", "--replicas", "3"}, want: "redis unchanged, ingress-nginx reused, app applied"},
		{name: "another host", args: []string{"--image", "pw/crudservice:other", "--replicas", "3", "--host", "other-" + s.Host}, want: "redis unchanged, ingress-nginx reused, app applied"},
		{name: "a Service that was deleted", args: []string{"--image", "pw/crudservice:other", "--replicas", "3", "--host", "other-" + s.Host},
			prepare: func() { remove(t, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.App, Name: "pw-crud"}) },
			want:    "redis unchanged, ingress-nginx reused, app applied"},
		{name: "Redis' Service was deleted", args: []string{"--image", "pw/crudservice:other", "--replicas", "3", "--host", "other-" + s.Host},
			prepare: func() {
				remove(t, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.Redis, Name: "redis-master"})
			},
			want: "redis mended, ingress-nginx reused, app unchanged"},
		{name: "what an earlier version made", prepare: func() { s.recordOld(t) },
			want: "redis unchanged, ingress-nginx reused, app applied", gone: []string{"ConfigMap " + s.App + "/service-config-old"}},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.prepare != nil {
				step.prepare()
			}
			before := takeSnapshot(t, s.App)
			result := s.up(t, step.args...)
			if got := actions(result); got != step.want || !result.Changed {
				t.Errorf("up: %s, changed: %v", got, result.Changed)
			}
			var gone []string
			for _, line := range differences(before, takeSnapshot(t, s.App)) {
				if what, ok := strings.CutSuffix(line, " is gone"); ok && !strings.HasPrefix(what, "Pod ") {
					gone = append(gone, what)
				}
			}
			if !slices.Equal(gone, step.gone) {
				t.Errorf("gone: %v, want %v", gone, step.gone)
			}
			requireSpec(t, read(t, s.deployment()), step.args)
			if again := s.up(t, step.args...); again.Changed {
				t.Errorf("the same again: %s", actions(again))
			}
		})
	}
}

// recordOld makes the record one of a version that had other objects: one that is still ours, and one that somebody
// else has made anew since.
func (s *site) recordOld(t *testing.T) {
	t.Helper()
	refs := []kube.Ref{
		kube.RefOf(create(t, owned(t, s.App, configMap("service-config-old", "key", "value")))),
		kube.RefOf(create(t, object(t, s.App, configMap("theirs-now", "key", "value")))),
		kube.RefOf(object(t, s.App, configMap("gone-already", "key", "value"))),
	}
	client := connect(t, nil)
	inventory, err := client.ReadInventory(t.Context(), s.App)
	if err != nil {
		t.Fatal(err)
	}
	inventory.AddObjects(refs)
	if err := client.WriteInventory(t.Context(), s.App, inventory); err != nil {
		t.Fatal(err)
	}
}

// TestUpMoved: Helm can't move a release to another namespace, and Redis' data would stay behind.
func TestUpMoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	before := s.snapshot(t)
	moved := *s
	moved.Redis += "-moved"
	requireRefused(t, moved.Pwdeploy(t.Context(), "up"), 1, "release redis is in namespace "+s.Redis, "set its namespace back")
	requireUntouched(t, before, s.snapshot(t))
	if read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: moved.Redis}) != nil {
		t.Error("the other namespace was made")
	}
}

func requireSpec(t *testing.T, deployment *unstructured.Unstructured, args []string) {
	t.Helper()
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--image":
			if got := kube.FirstImage(deployment); got != args[i+1] {
				t.Errorf("the image is %s", got)
			}
		case "--replicas":
			if got, _, _ := unstructured.NestedInt64(deployment.Object, "spec", "replicas"); fmt.Sprint(got) != args[i+1] {
				t.Errorf("there are %d replicas", got)
			}
		}
	}
}

// TestPassword is made once, kept as long as the data is, and shown to nobody.
func TestPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	var shown strings.Builder
	run := func(args ...string) {
		t.Helper()
		r := s.Pwdeploy(t.Context(), append(args, "--log-level", "debug")...)
		shown.WriteString(r.Out + r.Errors)
		if r.Code != 0 {
			t.Fatalf("pwdeploy %v: exit code %d\n%s", args, r.Code, r.Errors)
		}
	}
	run("up")
	first := secretValue(t, s.password(), "redis-password")
	if len(first) < 32 {
		t.Errorf("the password has %d characters", len(first))
	}
	run("up")
	run("status", "-o", "yaml")
	run("down", "--yes")
	if read(t, s.deployment()) != nil {
		t.Error("the app is still there")
	}
	run("up")
	for _, ref := range []kube.Ref{s.password(), {GroupVersionKind: kube.SecretKind, Namespace: s.App, Name: "pw-crud-redis"}} {
		if got := secretValue(t, ref, "redis-password"); got != first {
			t.Errorf("%s holds another password", ref)
		}
	}
	run("down", "--yes", "--delete-data")
	run("up")
	if second := secretValue(t, s.password(), "redis-password"); second == first {
		t.Error("the password is the one of the data that is gone")
	}
	run("down", "--yes", "--delete-data")
	for _, form := range []string{first, base64.StdEncoding.EncodeToString([]byte(first))} {
		for line := range strings.Lines(shown.String()) {
			if strings.Contains(line, form) {
				t.Errorf("the password was shown: %.300s", line)
			}
		}
	}
}

func secretValue(t *testing.T, ref kube.Ref, key string) string {
	t.Helper()
	secret, err := adminClient(t).CoreV1().Secrets(ref.Namespace).Get(t.Context(), ref.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(secret.Data[key])
}

// The most requests that up may send where nothing is to be done, with somebody else's controller and with ours. They
// are what was measured, and a little room; a change that needs more has to say why.
const (
	budgetForeignController = 74
	budgetOwnController     = 99
)

// TestRequestBudget: a deployment that is as it should be costs few requests, and no write.
func TestRequestBudget(t *testing.T) {
	for name, test := range map[string]struct {
		foreign bool
		budget  int
	}{
		"somebody else's controller": {true, budgetForeignController},
		"our own controller":         {false, budgetOwnController},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.cleanUp(t)
			if test.foreign {
				s.ForeignController(t)
			} else {
				startEdge(t, s.Ingress)
			}
			var first, again requests
			s.open(t, &first)
			result := s.open(t, &again)
			if result.Changed {
				t.Errorf("the second up changed something: %s", actions(*result))
			}
			t.Logf("requests of up: %d the first time, %d when nothing is to be done (budget %d)", first.count(), again.count(), test.budget)
			if again.count() > test.budget {
				t.Errorf("over the budget:\n%s", strings.Join(again.all(), "\n"))
			}
			if len(first.writes()) == 0 {
				t.Error("the first up wrote nothing: the requests are not counted")
			}
			for _, w := range again.writes() {
				t.Errorf("a write: %s", w)
			}
			if all := strings.Join(again.all(), "\n"); strings.Contains(all, "/leases") {
				t.Error("the lock was asked for")
			}
		})
	}
}

// open runs up by the engine itself, with all requests counted.
func (s *site) open(t *testing.T, traffic *requests) *stack.UpResult {
	t.Helper()
	result, err := s.engine(t, traffic).Up(t.Context(), stack.UpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// engine is pwdeploy without its command line.
func (s *site) engine(t *testing.T, traffic *requests) *stack.Engine {
	t.Helper()
	environ, err := s.Environ()
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(config.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := stack.Open(t.Context(), cfg, stack.Options{Version: "test", Wrap: traffic.wrap})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// TestUpWebhookSilent: an admission webhook that never answers holds the Ingress back, and is named.
func TestUpWebhookSilent(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	r := s.lateUp(t, "30s", "validate.nginx.ingress.kubernetes.io")
	requireRefused(t, r, 1, "validate.nginx.ingress.kubernetes.io", "kubectl get validatingwebhookconfigurations")
	if read(t, kube.Ref{GroupVersionKind: kube.IngressKind, Namespace: s.App, Name: "pw-crud"}) != nil {
		t.Error("the Ingress is there")
	}
	if !strings.Contains(r.Errors, "pwdeploy status") {
		t.Errorf("it is not said what can be done:\n%s", r.Errors)
	}
}

// TestUpNotServed: everything is ready and nobody answers.
func TestUpNotServed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t).Close()
	r := s.lateUp(t, "40s", "is not served")
	requireRefused(t, r, 1, "endpoint: http://"+s.Host+"/pw is not served", "pwdeploy status")
	if r := s.Pwdeploy(t.Context(), "status"); r.Code != 3 || !strings.Contains(r.Out, "not served") {
		t.Errorf("status: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
}

// TestUpQuota: pods that the cluster refuses end the run early, with the cluster's reason.
func TestUpQuota(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	makeNamespace(t, s.App, nil)
	create(t, object(t, s.App, "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: 0}}}"))
	begin := time.Now()
	r := s.Pwdeploy(t.Context(), "up")
	requireRefused(t, r, 1, "exceeded quota: none", "quota")
	if took := time.Since(begin); took > 90*time.Second { // pwdeploy has 2 minutes
		t.Errorf("it took %s", took)
	}
}

// TestConfigFile: what stands in the file is used, relative to it.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	path := t.TempDir() + "/pwdeploy.yaml"
	text := fmt.Sprintf("replicas: 1\nredis:\n  chart:\n    values: [redis.yaml]\nhost: file-%s\n", s.Host)
	for name, content := range map[string]string{path: text, strings.TrimSuffix(path, "pwdeploy.yaml") + "redis.yaml": "replica: {replicaCount: 2}\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Env = []string{"PWDEPLOY_HOST=env-" + s.Host}
	result := s.up(t, "--config", path)
	if got := result.Endpoint; got == nil || !strings.HasPrefix(got.URL, "http://env-"+s.Host) {
		t.Errorf("the environment goes before the file: got %+v", got)
	}
	requireSpec(t, read(t, s.deployment()), []string{"--replicas", "1"})
	replicas := read(t, kube.Ref{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-replicas"})
	if n, _, _ := unstructured.NestedInt64(replicas.Object, "spec", "replicas"); n != 2 {
		t.Errorf("Redis has %d replicas", n)
	}
}
