package integration

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// releases is a Helm client, with a chart and a namespace to work on. Helm has variables of the whole program, so that
// no two of these tests can run side by side.
type releases struct {
	*helm.Client
	t       *testing.T
	ns      string
	chart   *helm.Chart
	traffic requests
	hooks   int // how many hooks were run
}

// release is the name of the one that the tests work on.
const release = "tiny"

func newReleases(t *testing.T) *releases {
	t.Helper()
	chart, err := helm.NewStore(t.TempDir()).Fetch(t.Context(), helm.Source{Ref: filepath.Join("testdata", "charts", "tiny")})
	if err != nil {
		t.Fatal(err)
	}
	r := &releases{t: t, ns: namespace(t, nil), chart: chart}
	client := connect(t, func(next http.RoundTripper) http.RoundTripper { return r.traffic.wrap(next) })
	r.Client = helm.NewClient(helm.ClientOptions{
		Getter:       func(ns string) genericclioptions.RESTClientGetter { return client.Getter(ns) },
		FieldManager: kube.FieldManager, KubeVersion: client.Version.GitVersion,
	})
	return r
}

// spec is the release with this text.
func (r *releases) spec(text string) helm.Spec {
	return helm.Spec{
		Name: release, Namespace: r.ns, Chart: r.chart, Instance: "ours", HookTimeout: 2 * time.Minute,
		Values: map[string]any{"text": text}, OnHook: func(_, _, _ string) { r.hooks++ },
	}
}

// quick is the release without its hook, which takes a second.
func (r *releases) quick(text string) helm.Spec {
	spec := r.spec(text)
	spec.Values["hook"] = false
	return spec
}

// hanging is a release whose hook never ends.
func (r *releases) hanging() helm.Spec {
	spec := r.spec("hanging")
	spec.Values["hookNode"] = map[string]any{"disk": "none"}
	return spec
}

func sameKinds(objs []*unstructured.Unstructured, want []string) bool {
	var kinds []string
	for _, o := range objs {
		kinds = append(kinds, o.GetKind())
	}
	return slices.Equal(kinds, want)
}

func (r *releases) apply(spec helm.Spec, want helm.Action) *helm.Release {
	r.t.Helper()
	applied, action, err := r.Apply(r.t.Context(), spec)
	if err != nil || action != want {
		r.t.Fatalf("got %s, %v, want %s", action, err, want)
	}
	return applied
}

// require checks the newest revision and how many hooks were run so far.
func (r *releases) require(status string, revision, hooks int) {
	r.t.Helper()
	got, err := r.Get(context.WithoutCancel(r.t.Context()), r.ns, release)
	if err != nil || got.Status != status || got.Revision != revision || r.hooks != hooks {
		r.t.Errorf("got %+v, %v, %d hooks; want revision %d %s, %d hooks", got, err, r.hooks, revision, status, hooks)
	}
}

func (r *releases) text() string {
	r.t.Helper()
	o := read(r.t, r.ref("ConfigMap"))
	if o == nil {
		return "no ConfigMap"
	}
	data, _ := o.Object["data"].(map[string]any)
	text, _ := data["text"].(string)
	return text
}

func (r *releases) ref(kind string) kube.Ref {
	return kube.Ref{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Namespace: r.ns, Name: release}
}

