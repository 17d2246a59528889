package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// getter is what internal/kube gives: one discovery cache for all.
type getter struct {
	config *rest.Config
	cached discovery.CachedDiscoveryInterface
	mapper meta.RESTMapper
}

func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.cached, nil
}
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.mapper, nil }
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), nil)
}

func newGetter(t *testing.T, config *rest.Config) *getter {
	t.Helper()
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	cached := memory.NewMemCacheClient(disco)
	return &getter{config, cached, restmapper.NewDeferredDiscoveryRESTMapper(cached)}
}

func newTestClient(t *testing.T, api *fakeAPI) *Client {
	t.Helper()
	config := &rest.Config{Host: api.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	g := newGetter(t, config)
	return NewClient(ClientOptions{
		Getter:       func(string) genericclioptions.RESTClientGetter { return g },
		FieldManager: "pwdeploy",
		Log:          slog.New(slog.DiscardHandler),
	})
}

func testSpec(t *testing.T, name string) Spec {
	t.Helper()
	spec := redisSpec(standIn(t, "redis"), ProfileLocal)
	if name == "ingress-nginx" {
		spec = ingressSpec(standIn(t, name), ProfileLocal)
	}
	spec.Instance = "pw-crud"
	return spec
}

func mustApply(t *testing.T, c *Client, spec Spec, want Action) *Release {
	t.Helper()
	rel, action, err := c.Apply(t.Context(), spec)
	if err != nil || action != want {
		t.Fatalf("%s, %v; want %s", action, err, want)
	}
	return rel
}

func count(requests []string, prefix string) int {
	n := 0
	for _, r := range requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func TestInstallUpgradeUninstall(t *testing.T) {
	for _, name := range []string{"redis", "ingress-nginx"} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			client, spec := newTestClient(t, api), testSpec(t, name)

			first := mustApply(t, client, spec, ActionInstall)
			if first.Revision != 1 || first.Status != StatusDeployed || first.Instance != "pw-crud" || first.Chart != name {
				t.Errorf("installed %+v", first)
			}
			api.take()
			second := mustApply(t, client, spec, ActionNone)
			if second.Revision != 1 || second.Digest != first.Digest || second.ChartVersion != spec.Chart.Version {
				t.Errorf("unchanged %+v", second)
			}
			if requests := api.take(); len(requests) != 1 || !strings.HasPrefix(requests[0], "GET /api/v1/namespaces/"+name+"/secrets") {
				t.Errorf("an unchanged release costs %v", requests)
			}

			spec.Values["extra"] = true
			third := mustApply(t, client, spec, ActionUpgrade)
			if third.Revision != 2 || third.Digest == first.Digest {
				t.Errorf("upgraded %+v", third)
			}
			mustApply(t, client, spec, ActionNone)
			spec.Force = true
			mustApply(t, client, spec, ActionUpgrade)
			checkUninstall(t, api, client, spec)
		})
	}
}

