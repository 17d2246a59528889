package helm

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// apiKind is a kind that the fake API server knows.
type apiKind struct {
	schema.GroupVersionKind
	resource   string
	namespaced bool
}

var apiKinds = []apiKind{
	{schema.GroupVersionKind{Version: "v1", Kind: "Secret"}, "secrets", true},
	{schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, "configmaps", true},
	{schema.GroupVersionKind{Version: "v1", Kind: "Service"}, "services", true},
	{schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, "deployments", true},
	{schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"}, "statefulsets", true},
	{schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}, "jobs", true},
	{schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}, "poddisruptionbudgets", true},
	{schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "IngressClass"}, "ingressclasses", false},
	{schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"}, "validatingwebhookconfigurations", false},
}

// fakeAPI is as much of an API server as Helm needs: discovery, objects by name, lists by label, strategic
// merge patches, watches, and Jobs that end by themselves.
type fakeAPI struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	objects  map[string]*unstructured.Unstructured // by path
	events   []fakeEvent
	requests []string // "POST /api/v1/…", discovery and version apart
	// before may answer a request itself, or wait; it returns whether it answered.
	before func(w http.ResponseWriter, r *http.Request) bool
	// jobs says how a Job ends: "Complete", "Failed", "" for never. ttl removes it as soon as it ended.
	jobs string
}

