package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// check carries out the command, which has to end with the code, and reads its result.
func (s *site) check(t *testing.T, code int, args ...string) stack.CheckResult {
	t.Helper()
	r := s.Pwdeploy(t.Context(), append([]string{"check", "-o", "json"}, args...)...)
	var out stack.CheckResult
	if err := json.Unmarshal([]byte(r.Out), &out); r.Code != code || err != nil {
		t.Fatalf("pwdeploy check: exit code %d, want %d; %v\n%s%s", r.Code, code, err, r.Out, r.Errors)
	}
	return out
}

// requireCheck looks for a check in a state, with texts in its message or hint.
func requireCheck(t *testing.T, r stack.CheckResult, group stack.CheckGroup, name string, state stack.CheckState, texts ...string) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Group != group || c.Name != name {
			continue
		}
		for _, text := range texts {
			if !strings.Contains(c.Message+"\n"+c.Hint, text) {
				t.Errorf("%s, %s does not say %q: %s\n%s", group, name, text, c.Message, c.Hint)
			}
		}
		if c.State != state {
			t.Errorf("%s, %s: %s, want %s: %s", group, name, c.State, state, c.Message)
		}
		return
	}
	t.Errorf("no check %s, %s in %+v", group, name, r.Checks)
}

// TestCheck: where nothing stands in the way, each check says what it saw.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "check", "-o", "json")
	if r.Code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	golden(t, "check.golden", []byte(s.stable(r.Out)))
	requireUntouched(t, before, s.snapshot(t))
}