// Both releases are made at once, by one Client.
func TestTwoReleasesAtOnce(t *testing.T) {
	client := newTestClient(t, newFakeAPI(t))
	var wg sync.WaitGroup
	for _, spec := range []Spec{testSpec(t, "redis"), testSpec(t, "ingress-nginx")} {
		wg.Go(func() {
			for _, want := range []Action{ActionInstall, ActionNone} {
				if _, action, err := client.Apply(t.Context(), spec); err != nil || action != want {
					t.Errorf("%s: %s, %v", spec.Name, action, err)
				}
			}
			if _, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Helm's requests have no context of their own: they end with the one that they are bound to.
func TestRequestsEndWithTheAction(t *testing.T) {
	api := newFakeAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	api.before = func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	client := &http.Client{Transport: &boundTransport{http.DefaultTransport, ctx}, Timeout: 2 * time.Minute}
	start := time.Now()
	resp, err := client.Get(api.URL + "/api/v1/namespaces/redis/secrets")
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Minute {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		const grace = 50 * time.Millisecond
		bound, stop := lingering(ctx, grace)
		defer stop()
		begin := time.Now()
		cancel()
		synctest.Wait()
		if bound.Err() != nil {
			t.Error("it ended at once")
		}
		<-bound.Done()
		if took := time.Since(begin); took != grace {
			t.Errorf("it ended after %s", took)
		}
	})
}

func checkUninstall(t *testing.T, api *fakeAPI, client *Client, spec Spec) {
	t.Helper()
	objects, err := client.Objects(t.Context(), spec.Namespace, spec.Name)
	if err != nil || len(objects) == 0 {
		t.Fatal(len(objects), err)
	}
	gone, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute)
	if err != nil || len(gone.Objects) != len(objects) || gone.Status != StatusUninstalled {
		t.Fatalf("%+v, %v", gone, err)
	}
	if rel, err := client.Get(t.Context(), spec.Namespace, spec.Name); err != nil || rel.Status != StatusUninstalled {
		t.Errorf("after the uninstall: %+v, %v", rel, err)
	}
	if again, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute); err != nil || len(again.Objects) > 0 {
		t.Errorf("cut off and run again: %+v, %v", again, err)
	}
	if err := client.Forget(t.Context(), spec.Namespace, spec.Name); err != nil {
		t.Error(err)
	}
	for path := range api.objects {
		t.Errorf("left behind: %s", path)
	}
	if _, err := client.Get(t.Context(), spec.Namespace, spec.Name); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("after it is forgotten: %v", err)
	}
	if _, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("a second uninstall: %v", err)
	}
}

// Helm would write its record at every hook, look for each before and after it is deleted, and so on:
// requests in sequence, of which an ordinary API server behind a network answers 20 in a second.
func TestHookRequestBudget(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	mustApply(t, client, spec, ActionInstall)
	requests := api.take()
	if n := count(requests, "PUT /api/v1/namespaces/ingress-nginx/secrets/"); n != 1 {
		t.Errorf("the record is written %d times", n)
	}
	// A hook: delete, make, watch, delete, and look whether it is gone only where it may not be.
	if n := len(requests); n > 2*6+5+2*5 {
		t.Errorf("an install with two hooks costs %d requests: %q", n, requests)
	}
}

// The numbers are what Helm needs today; a newer one that needs more should be looked at.
func TestRequestBudget(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	if _, err := client.Plan(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if n := len(api.take()); n != 1 {
		t.Errorf("a plan costs %d requests", n)
	}
	mustApply(t, client, spec, ActionInstall)
	if requests := api.take(); len(requests) > 2*4+5 { // 4 objects, looked for and made; Helm's records
		t.Errorf("an install costs %d requests: %v", len(requests), requests)
	}
	if _, err := client.Objects(t.Context(), spec.Namespace, spec.Name); err != nil {
		t.Fatal(err)
	}
	if n := len(api.take()); n != 1 {
		t.Errorf("Objects costs %d requests", n)
	}
}

func TestObjectsHaveNamespaces(t *testing.T) {
	client, spec := newTestClient(t, newFakeAPI(t)), testSpec(t, "ingress-nginx")
	mustApply(t, client, spec, ActionInstall)
	objects, err := client.Objects(t.Context(), spec.Namespace, spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, strings.TrimSpace(o.GetKind()+" "+o.GetNamespace()))
	}
	want := []string{
		"ConfigMap ingress-nginx", "Service ingress-nginx", "Service ingress-nginx",
		"Deployment ingress-nginx", "IngressClass", "ValidatingWebhookConfiguration",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := client.Objects(t.Context(), spec.Namespace, "other"); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("objects of nothing: %v", err)
	}
}

