package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// requireRefused checks the exit code, and that there is one error, with a hint.
func requireRefused(t *testing.T, r result, code int, message, hint string) {
	t.Helper()
	_, found, _ := strings.Cut(r.Errors, "Error:")
	if r.Code != code || strings.Count(r.Errors, "Error:") != 1 || strings.Count(r.Errors, "Hint:") != 1 || r.Out != "" ||
		!strings.Contains(found, message) || !strings.Contains(found, hint) {
		t.Errorf("exit code %d, want %d, one error with %q and one hint with %q:\n%s%s", r.Code, code, message, hint, r.Out, r.Errors)
	}
	if strings.Contains(r.Errors, "goroutine") || strings.Contains(r.Errors, "klog") {
		t.Errorf("something of the inside:\n%s", r.Errors)
	}
}

// refusal is something that stands in the way of up, or of every command.
type refusal struct {
	prepare       func(t *testing.T, s *site)
	args          []string
	code          int
	message, hint string
}

// TestRefused: what can't be carried out is said in one message with a hint and its exit code, and nothing is touched.
func TestRefused(t *testing.T) {
	t.Parallel()
	file := func(text string) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			path := filepath.Join(t.TempDir(), "pwdeploy.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s.Env = append(s.Env, "PWDEPLOY_CONFIG="+path)
		}
	}
	env := func(assignments ...string) func(*testing.T, *site) {
		return func(_ *testing.T, s *site) { s.Env = append(s.Env, assignments...) }
	}
	config := func(change func(t *testing.T, c *clientcmdapi.Config)) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+kubeconfig(t, func(c *clientcmdapi.Config) { change(t, c) }))
		}
	}
	for name, test := range map[string]refusal{
		"an unknown flag":    {args: []string{"--colour"}, code: 2, message: "unknown flag: --colour", hint: "--help"},
		"an unknown command": {args: []string{"now"}, code: 2, message: "now", hint: "--help"},
		"an unknown format":  {args: []string{"-o", "xml"}, code: 2, message: `"xml" is not a format`, hint: "json"},
		"an unknown key": {prepare: file("image: a\nreplicas: 1\ncolour: red\n"), code: 2,
			message: "pwdeploy.yaml:3: ", hint: "case-sensitive"},
		"a file that is not there": {args: []string{"--config", "nowhere.yaml"}, code: 2, message: "nowhere.yaml", hint: "--config"},
		"a bad image":              {args: []string{"--image", "Not An Image"}, code: 2, message: "Not An Image", hint: ""},
		"a bad host":               {args: []string{"--host", "under_score"}, code: 2, message: "under_score", hint: ""},
		"a bad number":             {args: []string{"--replicas", "two"}, code: 2, message: `--replicas: "two" is not a whole number`, hint: ""},
		"a bad profile":            {args: []string{"--profile", "moon"}, code: 2, message: `"moon" is not a profile`, hint: ""},
		"a bad chart digest":       {prepare: env("PWDEPLOY_REDIS_CHART_DIGEST=123"), code: 2, message: "123", hint: ""},

		"an unknown context": {args: []string{"--context", "nowhere"}, code: 4, message: `context "nowhere" is not in the kubeconfig`, hint: "known contexts"},
		"nothing listens": {code: 4, message: "nothing listens", hint: "--context", prepare: config(func(_ *testing.T, c *clientcmdapi.Config) {
			c.Clusters[c.Contexts[c.CurrentContext].Cluster].Server = closedPort
		})},
		"expired credentials": {code: 4, message: "refuses the credentials", hint: "log in again", prepare: config(func(_ *testing.T, c *clientcmdapi.Config) {
			c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{Token: "expired"}
		})},

		"another chart than the pinned one": {prepare: env("PWDEPLOY_INGRESS_CHART_DIGEST=sha256:" + strings.Repeat("0", 64)), code: 1,
			message: "not sha256:0000", hint: "nothing was used of it"},
		"a foreign Service": {prepare: inApp("{apiVersion: v1, kind: Service, metadata: {name: pw-crud}, spec: {ports: [{port: 80}]}}"), code: 1,
			message: "Service {app}/pw-crud exists and was not made by pwdeploy", hint: "--namespace"},
		"a foreign Deployment of Helm's": {code: 1, message: "exists and is managed by Helm", hint: "--namespace", prepare: inApp(`
{apiVersion: apps/v1, kind: Deployment, metadata: {name: pw-crud, labels: {app.kubernetes.io/managed-by: Helm}}, spec: {
  replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}`)},
		"a record of a newer pwdeploy": {code: 1, message: "written by a newer pwdeploy", hint: "", prepare: func(t *testing.T, s *site) {
			inApp("{apiVersion: v1, kind: Secret, metadata: {name: pwdeploy-inventory}, stringData: {inventory.json: '{\"version\": 99}'}}")(t, s)
		}},
		"a foreign release redis": {prepare: inRedis(helmRecord("deployed", "")), code: 1, message: "release {redis}/redis was not installed by pwdeploy", hint: "helm -n {redis} status redis"},
		"a release of another deployment": {prepare: inRedis(helmRecord("deployed", "pwdeploy/instance: other")), code: 1,
			message: "belongs to another deployment, other", hint: "redis.namespace"},
		"volumes without their password": {code: 1, message: "PersistentVolumeClaim {redis}/redis-data-redis-master-0", hint: "kubectl -n {redis} delete pvc",
			prepare: inRedis(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: redis-data-redis-master-0, labels: {
  app.kubernetes.io/instance: redis, app.kubernetes.io/name: redis}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)},
		"a namespace that is being deleted": {prepare: terminating, code: 1, message: "Namespace {app} is being deleted", hint: "-w"},
		"a missing permission":              {prepare: readOnly, code: 1, message: "not permitted: ", hint: "administrator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if test.prepare != nil {
				test.prepare(t, s)
			}
			fill := strings.NewReplacer("{app}", s.App, "{redis}", s.Redis)
			before := s.snapshot(t)
			r := s.Pwdeploy(t.Context(), append([]string{"up"}, test.args...)...)
			s.requireOneRefusal(t, r, test, fill)
			requireUntouched(t, before, s.snapshot(t))
		})
	}
}

