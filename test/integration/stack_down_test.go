package integration

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// redisClaim is a volume as the chart's StatefulSets leave them behind.
const redisClaim = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: redis-data-redis-master-0, labels: {
  app.kubernetes.io/instance: redis, app.kubernetes.io/name: redis}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`

// TestDownAsks: where nobody can be asked, --yes has to be given.
func TestDownAsks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	before := s.snapshot(t)
	requireRefused(t, s.Pwdeploy(t.Context(), "down"), 2, "there is no terminal to ask on", "give --yes")
	requireUntouched(t, before, s.snapshot(t))
}

// TestDownLeaves: what somebody else made stays, with the namespace that holds it, and so does Redis' data until it is
// given up.
func TestDownLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	makeNamespace(t, s.Redis, map[string]string{"team": "platform"})
	empty := s.snapshot(t)
	s.up(t)
	theirs := kube.RefOf(create(t, object(t, s.App, configMap("theirs", "key", "value"))))
	volume := kube.RefOf(create(t, object(t, s.Redis, redisClaim)))
	foreign := s.snapshot(t)[theirs.String()]

	result := s.down(t)
	after := s.snapshot(t)
	if after[theirs.String()] != foreign {
		t.Error("somebody else's ConfigMap was touched")
	}
	requireKept(t, empty, after)
	kept := keptThings(result)
	if want := []string{volume.String(), s.password().String(), "Namespace " + s.App}; !slices.Equal(sorted(kept), sorted(want)) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	if !strings.Contains(strings.Join(reasons(result), "\n"), theirs.String()) {
		t.Errorf("it is not said why the namespace stays: %v", reasons(result))
	}
	want := []string{theirs.String() + " appeared", volume.String() + " appeared", s.password().String() + " appeared", "Namespace " + s.App + " appeared",
		"ConfigMap " + s.App + "/kube-root-ca.crt appeared", "ServiceAccount " + s.App + "/default appeared"}
	if got := differences(empty, after); !slices.Equal(got, sorted(want)) {
		t.Errorf("left: %v, want %v", got, sorted(want))
	}

	s.down(t, "--delete-data")
	if read(t, volume) != nil || read(t, s.password()) != nil {
		t.Error("the data is still there")
	}
	if read(t, theirs) == nil || read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.Redis}) == nil {
		t.Error("what is somebody else's is gone")
	}
	if r := s.Pwdeploy(t.Context(), "down", "--yes"); r.Code != 0 {
		t.Errorf("down again: exit code %d\n%s", r.Code, r.Errors)
	}
}

func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

func keptThings(r stack.DownResult) []string {
	var out []string
	for _, k := range r.Kept {
		out = append(out, k.What)
	}
	return out
}

func reasons(r stack.DownResult) []string {
	var out []string
	for _, k := range r.Kept {
		out = append(out, k.Why)
	}
	return out
}

// TestDownWithoutRecord: what a lost record held is found by its labels.
func TestDownWithoutRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	empty := s.snapshot(t)
	s.up(t)
	remove(t, inventoryRef(s.App))
	s.down(t, "--delete-data")
	requireUntouched(t, empty, s.snapshot(t))
}

// TestDownForeign: down of a deployment that is not there takes nothing of somebody else's of the same names.
func TestDownForeign(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	inApp("{apiVersion: v1, kind: Service, metadata: {name: pw-crud}, spec: {ports: [{port: 80}]}}")(t, s)
	inRedis(helmRecord("deployed", ""))(t, s)
	create(t, object(t, s.Redis, redisClaim))
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "down", "--yes", "--delete-data")
	if r.Code != 0 || !strings.Contains(r.Out, "Nothing to take away") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	requireUntouched(t, before, s.snapshot(t))
}

// held keeps an object from going until the function that it gives is called.
func held(t *testing.T, ref kube.Ref) (let func()) {
	t.Helper()
	merge(t, ref, someoneElse, `{"metadata": {"finalizers": ["example.test/held"]}}`)
	let = sync.OnceFunc(func() { unhold(t, ref) })
	t.Cleanup(func() {
		if t.Failed() && read(t, ref) != nil {
			let()
		}
	})
	return let
}

// requireReleaseStatus waits until Helm's newest record says so.
func requireReleaseStatus(t *testing.T, namespace, name, status string) {
	t.Helper()
	eventually(t, "release "+name+" is "+status, func() bool {
		secrets, err := adminClient(t).CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,name=" + name + ",status=" + status})
		return err == nil && len(secrets.Items) > 0
	})
}

// TestDownKilled: a down that is killed while it removes Redis is finished by the next up, which then installs it again
// and finds data and password, or by another down.
func TestDownKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	empty := s.snapshot(t)
	s.up(t)
	claim := kube.RefOf(create(t, object(t, s.Redis, redisClaim)))
	password := secretValue(t, s.password(), "redis-password")
	service := kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.Redis, Name: "redis-master"}

	killDown := func() {
		t.Helper()
		let := held(t, service)
		kill := s.start(t, "down", "--yes")
		requireReleaseStatus(t, s.Redis, "redis", helm.StatusUninstalled)
		kill()
		let()
	}
	killDown()
	if got, want := actions(s.up(t)), "redis installed, ingress-nginx reused, app applied"; got != want {
		t.Errorf("up: %s", got)
	}
	if secretValue(t, s.password(), "redis-password") != password || read(t, claim) == nil {
		t.Error("the password or the data is lost")
	}
	requireReleaseStatus(t, s.Redis, "redis", helm.StatusDeployed)

	killDown()
	s.down(t, "--delete-data")
	requireUntouched(t, empty, s.snapshot(t))
}

// TestDownKilledOwn: what hooks of our own controller left is found by a second down, although the namespace is
// somebody else's, and no webhook is ever left that nothing answers for.
func TestDownKilledOwn(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	makeNamespace(t, s.Ingress, map[string]string{"team": "platform"})
	startEdge(t, s.Ingress)
	empty := s.snapshot(t)
	s.up(t)
	create(t, object(t, s.Ingress, `{apiVersion: batch/v1, kind: Job, metadata: {name: ingress-nginx-admission-create, annotations: {helm.sh/hook: "pre-install,pre-upgrade"}},
  spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: create, image: "example.test/certgen:1"}]}}}}`))
	create(t, object(t, s.Ingress, `{apiVersion: v1, kind: Secret, metadata: {name: ingress-nginx-admission}}`))

	let := held(t, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.Ingress, Name: "ingress-nginx-controller"})
	kill := s.start(t, "down", "--yes", "--delete-data")
	requireReleaseStatus(t, s.Ingress, "ingress-nginx", helm.StatusUninstalled)
	kill()
	let()
	if read(t, kube.Ref{GroupVersionKind: kube.ValidatingWebhookKind, Name: "ingress-nginx-admission"}) != nil {
		t.Error("the webhook is still there")
	}
	s.down(t, "--delete-data")
	requireUntouched(t, empty, s.snapshot(t))
}

// TestStatus shows what is there and how it is, and changes nothing.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.requireStatus(t, 3, "status-nothing.json")
	s.up(t)
	s.requireStatus(t, 0, "status-healthy.json")
	remove(t, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.Redis, Name: "redis-master"})
	s.requireStatus(t, 3, "status-broken.json")
}

// requireStatus compares the shape of the result: the keys in it, and the values that are the same everywhere.
func (s *site) requireStatus(t *testing.T, code int, file string) {
	t.Helper()
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "status", "-o", "json")
	if r.Code != code || strings.Contains(r.Errors, "Error:") {
		t.Errorf("exit code %d, want %d\n%s%s", r.Code, code, r.Out, r.Errors)
	}
	requireUntouched(t, before, s.snapshot(t))
	text := summarize(t, r.Out)
	text = strings.NewReplacer(s.App, "APP", s.Redis, "REDIS", s.Ingress, "INGRESS", s.Class, "CLASS", s.Host, "HOST").Replace(text)
	for _, volatile := range []struct{ what, by string }{
		{`https://[0-9.:]+`, "SERVER"}, {`127\.\d+\.\d+\.1:\d+`, "ADDRESS"}, {`HOST:\d+`, "HOST:PORT"}, {`"kubernetes": "[^"]*"`, `"kubernetes": "VERSION"`},
		{`service-config-[0-9a-z]+`, "service-config-HASH"}, {`"millis": [0-9.]+`, `"millis": 1`},
	} {
		text = regexp.MustCompile(volatile.what).ReplaceAllString(text, volatile.by)
	}
	golden(t, file, []byte(text))
}

// summarize leaves out the objects of charts that are as they should be and run nothing: which there are is the
// charts' matter. All other keys, those that pwdeploy does not know included, stay.
func summarize(t *testing.T, text string) string {
	t.Helper()
	var result map[string]any
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	components, _ := result["components"].([]any)
	for _, c := range components {
		c, _ := c.(map[string]any)
		objects, ok := c["objects"].([]any)
		if !ok || c["name"] != string(stack.Redis) {
			continue
		}
		c["objects"] = slices.DeleteFunc(objects, func(o any) bool {
			object, _ := o.(map[string]any)
			return object["ready"] == true && object["workload"] == false
		})
	}
	out, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}