func TestForceMendsDeletedObjects(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)
	service := "/api/v1/namespaces/redis/services/redis-master"
	api.edit(func() { delete(api.objects, service) })
	mustApply(t, client, spec, ActionNone)
	spec.Force = true
	mustApply(t, client, spec, ActionUpgrade)
	if api.objects[service] == nil {
		t.Error("the Service was not made again")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	spec.Force = true
	for range maxHistory + 3 {
		if _, _, err := client.Apply(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for path := range api.objects {
		if strings.Contains(path, "sh.helm.release.v1.redis") {
			kept++
		}
	}
	if kept != maxHistory {
		t.Errorf("%d revisions are kept, want %d", kept, maxHistory)
	}
	if rel, err := client.Get(t.Context(), "redis", "redis"); err != nil || rel.Revision != maxHistory+3 {
		t.Errorf("%+v, %v", rel, err)
	}
}

func TestForeignReleases(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)

	other := spec
	other.Instance = "another"
	_, err := client.Plan(t.Context(), other)
	checkForeign(t, err, "belongs to another deployment, pw-crud")

	record := api.objects["/api/v1/namespaces/redis/secrets/sh.helm.release.v1.redis.v1"]
	record.SetLabels(map[string]string{"owner": "helm", "name": "redis", "version": "1", "status": "deployed"})
	api.take()
	_, _, err = client.Apply(t.Context(), spec)
	checkForeign(t, err, "release redis/redis (redis 23.1.1, deployed) was not installed by pwdeploy")
	_, err = client.Uninstall(t.Context(), "redis", "redis", time.Minute)
	checkForeign(t, err, "was not installed by pwdeploy")
	if requests := api.take(); count(requests, "GET") != len(requests) {
		t.Errorf("a foreign release was touched: %v", requests)
	}
}

func checkForeign(t *testing.T, err error, contains string) {
	t.Helper()
	var foreign *ForeignReleaseError
	if !errors.As(err, &foreign) || foreign.Release.Name != "redis" || !strings.Contains(err.Error(), contains) {
		t.Errorf("error %v, want %q", err, contains)
	}
}

func TestDecide(t *testing.T) {
	spec := Spec{Instance: "mine"}
	tests := []struct {
		status, digest string
		force          bool
		want           Action
		pending        bool
	}{
		{status: StatusDeployed, digest: "same", want: ActionNone},
		{status: StatusDeployed, digest: "same", force: true, want: ActionUpgrade},
		{status: StatusDeployed, digest: "other", want: ActionUpgrade},
		{status: StatusFailed, digest: "same", want: ActionUpgrade},
		{status: StatusSuperseded, digest: "same", want: ActionUpgrade},
		{status: StatusUninstalled, digest: "same", want: ActionInstall},
		{status: StatusUninstalling, digest: "same", want: ActionInstall},
		{status: "unknown", want: ActionNone, pending: true},
		{status: StatusPendingInstall, digest: "same", want: ActionUpgrade},
		{status: StatusPendingUpgrade, digest: "same", want: ActionUpgrade},
		{status: StatusPendingRollback, digest: "same", want: ActionUpgrade},
	}
	for _, tt := range tests {
		spec.Force = tt.force
		current := &Release{Instance: "mine", Status: tt.status, Digest: tt.digest}
		got, err := decide(current, spec, "same")
		var pending *PendingError
		if got != tt.want || errors.As(err, &pending) != tt.pending {
			t.Errorf("%s %s: %s, %v", tt.status, tt.digest, got, err)
		}
	}
	if got, err := decide(nil, spec, "same"); got != ActionInstall || err != nil {
		t.Errorf("nothing there: %s, %v", got, err)
	}
}

// A run that is killed leaves its release pending. The next one recovers it; where that wants something else than the
// killed one did, it goes back first, so that nothing of the killed one is orphaned.
func TestPendingRelease(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	applyKilled(t, api, client, spec, StatusPendingInstall, 1)
	mustApply(t, client, spec, ActionUpgrade)
	requireNewest(t, client, StatusDeployed, 2)

	again := spec
	again.Force = true
	applyKilled(t, api, client, again, StatusPendingUpgrade, 3)
	mustApply(t, client, spec, ActionUpgrade)
	requireNewest(t, client, StatusDeployed, 4)

	applyKilled(t, api, client, again, StatusPendingUpgrade, 5)
	other := spec
	other.Values = map[string]any{"other": "value"}
	mustApply(t, client, other, ActionUpgrade)
	requireNewest(t, client, StatusDeployed, 6) // 5 is the way back, in the place of the one that did not end
	mustApply(t, client, other, ActionNone)
}

// applyKilled applies a release and keeps Helm from writing how it ended, as if it had been killed in a hook.
func applyKilled(t *testing.T, api *fakeAPI, client *Client, spec Spec, status string, revision int) {
	t.Helper()
	api.edit(func() {
		api.jobs = "Failed"
		api.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/secrets/") {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		}
	})
	if _, _, err := client.Apply(t.Context(), spec); err == nil {
		t.Fatal("it was not killed")
	}
	api.edit(func() { api.jobs, api.before = "Complete", nil })
	requireNewest(t, client, status, revision)
}

func requireNewest(t *testing.T, client *Client, status string, revision int) {
	t.Helper()
	rel, err := client.Get(t.Context(), "ingress-nginx", "ingress-nginx")
	if err != nil || rel.Status != status || rel.Revision != revision {
		t.Fatalf("%+v, %v, want revision %d %s", rel, err, revision, status)
	}
}

func TestFailedHook(t *testing.T) {
	api := newFakeAPI(t)
	api.jobs = "Failed"
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	var hooks []string
	spec.OnHook = func(kind, namespace, name string) { hooks = append(hooks, kind+" "+namespace+"/"+name) }
	rel, action, err := client.Apply(t.Context(), spec)
	var hook *HookError
	if !errors.As(err, &hook) || hook.Name != "ingress-nginx-admission-create" || hook.Namespace != "ingress-nginx" {
		t.Fatalf("error %v", err)
	}
	want := "install release ingress-nginx/ingress-nginx: hook Job ingress-nginx/ingress-nginx-admission-create failed: as the test wants"
	if err.Error() != want || action != ActionInstall || rel.Status != StatusFailed {
		t.Errorf("%q, %s, %+v", err, action, rel)
	}
	if !slices.Equal(hooks, []string{"Job ingress-nginx/ingress-nginx-admission-create"}) {
		t.Errorf("hooks %v", hooks)
	}
	api.edit(func() { api.jobs = "Complete" })
	mustApply(t, client, spec, ActionUpgrade)
	mustApply(t, client, spec, ActionNone)
}

func TestHookTimeout(t *testing.T) {
	api := newFakeAPI(t)
	api.jobs = ""
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	spec.HookTimeout = 200 * time.Millisecond
	_, _, err := client.Apply(t.Context(), spec)
	var hook *HookError
	if !errors.As(err, &hook) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not end within 200ms") {
		t.Errorf("error %v", err)
	}
}