// TestRelease takes a release through its life.
func TestRelease(t *testing.T) {
	r := newReleases(t)
	empty := takeSnapshot(t, r.ns)
	if _, err := r.Get(t.Context(), r.ns, release); !errors.Is(err, helm.ErrReleaseNotFound) {
		t.Errorf("before: got %v", err)
	}

	r.apply(r.spec("one"), helm.ActionInstall)
	r.require(helm.StatusDeployed, 1, 1)
	for _, kind := range []string{"ConfigMap", "Service"} {
		requireManagers(t, read(t, r.ref(kind)), kube.FieldManager)
	}
	objs, err := r.Objects(t.Context(), r.ns, release)
	if want := []string{"ConfigMap", "Service", "Deployment"}; err != nil || !sameKinds(objs, want) {
		t.Errorf("the objects are %v, %v", kube.RefsOf(objs), err)
	}

	before, sent := takeSnapshot(t, r.ns), r.traffic.count()
	r.apply(r.spec("one"), helm.ActionNone)
	r.require(helm.StatusDeployed, 1, 1)
	requireUntouched(t, before, takeSnapshot(t, r.ns))
	if n := r.traffic.count() - sent; n > 2 { // one by Apply, one by require
		t.Errorf("%d requests for nothing: %v", n, r.traffic.all()[sent:])
	}

	r.apply(r.spec("two"), helm.ActionUpgrade)
	r.require(helm.StatusDeployed, 2, 2)
	if got := r.text(); got != "two" {
		t.Errorf("the text is %q", got)
	}
	requireManagers(t, read(t, r.ref("ConfigMap")), kube.FieldManager)

	recreatedByForce(t, r)

	removed, err := r.Uninstall(t.Context(), r.ns, release, time.Minute)
	if err != nil || len(removed.Objects) != 3 {
		t.Fatalf("got %+v, %v", removed, err)
	}
	client := connect(t, nil)
	if err := client.WaitGone(within(t, 2*time.Minute), kube.RefsOf(removed.Objects), nil); err != nil {
		t.Error(err)
	}
	if err := r.Forget(t.Context(), r.ns, release); err != nil {
		t.Error(err)
	}
	var left []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("left:", left)
		}
	})
	eventually(t, "the pods are gone too", func() bool {
		left = differences(empty, takeSnapshot(t, r.ns))
		return len(left) == 0
	})
}

// recreatedByForce: what somebody deleted comes back only when the release is applied again although nothing changed.
func recreatedByForce(t *testing.T, r *releases) {
	t.Helper()
	remove(t, r.ref("Service"))
	r.apply(r.spec("two"), helm.ActionNone)
	if read(t, r.ref("Service")) != nil {
		t.Error("nothing was to be done, and the Service is back")
	}
	spec := r.spec("two")
	spec.Force = true
	r.apply(spec, helm.ActionUpgrade)
	if read(t, r.ref("Service")) == nil {
		t.Error("the Service is not back")
	}
	r.require(helm.StatusDeployed, 3, 3)
}

// TestReleaseHookFails: a release whose hook did not end is recorded as failed, and the next run mends it.
func TestReleaseHookFails(t *testing.T) {
	r := newReleases(t)
	spec := r.hanging()
	spec.HookTimeout = time.Second
	_, action, err := r.Apply(t.Context(), spec)
	var hook *helm.HookError
	if !errors.As(err, &hook) || action != helm.ActionInstall || hook.Kind != "Job" || hook.Name != "tiny-before" || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %s, %v", action, err)
	}
	if !strings.Contains(hook.Hint(), r.ns) {
		t.Errorf("the hint is %q", hook.Hint())
	}
	r.require(helm.StatusFailed, 1, 1)
	r.apply(r.spec("mended"), helm.ActionUpgrade)
	r.require(helm.StatusDeployed, 2, 2)
	if got := r.text(); got != "mended" {
		t.Errorf("the text is %q", got)
	}
}

// TestReleaseInterrupted: a run that is interrupted says what became of the release before it returns, and does
// nothing afterwards.
func TestReleaseInterrupted(t *testing.T) {
	r := newReleases(t)
	r.apply(r.spec("one"), helm.ActionInstall)
	ctx, interrupt := context.WithCancel(t.Context())
	spec := r.hanging()
	spec.OnHook = func(_, _, _ string) { interrupt() }
	begin := time.Now()
	_, _, err := r.Apply(ctx, spec)
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 90*time.Second { // its hook hangs until HookTimeout, 2 minutes
		t.Fatalf("after %s: %v", time.Since(begin), err)
	}
	r.require(helm.StatusFailed, 2, 1)
	sent := r.traffic.count()
	time.Sleep(time.Second)
	if later := r.traffic.all()[sent:]; len(later) > 0 {
		t.Errorf("it went on after it had returned: %v", later)
	}
	if got := r.text(); got != "one" {
		t.Errorf("the text is %q", got)
	}
	r.apply(r.spec("mended"), helm.ActionUpgrade)
	r.require(helm.StatusDeployed, 4, 2) // 3 is the way back: what only the interrupted one made is nobody's else
}