// requireOneRefusal allows a refusal without a hint where the message itself says all.
func (s *site) requireOneRefusal(t *testing.T, r result, test refusal, fill *strings.Replacer) {
	t.Helper()
	if test.hint == "" && !strings.Contains(r.Errors, "Hint:") {
		r.Errors += "Hint:"
	}
	requireRefused(t, r, test.code, fill.Replace(test.message), fill.Replace(test.hint))
}

// inApp puts somebody else's object into the app's namespace, which somebody else made.
func inApp(text string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		makeNamespace(t, s.App, nil)
		create(t, object(t, s.App, text))
	}
}

func inRedis(text string) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		makeNamespace(t, s.Redis, nil)
		create(t, object(t, s.Redis, text))
	}
}

// helmRecord is what Helm keeps of a release redis; what is in it can't be read.
func helmRecord(status, label string) string {
	if label != "" {
		label = ", " + label
	}
	return `{apiVersion: v1, kind: Secret, type: helm.sh/release.v1, metadata: {name: sh.helm.release.v1.redis.v1, labels: {
  owner: helm, name: redis, version: "1", status: ` + status + label + `}}, stringData: {release: ""}}`
}

// terminating leaves the app's namespace in deletion, held by an object.
func terminating(t *testing.T, s *site) {
	makeNamespace(t, s.App, nil)
	held := object(t, s.App, configMap("held", "key", "value"))
	held.SetFinalizers([]string{"example.test/held"})
	ref := kube.RefOf(create(t, held))
	t.Cleanup(func() { unhold(t, ref) })
	remove(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App})
	eventually(t, "the namespace is held by the object alone", func() bool {
		ns := read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App})
		conditions, _, _ := unstructured.NestedSlice(ns.Object, "status", "conditions")
		return len(conditions) == 5 && len(inNamespace(t, s.App)) == 1
	})
}

// inNamespace names everything that a namespace holds.
func inNamespace(t *testing.T, ns string) []string {
	t.Helper()
	var keys []string
	for key := range takeSnapshot(t, ns) {
		if strings.Contains(key, " "+ns+"/") {
			keys = append(keys, key)
		}
	}
	return keys
}

// readOnly lets pwdeploy work as a user who may look at everything and change nothing.
func readOnly(t *testing.T, s *site) {
	home := namespace(t, nil)
	user := limitedUser(t, home, nil, []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}}})
	s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+user)
	client, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: user})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the user's role is known", func() bool {
		return client.CheckAccess(t.Context(), []kube.Access{{Verb: "list", Resource: "secrets"}}) == nil
	})
}

// TestMissingPermission names exactly what is missing.
func TestMissingPermission(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+harness.UserWithoutIngresses(t))
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "up")
	requireRefused(t, r, 1, "not permitted: create ingresses.networking.k8s.io in "+s.App+", patch ingresses.networking.k8s.io in "+s.App+"\n", "administrator")
	requireUntouched(t, before, s.snapshot(t))
}
