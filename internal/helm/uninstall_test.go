package helm

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Where the objects of the stand-in charts are.
const (
	webhookPath    = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ingress-nginx-admission"
	admissionPath  = "/api/v1/namespaces/ingress-nginx/services/ingress-nginx-controller-admission"
	controllerPath = "/apis/apps/v1/namespaces/ingress-nginx/deployments/ingress-nginx-controller"
	budgetPath     = "/apis/policy/v1/namespaces/ingress-nginx/poddisruptionbudgets/ingress-nginx-controller"
	hookPath       = "/apis/batch/v1/namespaces/ingress-nginx/jobs/ingress-nginx-admission-create"
)

// withReplicas is the release with so many controllers: two of them have a PodDisruptionBudget, one has none.
func withReplicas(spec Spec, n int) Spec {
	spec.Values = cloneValues(spec.Values)
	controller, _ := spec.Values["controller"].(map[string]any)
	controller = cloneValues(controller)
	controller["replicaCount"] = n
	spec.Values["controller"] = controller
	return spec
}

// A webhook whose Service is gone makes the API server refuse every Ingress of the cluster.
func TestUninstallTakesWebhooksFirst(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	mustApply(t, client, spec, ActionInstall)
	api.take()
	if _, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute); err != nil {
		t.Fatal(err)
	}
	requests := api.take()
	webhook := slices.Index(requests, "DELETE "+webhookPath)
	for _, later := range []string{"DELETE " + admissionPath, "DELETE " + controllerPath} {
		if at := slices.Index(requests, later); webhook < 0 || at < webhook {
			t.Errorf("the webhook goes as the %d., %s as the %d.", webhook, later, at)
		}
	}
	if n := count(requests, "DELETE "+webhookPath); n != 1 {
		t.Errorf("it is deleted %d times", n)
	}
}

// What has the name of one of the release's objects and not its marks is somebody else's.
func TestUninstallLeavesForeignObjects(t *testing.T) {
	for name, marks := range map[string]map[string]string{
		"no marks":                      nil,
		"of a release in another place": {ReleaseNameAnnotation: "ingress-nginx", ReleaseNamespaceAnnotation: "edge"},
		"to be kept":                    {ReleaseNameAnnotation: "ingress-nginx", ReleaseNamespaceAnnotation: "ingress-nginx", "helm.sh/resource-policy": "keep"},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
			mustApply(t, client, spec, ActionInstall)
			theirs := []string{webhookPath, "/apis/networking.k8s.io/v1/ingressclasses/nginx"}
			api.edit(func() {
				for _, path := range theirs {
					api.objects[path].SetAnnotations(marks)
				}
			})
			gone, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute)
			if err != nil || len(gone.Objects) != 4 {
				t.Errorf("%d objects, %v", len(gone.Objects), err)
			}
			for _, path := range theirs {
				if api.objects[path] == nil {
					t.Errorf("%s is gone", path)
				}
			}
			if api.objects[admissionPath] != nil {
				t.Error("the release's own Service is still there")
			}
		})
	}
}

// A killed run leaves what an older revision made, what the newest made, and what hooks need; all of that goes.
func TestUninstallOfAllRevisions(t *testing.T) {
	for name, test := range map[string]struct{ before, killed int }{
		"only the older revision has it":       {before: 2, killed: 1},
		"only the interrupted one may have it": {before: 1, killed: 2},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
			mustApply(t, client, withReplicas(spec, test.before), ActionInstall)
			budget := api.objects[budgetPath]
			applyKilled(t, api, client, withReplicas(spec, test.killed), StatusPendingUpgrade, 2)
			api.edit(func() {
				if budget == nil { // it was killed after that was made
					api.objects[budgetPath] = markedBudget()
				}
				job := &unstructured.Unstructured{}
				job.SetName("ingress-nginx-admission-create")
				job.SetNamespace("ingress-nginx")
				job.SetAnnotations(map[string]string{"helm.sh/hook": "pre-install,pre-upgrade"})
				job.SetAPIVersion("batch/v1")
				job.SetKind("Job")
				api.objects[hookPath] = job
			})
			gone, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Forget(t.Context(), spec.Namespace, spec.Name); err != nil {
				t.Fatal(err)
			}
			for path := range api.objects {
				t.Errorf("left behind: %s", path)
			}
			if !slices.ContainsFunc(gone.Objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "PodDisruptionBudget" }) {
				t.Error("nobody is told to wait for what only one revision has")
			}
		})
	}
}

// An up after a down that was killed in the middle finishes that first.
func TestUninstallIsFinishedByApply(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	mustApply(t, client, withReplicas(spec, 2), ActionInstall)
	budget := api.objects[budgetPath]
	api.edit(func() {
		api.before = func(w http.ResponseWriter, r *http.Request) bool {
			return cutOff(w, r, strings.HasSuffix(r.URL.Path, "/deployments/ingress-nginx-controller"))
		}
	})
	if _, err := client.Uninstall(t.Context(), spec.Namespace, spec.Name, time.Minute); err == nil {
		t.Fatal("it was not cut off")
	}
	api.edit(func() { api.before, api.objects[budgetPath] = nil, budget }) // Helm goes on after what it can't delete
	requireNewest(t, client, StatusUninstalling, 1)
	if api.objects[webhookPath] != nil || api.objects[controllerPath] == nil {
		t.Fatal("it was cut off somewhere else")
	}
	mustApply(t, client, spec, ActionInstall)
	requireNewest(t, client, StatusDeployed, 2)
	if api.objects[budgetPath] != nil || api.objects[webhookPath] == nil || api.objects[controllerPath] == nil {
		t.Error("it was not taken away, or not installed again")
	}
	mustApply(t, client, spec, ActionNone)
	checkUninstall(t, api, client, spec)
}

// cutOff refuses to delete, as if the run had been killed before.
func cutOff(w http.ResponseWriter, r *http.Request, here bool) bool {
	if r.Method != http.MethodDelete || !here {
		return false
	}
	answerStatus(w, http.StatusForbidden, "Forbidden")
	return true
}

// markedBudget is the release's PodDisruptionBudget.
func markedBudget() *unstructured.Unstructured {
	budget := &unstructured.Unstructured{}
	budget.SetAPIVersion("policy/v1")
	budget.SetKind("PodDisruptionBudget")
	budget.SetNamespace("ingress-nginx")
	budget.SetName("ingress-nginx-controller")
	budget.SetAnnotations(map[string]string{ReleaseNameAnnotation: "ingress-nginx", ReleaseNamespaceAnnotation: "ingress-nginx"})
	return budget
}