// TestReleaseRefused: what is not ours, and what may be under way, is left alone.
func TestReleaseRefused(t *testing.T) {
	foreignRelease := func(t *testing.T, err error) {
		t.Helper()
		var foreign *helm.ForeignReleaseError
		if !errors.As(err, &foreign) || foreign.Hint() == "" {
			t.Errorf("got %v", err)
		}
	}
	pending := func(t *testing.T, err error) {
		t.Helper()
		var pending *helm.PendingError
		if !errors.As(err, &pending) || pending.Hint() == "" {
			t.Errorf("got %v", err)
		}
	}
	for name, test := range map[string]struct {
		labels    string // of the record; null removes one
		check     func(*testing.T, error)
		removable bool // Uninstall does not refuse
	}{
		"installed by Helm itself":  {`{"pwdeploy/instance": null, "pwdeploy/digest": null}`, foreignRelease, false},
		"of another instance":       {`{"pwdeploy/instance": "other"}`, foreignRelease, true},
		"a status of another world": {`{"status": "unknown"}`, pending, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReleases(t)
			r.apply(r.quick("one"), helm.ActionInstall)
			label(t, r.ns, "sh.helm.release.v1.tiny.v1", test.labels)
			before := takeSnapshot(t, r.ns)
			_, err := r.Plan(t.Context(), r.quick("two"))
			test.check(t, err)
			_, _, err = r.Apply(t.Context(), r.quick("two"))
			test.check(t, err)
			if !test.removable {
				_, err = r.Uninstall(t.Context(), r.ns, release, time.Minute)
				test.check(t, err)
			}
			requireUntouched(t, before, takeSnapshot(t, r.ns))
		})
	}
}

// label changes the labels of a Secret, given as JSON.
func label(t *testing.T, ns, secret, labels string) {
	t.Helper()
	patch := []byte(`{"metadata": {"labels": ` + labels + `}}`)
	if _, err := adminClient(t).CoreV1().Secrets(ns).Patch(t.Context(), secret, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: someoneElse}); err != nil {
		t.Fatal(err)
	}
}

// TestReleaseUninstallResumed takes up an uninstall that was cut off.
func TestReleaseUninstallResumed(t *testing.T) {
	r := newReleases(t)
	r.apply(r.quick("one"), helm.ActionInstall)
	label(t, r.ns, "sh.helm.release.v1.tiny.v1", `{"status": "uninstalling"}`)
	remove(t, r.ref("ConfigMap"))
	for range 2 { // the second time all is done but what Forget does
		if _, err := r.Uninstall(t.Context(), r.ns, release, time.Minute); err != nil {
			t.Fatal(err)
		}
		r.require(helm.StatusUninstalled, 1, 0)
	}
	if err := r.Forget(t.Context(), r.ns, release); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(t.Context(), r.ns, release); !errors.Is(err, helm.ErrReleaseNotFound) {
		t.Errorf("after: got %v", err)
	}
	secrets, err := adminClient(t).CoreV1().Secrets(r.ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(secrets.Items) > 0 {
		t.Errorf("left: %v, %v", secretNames(secrets), err)
	}
}

// TestReleaseUninstallFinished: what is applied after an uninstall that was cut off is made anew.
func TestReleaseUninstallFinished(t *testing.T) {
	r := newReleases(t)
	r.apply(r.quick("one"), helm.ActionInstall)
	before := read(t, r.ref("Service")).GetUID()
	label(t, r.ns, "sh.helm.release.v1.tiny.v1", `{"status": "uninstalling"}`)
	remove(t, r.ref("ConfigMap"))
	r.apply(r.quick("two"), helm.ActionInstall)
	r.require(helm.StatusDeployed, 2, 0)
	if after := read(t, r.ref("Service")).GetUID(); r.text() != "two" || after == before {
		t.Errorf("the text is %q, the Service was made anew: %v", r.text(), after != before)
	}
}

func secretNames(list *corev1.SecretList) []string {
	var names []string
	for _, s := range list.Items {
		names = append(names, s.Name)
	}
	return names
}

// TestReleaseHistory keeps no more revisions than it says.
func TestReleaseHistory(t *testing.T) {
	r := newReleases(t)
	r.apply(r.quick("first"), helm.ActionInstall)
	for _, text := range strings.Split("abcdefg", "") {
		r.apply(r.quick(text), helm.ActionUpgrade)
	}
	secrets, err := adminClient(t).CoreV1().Secrets(r.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(secrets.Items) != 5 {
		t.Errorf("the revisions are %v, %v", secretNames(secrets), err)
	}
	if !slices.Contains(secretNames(secrets), "sh.helm.release.v1.tiny.v8") {
		t.Errorf("the newest is not among %v", secretNames(secrets))
	}
}
