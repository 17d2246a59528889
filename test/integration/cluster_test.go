package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// someoneElse is the field manager of everything that the tests write in the name of others.
const someoneElse = "someone-else"

// cluster is the administrator's own way to the API server, beside pwdeploy's.
type cluster struct {
	kubernetes.Interface
	dynamic dynamic.Interface
	config  *rest.Config
}

var admin = sync.OnceValues(func() (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(config)
	return &cluster{Interface: typed, dynamic: dyn, config: config}, err
})

func adminClient(t *testing.T) *cluster {
	t.Helper()
	c, err := admin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

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

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ask(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// uniqueName gives a name that no other test has, nor another run against the same control plane.
func uniqueName(prefix string) string {
	return fmt.Sprintf("%s-%08x", prefix, rand.Uint32())
}

// namespace makes a namespace that goes, in the background, when the test ends.
func namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	name := uniqueName("it")
	makeNamespace(t, name, labels)
	return name
}

func makeNamespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := adminClient(t).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{FieldManager: someoneElse}); err != nil {
		t.Fatal(err)
	}
	removeNamespace(t, name)
	// Pods need the account, which a controller makes a moment later.
	eventually(t, "the default ServiceAccount of "+name, func() bool {
		_, err := adminClient(t).CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
}

// removeNamespace deletes a namespace, if it is there, when the test ends.
func removeNamespace(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		err := adminClient(t).CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// object reads YAML; its namespace is filled in.
func object(t *testing.T, namespace, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetNamespace(namespace)
	return o
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

// resource gives the administrator's client for an object's kind.
func (c *cluster) resource(t *testing.T, kind schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
	t.Helper()
	list, err := c.Discovery().ServerResourcesForGroupVersion(kind.GroupVersion().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list.APIResources {
		if r.Kind != kind.Kind || strings.Contains(r.Name, "/") {
			continue
		}
		gvr := kind.GroupVersion().WithResource(r.Name)
		if r.Namespaced {
			return c.dynamic.Resource(gvr).Namespace(namespace)
		}
		return c.dynamic.Resource(gvr)
	}
	t.Fatalf("the cluster does not know the kind %s", kind)
	return nil
}

// create makes an object in the name of somebody else.
func create(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	made, err := adminClient(t).resource(t, o.GroupVersionKind(), o.GetNamespace()).Create(t.Context(), o, metav1.CreateOptions{FieldManager: someoneElse})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// read gives an object as it is stored, or nil.
func read(t *testing.T, ref kube.Ref) *unstructured.Unstructured {
	t.Helper()
	o, err := adminClient(t).resource(t, ref.GroupVersionKind, ref.Namespace).Get(t.Context(), ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// stored is what a snapshot keeps of an object.
type stored struct {
	uid, resourceVersion string
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
			out.add(t, c.dynamic.Resource(gv.WithResource(r.Name)), r.Namespaced, namespaces)
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
	s[kube.RefOf(o).String()] = stored{uid: string(o.GetUID()), resourceVersion: o.GetResourceVersion(), intent: intent(t, o), hasStatus: hasStatus}
}

// intent is what the owners of an object wrote, as text.
func intent(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	o = o.DeepCopy()
	var managers []string
	for _, m := range o.GetManagedFields() {
		if m.Subresource == "" {
			managers = append(managers, fmt.Sprintf("%s %s %s", m.Manager, m.Operation, m.FieldsV1))
		}
	}
	slices.Sort(managers)
	delete(o.Object, "status")
	o.SetManagedFields(nil)
	o.SetResourceVersion("")
	text, err := json.MarshalIndent(o.Object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n" + strings.Join(managers, "\n")
}

// requireUntouched fails if anything was written to the cluster between two snapshots, statuses apart.
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
		case !ok:
			out = append(out, key+" is gone")
		case is.uid != was.uid:
			out = append(out, key+" was made anew")
		case is.intent != was.intent:
			out = append(out, fmt.Sprintf("%s changed:\n%s", key, lineDiff(was.intent, is.intent)))
		case !was.hasStatus && is.resourceVersion != was.resourceVersion:
			out = append(out, key+" was written, to no effect")
		}
	}
	for key := range after {
		if _, ok := before[key]; !ok {
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

// limitedUser gives the path of a kubeconfig for a ServiceAccount that may do what the rules say in the namespace,
// and what clusterRules say everywhere.
func limitedUser(t *testing.T, namespace string, rules, clusterRules []rbacv1.PolicyRule) string {
	t.Helper()
	c, ctx := adminClient(t), t.Context()
	name := uniqueName("user")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	account, err := c.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(err)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}}
	meta := metav1.ObjectMeta{Name: name}
	_, err = c.RbacV1().Roles(namespace).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	must(err)
	_, err = c.RbacV1().RoleBindings(namespace).Create(ctx, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}}, metav1.CreateOptions{})
	must(err)
	_, err = c.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: clusterRules}, metav1.CreateOptions{})
	must(err)
	_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}, metav1.CreateOptions{})
	must(err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		must(c.RbacV1().ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{}))
		must(c.RbacV1().ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{}))
	})
	token, err := c.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(err)
	return kubeconfig(t, func(k *clientcmdapi.Config) {
		k.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		k.Contexts[k.CurrentContext].AuthInfo = "user"
	})
}

// kubeconfig writes a changed copy of the lab's.
func kubeconfig(t *testing.T, change func(*clientcmdapi.Config)) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		t.Fatal(err)
	}
	change(config)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
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
