package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// Short names for what the tests of this package use everywhere.
const someoneElse = harness.SomeoneElse

var (
	adminClient   = harness.Admin
	eventually    = harness.Eventually
	uniqueName    = harness.UniqueName
	namespace     = harness.Namespace
	makeNamespace = harness.MakeNamespace
	object        = harness.Object
	create        = harness.Create
	read          = harness.Read
	remove        = harness.Remove
	unhold        = harness.Unhold
	limitedUser   = harness.LimitedUser
	kubeconfig    = harness.Kubeconfig
	startEdge     = harness.StartEdge
)

// connect gives pwdeploy's client as the administrator.
func connect(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper) *kube.Client {
	t.Helper()
	c, err := kube.Connect(t.Context(), kube.Options{Wrap: wrap})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// within bounds what a test waits for.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// owned is an object of this instance of pwdeploy.
func owned(t *testing.T, namespace, text string) *unstructured.Unstructured {
	t.Helper()
	o := object(t, namespace, text)
	kube.MarkOwned(o, namespace)
	return o
}

func configMap(name, key, value string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s}, data: {%s: %q}}", name, key, value)
}

// stored is what a snapshot keeps of an object.
type stored struct {
	uid, resourceVersion string
	controller           string // the UID of the object that made this one, or ""
	intent               string // all but the status, with the managers of fields
	hasStatus            bool   // controllers write it at any time
}

// snapshot is what a part of the cluster held at one moment, by kind, namespace and name.
type snapshot map[string]stored

// transient kinds come and go by themselves.
var transient = []string{"Event", "Lease", "Node", "CSINode", "Endpoints", "EndpointSlice", "IPAddress", "PodMetrics", "APIService", "Namespace", "ComponentStatus"}

// isTests tells the cluster-wide objects that tests make beside one another: of classes and roles their own.
func isTests(name string) bool { return ownName.MatchString(name) }

// ownName is what uniqueName gives.
var ownName = regexp.MustCompile(`^(it|s|user)-[0-9a-f]{8}$`)

// takeSnapshot reads everything in these namespaces, the namespaces themselves, and everything that is in no
// namespace.
func takeSnapshot(t *testing.T, namespaces ...string) snapshot {
	t.Helper()
	c := adminClient(t)
	lists, err := c.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	out := snapshot{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || slices.Contains(transient, r.Kind) {
				continue
			}
			out.add(t, c.Dynamic.Resource(gv.WithResource(r.Name)), r.Namespaced, namespaces)
		}
	}
	for _, name := range namespaces {
		if o := read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: name}); o != nil {
			out.put(t, o)
		}
	}
	return out
}

func (s snapshot) add(t *testing.T, r dynamic.NamespaceableResourceInterface, namespaced bool, namespaces []string) {
	t.Helper()
	readers := []dynamic.ResourceInterface{r}
	if namespaced {
		readers = nil
		for _, n := range namespaces {
			readers = append(readers, r.Namespace(n))
		}
	}
	for _, reader := range readers {
		list, err := reader.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			s.put(t, &list.Items[i])
		}
	}
}

func (s snapshot) put(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	if o.GetNamespace() == "" && o.GetKind() != "Namespace" && isTests(o.GetName()) {
		return
	}
	_, hasStatus := o.Object["status"]
	kept := stored{uid: string(o.GetUID()), resourceVersion: o.GetResourceVersion(), intent: intent(t, o), hasStatus: hasStatus}
	if c := metav1.GetControllerOf(o); c != nil {
		kept.controller = string(c.UID)
	}
	s[kube.RefOf(o).String()] = kept
}

// has tells whether an object of this UID, which may be "", is there.
func (s snapshot) has(uid string) bool {
	for _, o := range s {
		if uid != "" && o.uid == uid {
			return true
		}
	}
	return false
}

// intent is what the owners of an object wrote, as text: without what Kubernetes' controllers add to it when they get
// to it, such as the revision of a Deployment.
func intent(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	o = o.DeepCopy()
	var managers []string
	for _, m := range o.GetManagedFields() {
		if m.Subresource == "" && m.Manager != "kube-controller-manager" {
			managers = append(managers, fmt.Sprintf("%s %s %s", m.Manager, m.Operation, m.FieldsV1))
		}
	}
	slices.Sort(managers)
	delete(o.Object, "status")
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "deployment.kubernetes.io/revision")
	if len(o.GetAnnotations()) == 0 {
		o.SetAnnotations(nil)
	}
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	text, err := json.MarshalIndent(o.Object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n" + strings.Join(managers, "\n")
}

// requireUntouched fails if anything was written to the cluster between two snapshots, statuses apart, and apart from
// what a controller did in between for an object that was left alone: it may be late.
func requireUntouched(t *testing.T, before, after snapshot) {
	t.Helper()
	for _, line := range differences(before, after) {
		t.Error(line)
	}
}

func differences(before, after snapshot) []string {
	var out []string
	for key, was := range before {
		is, ok := after[key]
		switch {
		case was.controller != "" && !before.has(was.controller):
			// An orphan, such as the pod of a hook's Job: the garbage collector's to take away when it gets to it.
		case !ok:
			out = append(out, key+" is gone")
		case is.uid != was.uid:
			out = append(out, key+" was made anew")
		case after.has(was.controller):
			// Its controller's to change.
		case is.intent != was.intent:
			out = append(out, fmt.Sprintf("%s changed:\n%s", key, lineDiff(was.intent, is.intent)))
		case !was.hasStatus && is.resourceVersion != was.resourceVersion:
			out = append(out, key+" was written, to no effect")
		}
	}
	for key, is := range after {
		if _, ok := before[key]; !ok && !after.has(is.controller) {
			out = append(out, key+" appeared")
		}
	}
	slices.Sort(out)
	return out
}

// lineDiff shows the lines that are only in one of two texts.
func lineDiff(was, is string) string {
	var out strings.Builder
	a, b := strings.Split(was, "\n"), strings.Split(is, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			out.WriteString("  - " + l + "\n")
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out.WriteString("  + " + l + "\n")
		}
	}
	return out.String()
}

// requests records what goes to the API server.
type requests struct {
	mu   sync.Mutex
	list []string
}

func (r *requests) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		r.mu.Lock()
		r.list = append(r.list, req.Method+" "+req.URL.RequestURI())
		r.mu.Unlock()
		return next.RoundTrip(req)
	})
}

// all gives the requests so far, count their number.
func (r *requests) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

func (r *requests) count() int { return len(r.all()) }

// writes are the requests that can change something. Asking what one may do is a POST that stores nothing.
func (r *requests) writes() []string {
	return slices.DeleteFunc(r.all(), func(s string) bool {
		return strings.HasPrefix(s, "GET ") || strings.Contains(s, "/selfsubjectaccessreviews") || strings.Contains(s, "dryRun=All")
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs; go test ./test/integration -update writes it anew:\n%s", path, lineDiff(string(want), string(got)))
	}
}
