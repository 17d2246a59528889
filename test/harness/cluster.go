package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// SomeoneElse is the field manager of everything that the tests write in the name of others.
const SomeoneElse = "someone-else"

// Cluster is the administrator's own way to the API server, beside pwdeploy's.
type Cluster struct {
	kubernetes.Interface
	Dynamic dynamic.Interface
	Config  *rest.Config
}

// admin is made once: it stands for the whole run.
var admin = sync.OnceValues(func() (*Cluster, error) {
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
	return &Cluster{Interface: typed, Dynamic: dyn, Config: config}, err
})

// Admin gives the administrator's way to the cluster.
func Admin(t *testing.T) *Cluster {
	t.Helper()
	c, err := admin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// patience is how long the tests wait for what the cluster does by itself: the garbage collector, for one, looks for
// new kinds before it deletes, which takes it half a minute at times.
const patience = 2 * time.Minute

// Eventually asks until the answer is yes.
func Eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ask(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// UniqueName gives a name that no other test has, nor another run against the same control plane.
func UniqueName(prefix string) string {
	return fmt.Sprintf("%s-%08x", prefix, rand.Uint32())
}

// Namespace makes a namespace that goes, in the background, when the test ends.
func Namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	name := UniqueName("it")
	MakeNamespace(t, name, labels)
	return name
}

// MakeNamespace is Namespace with a name of the caller's.
func MakeNamespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := Admin(t).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{FieldManager: SomeoneElse}); err != nil {
		t.Fatal(err)
	}
	RemoveNamespace(t, name)
	// Controllers make these a moment later. Pods need the account, and what appears by itself is no test's doing.
	Eventually(t, "what every namespace holds is in "+name, func() bool {
		_, noAccount := Admin(t).CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		_, noAuthority := Admin(t).CoreV1().ConfigMaps(name).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		return noAccount == nil && noAuthority == nil
	})
}

// RemoveNamespace deletes a namespace, if it is there, when the test ends.
func RemoveNamespace(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		err := Admin(t).CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// Object reads YAML; its namespace is filled in.
func Object(t *testing.T, namespace, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetNamespace(namespace)
	return o
}

// Resource gives the administrator's client for an object's kind.
func (c *Cluster) Resource(t *testing.T, kind schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
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
			return c.Dynamic.Resource(gvr).Namespace(namespace)
		}
		return c.Dynamic.Resource(gvr)
	}
	t.Fatalf("the cluster does not know the kind %s", kind)
	return nil
}

// Create makes an object in the name of somebody else.
func Create(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	made, err := Admin(t).Resource(t, o.GroupVersionKind(), o.GetNamespace()).Create(t.Context(), o, metav1.CreateOptions{FieldManager: SomeoneElse})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Read gives an object as it is stored, or nil.
func Read(t *testing.T, ref kube.Ref) *unstructured.Unstructured {
	t.Helper()
	o, err := Admin(t).Resource(t, ref.GroupVersionKind, ref.Namespace).Get(t.Context(), ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Remove deletes an object in the name of somebody else and waits until it is gone.
func Remove(t *testing.T, ref kube.Ref) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := Admin(t).Resource(t, ref.GroupVersionKind, ref.Namespace).Delete(ctx, ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Unhold takes the finalizers away.
func Unhold(t *testing.T, ref kube.Ref) {
	t.Helper()
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	_, err := Admin(t).Resource(t, ref.GroupVersionKind, ref.Namespace).Patch(context.WithoutCancel(t.Context()), ref.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// LimitedUser gives the path of a kubeconfig for a ServiceAccount that may do what the rules say in the namespace,
// and what clusterRules say everywhere.
func LimitedUser(t *testing.T, namespace string, rules, clusterRules []rbacv1.PolicyRule) string {
	t.Helper()
	c, ctx := Admin(t), t.Context()
	name := UniqueName("user")
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
	return Kubeconfig(t, func(k *clientcmdapi.Config) {
		k.AuthInfos["user"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		k.Contexts[k.CurrentContext].AuthInfo = "user"
	})
}

// UserWithoutIngresses gives the path of a kubeconfig for somebody who may do all that up does with somebody else's
// controller, but make or patch an Ingress.
func UserWithoutIngresses(t *testing.T) string {
	t.Helper()
	user := LimitedUser(t, Namespace(t, nil), nil, []rbacv1.PolicyRule{
		{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch", "update", "delete"}},
		{APIGroups: []string{"", "apps", "policy", "rbac.authorization.k8s.io", "coordination.k8s.io"}, Resources: []string{"*"}, Verbs: []string{"create", "patch"}},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: []string{"create", "patch"}},
	})
	client, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: user})
	if err != nil {
		t.Fatal(err)
	}
	granted := []kube.Access{{Verb: "create", Group: "apps", Resource: "deployments"}}
	Eventually(t, "the user's role is known", func() bool { return client.CheckAccess(t.Context(), granted) == nil })
	return user
}

// Volume makes one volume for one claim, of a class of its own name: there is no provisioner.
func Volume(t *testing.T, name string) {
	t.Helper()
	ref := kube.RefOf(Create(t, Object(t, "", `{apiVersion: v1, kind: PersistentVolume, metadata: {name: `+name+`}, spec: {
  storageClassName: `+name+`, capacity: {storage: 100Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /nowhere}}}`)))
	t.Cleanup(func() { Remove(t, ref) })
}

// Kubeconfig writes a changed copy of the lab's.
func Kubeconfig(t *testing.T, change func(*clientcmdapi.Config)) string {
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