// A watch that breaks off is begun again, and a Job that ended meanwhile is not waited for.
func TestHookWatchBreaksOff(t *testing.T) {
	api := newFakeAPI(t)
	var watches atomic.Int32
	api.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "" || watches.Add(1) > 1 {
			return false
		}
		answerStatus(w, 503, "ServiceUnavailable")
		return true
	}
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	mustApply(t, client, spec, ActionInstall)
	if watches.Load() < 2 {
		t.Errorf("%d watches", watches.Load())
	}
}

func TestCancelRecordsTheFailure(t *testing.T) {
	api := newFakeAPI(t)
	api.jobs = ""
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	ctx, cancel := context.WithCancel(t.Context())
	spec.OnHook = func(string, string, string) { cancel() }
	start := time.Now()
	_, _, err := client.Apply(ctx, spec)
	if !errors.Is(err, context.Canceled) || time.Since(start) > time.Minute {
		t.Fatalf("%v after %s", err, time.Since(start))
	}
	api.take()
	rel, err := client.Get(t.Context(), spec.Namespace, spec.Name)
	if err != nil || rel.Status != StatusFailed {
		t.Errorf("%+v, %v", rel, err)
	}
	if api.objects["/apis/apps/v1/namespaces/ingress-nginx/deployments/ingress-nginx-controller"] != nil {
		t.Error("the install went on after it was cancelled")
	}
	time.Sleep(100 * time.Millisecond)
	if requests := api.take(); len(requests) != 1 {
		t.Errorf("the action goes on: %v", requests)
	}
	api.edit(func() { api.jobs = "Complete" })
	spec.OnHook = nil
	mustApply(t, client, spec, ActionUpgrade)
}