// stable replaces what differs from run to run.
func (s *site) stable(text string) string {
	for _, r := range []struct{ pattern, with string }{
		{regexp.QuoteMeta(s.App), "{app}"}, {regexp.QuoteMeta(s.Redis), "{redis}"}, {regexp.QuoteMeta(s.Host), "{host}"}, {regexp.QuoteMeta(s.Class), "{class}"},
		{`https://127\.0\.0\.1:\d+`, "{server}"}, {`"state": "(ok|warning)",\s+"message": "(answers in|it took) [^"]*"(,\s+"hint": "an up sends[^"]*")?`, `"message": "{time}"`}, {`("name": "classes",\s+"state": "ok",\s+"message": )"[^"]*"`, `$1"{classes}"`}, {`"warnings": \d+`, `"warnings": {n}`}, {`, (fetched|on disk already),`, ", {fetched},"},
		{`"seconds": [0-9.]+`, `"seconds": {n}`}, {`\(\d+ things\)`, "({n} things)"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}

// TestCheckChangesNothing counts the requests of a check by what they can change, with our own controller's chart in the
// plan, and namespaces that are there so that pods are tried.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Class = s.App // of our own: nobody has it
	for _, ns := range []string{s.App, s.Redis, s.Ingress} {
		makeNamespace(t, ns, nil)
	}
	var traffic requests
	engine := s.engine(t, &traffic)
	r, err := engine.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if writes := traffic.writes(); len(writes) > 0 {
		t.Errorf("writes: %v", writes)
	}
	tried := 0
	for _, request := range traffic.all() {
		if strings.HasPrefix(request, "POST ") && strings.Contains(request, "/pods?dryRun=All") {
			tried++
		}
	}
	if tried == 0 {
		t.Error("no pod was tried: nothing is known of quotas and Pod Security")
	}
	t.Logf("a check costs %d requests, %.1f s; %d errors, %d warnings", traffic.count(), r.Seconds, r.Errors, r.Warnings)
}

// TestCheckFinds: what is in the way is an error of its group, in the words that up has for it, and with what to do.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own     bool // our own controller is planned
		prepare func(t *testing.T, s *site)
		group   stack.CheckGroup
		check   string
		texts   []string
	}{
		"a host that is taken": {group: stack.CheckIngress, check: "host", texts: []string{"is served by Ingress {redis}/other already", "kubectl -n {redis} delete ingress other"},
			prepare: otherIngress},
		"a leftover webhook": {group: stack.CheckIngress, check: "webhook validate.example.test", prepare: leftoverWebhook,
			texts: []string{"its namespace is gone", "kubectl delete validatingwebhookconfiguration it-"}},
		"a namespace that is being deleted": {group: stack.CheckLeftovers, check: "namespaces", prepare: terminating, texts: []string{"Namespace {app} is being deleted"}},
		"volumes without their password": {group: stack.CheckLeftovers, check: "Redis' data", texts: []string{"PersistentVolumeClaim {redis}/redis-data-redis-master-0", "kubectl -n {redis} delete pvc"},
			prepare: inRedis(`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: redis-data-redis-master-0, labels: {
  app.kubernetes.io/instance: redis, app.kubernetes.io/name: redis}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`)},
		"a foreign release": {group: stack.CheckLeftovers, check: "release redis", prepare: inRedis(helmRecord("deployed", "")), texts: []string{"was not installed by pwdeploy"}},
		"a foreign Service": {group: stack.CheckLeftovers, check: "existing objects", texts: []string{"Service {app}/pw-crud"},
			prepare: inApp("{apiVersion: v1, kind: Service, metadata: {name: pw-crud}, spec: {ports: [{port: 80}]}}")},
		"a quota": {group: stack.CheckRoom, check: "pods of pw-crud", prepare: noPods, texts: []string{"exceeded quota", "kubectl -n {app} describe resourcequota"}},
		"Pod Security": {own: true, group: stack.CheckRoom, check: "pods of ingress-nginx-controller", texts: []string{"hostPort", "--show-labels"}, prepare: func(t *testing.T, s *site) {
			makeNamespace(t, s.Ingress, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
		}},
		"a StorageClass that is not there": {group: stack.CheckStorage, check: "volumes", texts: []string{"StorageClass {app}, which is not there", "redis.storageClass"}, prepare: func(_ *testing.T, s *site) {
			s.Env = append(s.Env, "PWDEPLOY_PROFILE=aws", "PWDEPLOY_REDIS_STORAGE_CLASS="+s.App)
		}},
		"a missing permission": {group: stack.CheckPermissions, check: "permissions", prepare: readOnly, texts: []string{"not permitted: ", "administrator"}},
		"another chart than the pinned one": {own: true, group: stack.CheckSources, check: "chart ingress-nginx", texts: []string{"not sha256:0000", "nothing was used of it"}, prepare: func(_ *testing.T, s *site) {
			s.Env = append(s.Env, "PWDEPLOY_INGRESS_CHART_DIGEST=sha256:"+strings.Repeat("0", 64))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if test.own {
				s.Class = s.App
			} else {
				s.ForeignController(t)
			}
			test.prepare(t, s)
			r := s.check(t, 3)
			fill := strings.NewReplacer("{app}", s.App, "{redis}", s.Redis)
			texts := make([]string, 0, len(test.texts))
			for _, text := range test.texts {
				texts = append(texts, fill.Replace(text))
			}
			requireCheck(t, r, test.group, test.check, stack.CheckFailed, texts...)
		})
	}
}

// noPods is a quota that allows none in the app's namespace.
func noPods(t *testing.T, s *site) {
	makeNamespace(t, s.App, nil)
	create(t, object(t, s.App, "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: '0'}}}"))
	eventually(t, "the quota is counted", func() bool {
		hard, _, _ := unstructured.NestedMap(read(t, kube.Ref{GroupVersionKind: kube.ResourceQuotaKind, Namespace: s.App, Name: "none"}).Object, "status", "hard")
		return len(hard) > 0
	})
}

// otherIngress puts an Ingress with the site's class and host into another namespace.
func otherIngress(t *testing.T, s *site) {
	makeNamespace(t, s.Redis, nil)
	create(t, object(t, s.Redis, fmt.Sprintf(`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: other}, spec: {ingressClassName: %s, rules: [
  {host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}}`, s.Class, s.Host)))
}