type fakeEvent struct {
	kind, path string
	object     []byte
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{t: t, objects: map[string]*unstructured.Unstructured{}, jobs: "Complete"}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.discovery(w, r) {
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	before := f.before
	f.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	kind, collection, name := f.route(r.URL.Path)
	switch {
	case kind == nil:
		answerStatus(w, 404, metav1.StatusReasonNotFound)
	case r.URL.Query().Get("watch") != "":
		f.watch(w, r, collection)
	case r.Method == http.MethodPost:
		f.create(w, r, kind, collection)
	case name == "":
		f.list(w, r, kind, collection)
	default:
		f.item(w, r, kind, collection+"/"+name)
	}
}

// route splits a path: /apis/apps/v1/namespaces/x/deployments/y.
func (f *fakeAPI) route(path string) (kind *apiKind, collection, name string) {
	for i := range apiKinds {
		k := &apiKinds[i]
		prefix := "/apis/" + k.Group + "/" + k.Version
		if k.Group == "" {
			prefix = "/api/" + k.Version
		}
		rest, ok := strings.CutPrefix(path, prefix+"/")
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if parts[0] == "namespaces" && len(parts) > 2 {
			prefix, parts = prefix+"/namespaces/"+parts[1], parts[2:]
		}
		if parts[0] == k.resource {
			return k, prefix + "/" + k.resource, strings.Join(parts[1:], "/")
		}
	}
	return nil, "", ""
}

func (f *fakeAPI) create(w http.ResponseWriter, r *http.Request, kind *apiKind, collection string) {
	obj := readObject(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	path := collection + "/" + obj.GetName()
	if f.objects[path] != nil {
		answerStatus(w, 409, metav1.StatusReasonAlreadyExists)
		return
	}
	obj.SetGroupVersionKind(kind.GroupVersionKind)
	obj.SetUID("uid")
	f.store("ADDED", path, obj)
	answer(w, 201, obj)
	if kind.Kind == "Job" && f.jobs != "" {
		time.AfterFunc(20*time.Millisecond, func() { f.endJob(path) })
	}
}

// endJob ends a Job, and removes it as ttlSecondsAfterFinished: 0 asks.
func (f *fakeAPI) endJob(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job := f.objects[path].DeepCopy()
	condition := map[string]any{"type": f.jobs, "status": "True", "message": "as the test wants"}
	_ = unstructured.SetNestedSlice(job.Object, []any{condition}, "status", "conditions")
	f.store("MODIFIED", path, job)
	delete(f.objects, path)
	f.event("DELETED", path, job)
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request, kind *apiKind, collection string) {
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		answerStatus(w, 400, metav1.StatusReasonBadRequest)
		return
	}
	partial := strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList")
	f.mu.Lock()
	defer f.mu.Unlock()
	items := []any{}
	for _, path := range slices.Sorted(maps.Keys(f.objects)) {
		obj := f.objects[path]
		if !strings.HasPrefix(path, collection+"/") || !selector.Matches(labels.Set(obj.GetLabels())) {
			continue
		}
		if partial {
			items = append(items, map[string]any{"metadata": obj.Object["metadata"]})
		} else {
			items = append(items, obj.Object)
		}
	}
	list := map[string]any{"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind + "List", "metadata": map[string]any{}, "items": items}
	if partial {
		list["apiVersion"], list["kind"] = "meta.k8s.io/v1", "PartialObjectMetadataList"
	}
	answer(w, 200, list)
}

func (f *fakeAPI) item(w http.ResponseWriter, r *http.Request, kind *apiKind, path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	obj := f.objects[path]
	if obj == nil {
		answerStatus(w, 404, metav1.StatusReasonNotFound)
		return
	}
	switch r.Method {
	case http.MethodDelete:
		delete(f.objects, path)
		f.event("DELETED", path, obj)
		answer(w, 200, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Success"})
		return
	case http.MethodPut:
		obj = readObject(r)
		f.store("MODIFIED", path, obj)
	case http.MethodPatch:
		obj = f.patched(r, kind, obj)
		f.store("MODIFIED", path, obj)
	}
	answer(w, 200, obj)
}

func (f *fakeAPI) patched(r *http.Request, kind *apiKind, obj *unstructured.Unstructured) *unstructured.Unstructured {
	patch, _ := io.ReadAll(r.Body)
	if strings.Contains(string(patch), `"resourceVersion":null`) {
		f.t.Errorf("%s: an API server refuses %s", r.URL.Path, patch)
	}
	typed, err := scheme.Scheme.New(kind.GroupVersionKind)
	if err != nil {
		f.t.Error(err)
	}
	original, _ := obj.MarshalJSON()
	merged, err := strategicpatch.StrategicMergePatch(original, patch, typed)
	if err != nil {
		f.t.Error(err)
	}
	result := &unstructured.Unstructured{}
	if err := result.UnmarshalJSON(merged); err != nil {
		f.t.Error(err)
	}
	return result
}

// store and event need the lock.
func (f *fakeAPI) store(event, path string, obj *unstructured.Unstructured) {
	obj.SetResourceVersion(strconv.Itoa(len(f.events) + 1))
	f.objects[path] = obj
	f.event(event, path, obj)
}

func (f *fakeAPI) event(kind, path string, obj *unstructured.Unstructured) {
	data, _ := obj.MarshalJSON()
	f.events = append(f.events, fakeEvent{kind, path, data})
}

// watch sends the events of one object after a resource version, until the client goes away.
func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, collection string) {
	name := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	next, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	for r.Context().Err() == nil {
		f.mu.Lock()
		events := slices.Clone(f.events[min(next, len(f.events)):])
		f.mu.Unlock()
		next += len(events)
		for _, e := range events {
			if e.path == collection+"/"+name {
				fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", e.kind, e.object)
			}
		}
		w.(http.Flusher).Flush()
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fakeAPI) discovery(w http.ResponseWriter, r *http.Request) bool {
	switch path := strings.Trim(r.URL.Path, "/"); {
	case path == "version":
		answer(w, 200, map[string]any{"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
	case path == "api":
		answer(w, 200, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case path == "apis":
		answer(w, 200, map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": apiGroups()})
	case path == "api/v1":
		answer(w, 200, apiResources(schema.GroupVersion{Version: "v1"}))
	case strings.HasPrefix(path, "apis/") && strings.Count(path, "/") == 2:
		parts := strings.Split(path, "/")
		answer(w, 200, apiResources(schema.GroupVersion{Group: parts[1], Version: parts[2]}))
	default:
		return false
	}
	return true
}

func apiGroups() []any {
	var groups []any
	for _, k := range apiKinds {
		if k.Group == "" || slices.ContainsFunc(groups, func(g any) bool { return g.(map[string]any)["name"] == k.Group }) {
			continue
		}
		version := map[string]any{"groupVersion": k.GroupVersion().String(), "version": k.Version}
		groups = append(groups, map[string]any{"name": k.Group, "versions": []any{version}, "preferredVersion": version})
	}
	return groups
}

func apiResources(gv schema.GroupVersion) any {
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, k := range apiKinds {
		if k.GroupVersion() == gv {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.resource, Kind: k.Kind, Namespaced: k.namespaced, Verbs: metav1.Verbs{"get", "list", "create", "patch", "delete", "watch"},
			})
		}
	}
	return list
}

func readObject(r *http.Request) *unstructured.Unstructured {
	body, _ := io.ReadAll(r.Body)
	obj := &unstructured.Unstructured{}
	_ = json.Unmarshal(body, &obj.Object)
	// Typed clients send creationTimestamp: null, which is no string.
	unstructured.RemoveNestedField(obj.Object, "metadata", "creationTimestamp")
	return obj
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func answerStatus(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	answer(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure",
		Code: int32(code), Reason: reason, Message: string(reason),
	})
}

// take gives the requests since it was called last.
func (f *fakeAPI) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	requests := f.requests
	f.requests = nil
	return requests
}

// edit changes the server under lock.
func (f *fakeAPI) edit(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}