func TestCancelBeforeTheObjects(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	ctx, cancel := context.WithCancel(t.Context())
	api.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost { // the record that the install begins
			cancel()
		}
		return false
	}
	if _, _, err := client.Apply(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if n := count(api.take(), "POST"); n != 1 {
		t.Errorf("%d objects were made after the install was cancelled", n-1)
	}
	rel, err := client.Get(t.Context(), "redis", "redis")
	if err != nil || rel.Status != StatusFailed {
		t.Errorf("%+v, %v", rel, err)
	}
}

func TestCancelledUninstallIsTakenUpAgain(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)
	ctx, cancel := context.WithCancel(t.Context())
	api.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut { // the record that the uninstall begins
			cancel()
		}
		return false
	}
	if _, err := client.Uninstall(ctx, "redis", "redis", time.Minute); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	rel, err := client.Get(t.Context(), "redis", "redis")
	if err != nil || rel.Status != StatusUninstalling {
		t.Fatalf("%+v, %v", rel, err)
	}
	api.edit(func() { api.before = nil })
	mustApply(t, client, spec, ActionInstall)
	checkUninstall(t, api, client, spec)
}

// What cannot be deleted is named, not only that something could not.
func TestUninstallNamesTheCause(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)
	api.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete || !strings.Contains(r.URL.Path, "statefulsets") {
			return false
		}
		answerStatus(w, 403, "Forbidden: statefulsets")
		return true
	}
	rel, err := client.Uninstall(t.Context(), "redis", "redis", time.Minute)
	if err == nil || !strings.Contains(err.Error(), "Forbidden: statefulsets") || len(rel.Objects) == 0 {
		t.Errorf("%+v, %v", rel, err)
	}
}

func TestInstallDoesNotTakeOverObjects(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	path := "/api/v1/namespaces/redis/services/redis-master"
	theirs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "redis-master", "namespace": "redis"}}}
	api.objects[path] = theirs
	_, _, err := client.Apply(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), `Service "redis-master"`) {
		t.Errorf("error %v", err)
	}
	if _, err := client.Get(t.Context(), "redis", "redis"); !errors.Is(err, ErrReleaseNotFound) {
		t.Errorf("a release was made: %v", err)
	}
}

func TestReinstallAfterKeptHistory(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)
	// helm uninstall --keep-history leaves the record alone, as uninstalled.
	r := client.newRun(t.Context(), "redis")
	defer r.close()
	record, err := r.revision("redis", 1)
	if err != nil {
		t.Fatal(err)
	}
	record.Info.Status = StatusUninstalled
	records, err := r.records()
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Update(record); err != nil {
		t.Fatal(err)
	}
	api.edit(func() {
		for path := range api.objects {
			if !strings.Contains(path, "/secrets/") {
				delete(api.objects, path)
			}
		}
	})
	if rel := mustApply(t, client, spec, ActionInstall); rel.Revision != 2 {
		t.Errorf("%+v", rel)
	}
	mustApply(t, client, spec, ActionNone)
}

func TestDamagedRecord(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	mustApply(t, client, spec, ActionInstall)
	record := api.objects["/api/v1/namespaces/redis/secrets/sh.helm.release.v1.redis.v1"]
	record.Object["data"] = map[string]any{"release": "bm9uc2Vuc2U="}
	requireDamaged := func(err error) {
		t.Helper()
		if err == nil || errors.Is(err, ErrReleaseNotFound) || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("error %v", err)
		}
	}
	_, err := client.Uninstall(t.Context(), "redis", "redis", time.Minute)
	requireDamaged(err)
	// What was being taken away has to be finished before it is made again: the plan says that this can't be done.
	for _, status := range []string{StatusUninstalling, StatusUninstalled} {
		labels := record.GetLabels()
		labels[labelStatus] = status
		record.SetLabels(labels)
		_, err := client.Plan(t.Context(), spec)
		requireDamaged(err)
	}
}