// leftoverWebhook judges Ingresses of the site's own namespace only: tests beside this one are not disturbed.
func leftoverWebhook(t *testing.T, s *site) {
	webhook := object(t, "", fmt.Sprintf(`{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: %s}, webhooks: [
  {name: validate.example.test, admissionReviewVersions: [v1], sideEffects: None, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}},
   rules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], resources: [ingresses], operations: [CREATE, UPDATE]}],
   clientConfig: {service: {namespace: %s-gone, name: admission}}}]}`, uniqueName("it"), s.App, s.App))
	ref := kube.RefOf(create(t, webhook))
	t.Cleanup(func() { remove(t, ref) })
}

// TestCheckTolerates: who may see little gets what can be said, and is told what could not be looked at.
func TestCheckTolerates(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	home := namespace(t, nil)
	user := limitedUser(t, home, nil, []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get"}}})
	s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+user)
	r := s.check(t, 3)
	requireCheck(t, r, stack.CheckPermissions, "permissions", stack.CheckFailed, "not permitted: ", "create namespaces")
	for _, c := range []struct {
		group stack.CheckGroup
		name  string
	}{{stack.CheckCluster, "nodes"}, {stack.CheckIngress, "host"}, {stack.CheckIngress, "webhooks"}, {stack.CheckRoom, "capacity"}, {stack.CheckLeftovers, "Redis' data"}} {
		requireCheck(t, r, c.group, c.name, stack.CheckSkipped, "this user may not")
	}
	requireCheck(t, r, stack.CheckCluster, "version", stack.CheckOK)
}

// TestCheckText: people get groups, and errors and warnings apart.
func TestCheckText(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	otherIngress(t, s)
	r := s.Pwdeploy(t.Context(), "check")
	if r.Code != 3 || !strings.Contains(r.Out, "\ningress\n") || !strings.Contains(r.Out, "✗ host ") || !strings.Contains(r.Out, "1 error") ||
		strings.Contains(r.Errors, "Error:") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
}

// TestCheckPodsWithVolumes: a pod of a StatefulSet is tried with the volumes that it will have.
func TestCheckPodsWithVolumes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	makeNamespace(t, s.Redis, nil)
	s.Env = append(s.Env, "PWDEPLOY_PROFILE=aws", "PWDEPLOY_REDIS_STORAGE_CLASS="+s.App)
	requireCheck(t, s.check(t, 3), stack.CheckRoom, "pods of redis-master", stack.CheckOK)
}

// TestUpChecksFirst: up refuses what its first phase finds, all at once, before anything is touched.
func TestUpChecksFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	noPods(t, s)
	leftoverWebhook(t, s)
	otherIngress(t, s)
	before := s.snapshot(t)
	r := s.Pwdeploy(t.Context(), "up")
	if r.Code != 1 || strings.Count(r.Errors, "Error: ") != 3 || strings.Count(r.Errors, "Hint: ") != 3 {
		t.Errorf("exit code %d\n%s", r.Code, r.Errors)
	}
	for _, text := range []string{"exceeded quota", "its namespace is gone", "is served by Ingress " + s.Redis + "/other already"} {
		if !strings.Contains(r.Errors, text) {
			t.Errorf("%q is not said:\n%s", text, r.Errors)
		}
	}
	requireUntouched(t, before, s.snapshot(t))
}

// TestCheckDeployed: a deployment that is there is in nobody's way, itself included.
func TestCheckDeployed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t)
	before := s.snapshot(t)
	r := s.check(t, 0)
	requireCheck(t, r, stack.CheckIngress, "host", stack.CheckOK)
	requireCheck(t, r, stack.CheckLeftovers, "earlier runs", stack.CheckOK, "came to its end")
	requireCheck(t, r, stack.CheckLeftovers, "release redis", stack.CheckOK, "ours, chart redis")
	requireCheck(t, r, stack.CheckRoom, "capacity", stack.CheckOK, "no new pods")
	requireUntouched(t, before, s.snapshot(t))
}