func TestDigestFollowsChartAndValues(t *testing.T) {
	base := testSpec(t, "redis")
	digest := func(change func(*Spec)) string {
		spec := base
		spec.Values = cloneValues(base.Values)
		change(&spec)
		d, err := spec.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	same := digest(func(*Spec) {})
	for name, change := range map[string]func(*Spec){
		"a value":   func(s *Spec) { s.Values["image"].(map[string]any)["tag"] = "8.3.0" },
		"the chart": func(s *Spec) { s.Chart = standIn(t, "ingress-nginx") },
		"the name":  func(s *Spec) { s.Name = "other" },
	} {
		if digest(change) == same {
			t.Errorf("the digest does not follow %s", name)
		}
	}
	for name, change := range map[string]func(*Spec){
		"nothing":      func(*Spec) {},
		"the timeout":  func(s *Spec) { s.HookTimeout = time.Hour },
		"the instance": func(s *Spec) { s.Instance = "other" },
	} {
		if digest(change) != same {
			t.Errorf("the digest follows %s", name)
		}
	}
	if len(same) > 63 {
		t.Errorf("a label can't hold %s", same)
	}
}

func TestLabelValue(t *testing.T) {
	for in, want := range map[string]string{"1.0.0+build.1": "1.0.0_build.1", "8.2.1": "8.2.1", "v1 (β)": "v1", "": "", strings.Repeat("x", 99): strings.Repeat("x", 63)} {
		if got := labelValue(in); got != want {
			t.Errorf("labelValue(%q) = %q, want %q", in, got, want)
		}
	}
}

// What Helm and its libraries log goes to the given log, not to the terminal.
func TestStandardLogIsCaught(t *testing.T) {
	var out bytes.Buffer
	NewClient(ClientOptions{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	log.Printf("warning: %s", strconv.Quote("skipped"))
	if !strings.Contains(out.String(), "level=DEBUG") || !strings.Contains(out.String(), "skipped") {
		t.Errorf("logged %q", out.String())
	}
}

func TestPlanNeedsAnInstance(t *testing.T) {
	client, spec := newTestClient(t, newFakeAPI(t)), testSpec(t, "redis")
	for name, broken := range map[string]Spec{
		"no instance": {Name: spec.Name, Namespace: spec.Namespace, Chart: spec.Chart},
		"no chart":    {Name: spec.Name, Namespace: spec.Namespace, Instance: "x"},
		"no name":     {Namespace: spec.Namespace, Chart: spec.Chart, Instance: "x"},
	} {
		if _, err := client.Plan(t.Context(), broken); err == nil {
			t.Errorf("%s: planned", name)
		}
	}
}

// collected is Helm's way to give the errors of several objects.
type collected []error

func (c collected) Error() string          { return fmt.Sprintf("%d errors occurred:\n\t* ...", len(c)) }
func (c collected) WrappedErrors() []error { return c }

// TestErrorsOfObjects: each object's error is said in its own words.
func TestErrorsOfObjects(t *testing.T) {
	invalid, taken := errors.New(`StatefulSet.apps "a" is invalid`), errors.New(`services "b" already exists`)
	k := &kubeClient{}
	err := k.remember(fmt.Errorf("create: %w", collected{invalid, taken}))
	if err.Error() != invalid.Error()+"\n"+taken.Error() || !errors.Is(err, taken) || !errors.Is(k.err, invalid) {
		t.Errorf("got %v", err)
	}
	if err := k.remember(invalid); !errors.Is(err, invalid) || err.Error() != invalid.Error() {
		t.Errorf("got %v", err)
	}
}
