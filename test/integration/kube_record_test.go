package integration

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func TestInventory(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	if got, err := client.ReadInventory(t.Context(), ns); got != nil || err != nil {
		t.Fatalf("where there is none: got %+v, %v", got, err)
	}
	refs := []kube.Ref{
		{GroupVersionKind: kube.DeploymentKind, Namespace: ns, Name: "app"},
		{GroupVersionKind: kube.IngressClassKind, Name: "nginx"},
	}
	for _, complete := range []bool{false, true} { // made, then changed
		written := &kube.Inventory{
			Complete: complete, Settings: map[string]string{"host": "demo.pw.test"}, IngressClass: "nginx",
			Releases: []kube.InventoryChart{{Name: "redis", Namespace: "redis", Chart: "redis", Version: "1.2.3", Digest: "abc"}},
		}
		written.AddObjects(refs)
		written.AddObjects(refs)
		if err := client.WriteInventory(t.Context(), ns, written); err != nil {
			t.Fatal(err)
		}
		got, err := client.ReadInventory(t.Context(), ns)
		if err != nil || !reflect.DeepEqual(got, written) {
			t.Errorf("got %+v, %v, want %+v", got, err, written)
		}
		if !slices.Equal(got.Refs(), refs) {
			t.Errorf("got the references %v", got.Refs())
		}
	}
	requireManagers(t, read(t, inventoryRef(ns)), kube.FieldManager)
}

func inventoryRef(ns string) kube.Ref {
	return kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: ns, Name: kube.InventoryName}
}

// TestInventoryRefused: a record that can't be understood is an error, never an empty record.
func TestInventoryRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ record, want string }{
		"of a newer pwdeploy": {`{"version": 2, "objects": []}`, "has version 2: it was written by a newer pwdeploy"},
		"damaged":             {`{"version": 1, "obj`, "is damaged"},
		"empty":               {"", "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: kube.InventoryName}, Data: map[string][]byte{"inventory.json": []byte(test.record)}}
			if _, err := adminClient(t).CoreV1().Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			got, err := connect(t, nil).ReadInventory(t.Context(), ns)
			if got != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), ns+"/"+kube.InventoryName) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestCheckAccess(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	user := limitedUser(t, ns,
		[]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "patch"}}},
		[]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}}})
	var traffic requests
	limited, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: user, Wrap: traffic.wrap})
	if err != nil {
		t.Fatal(err)
	}
	may := slices.Concat(
		accesses(t, limited, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, ns, "get", "create", "patch"),
		accesses(t, limited, kube.NodeKind, "", "list"),
	)
	eventually(t, "the user's roles are known", func() bool { return limited.CheckAccess(t.Context(), may) == nil })

	wanted := slices.Concat(may,
		accesses(t, limited, kube.DeploymentKind, ns, "get", "create"),
		accesses(t, limited, kube.DeploymentKind, ns, "create"), // asked for twice, told once
		accesses(t, limited, kube.IngressClassKind, ns, "create"),
		accesses(t, limited, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, "default", "create"),
	)
	err = limited.CheckAccess(t.Context(), wanted)
	var denied *kube.DeniedError
	if !errors.As(err, &denied) || denied.Hint() == "" {
		t.Fatalf("got %v", err)
	}
	want := fmt.Sprintf("not permitted: get deployments.apps in %s, create deployments.apps in %s, create ingressclasses.networking.k8s.io, create configmaps in default", ns, ns)
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if writes := traffic.writes(); len(writes) > 0 {
		t.Errorf("to ask is not to change: %v", writes)
	}
}

// TestCheckAccessAdministrator: one question is enough for somebody who may do everything.
func TestCheckAccessAdministrator(t *testing.T) {
	t.Parallel()
	var traffic requests
	client := connect(t, traffic.wrap)
	wanted := accesses(t, client, kube.DeploymentKind, "default", "get", "create", "delete")
	before := traffic.count()
	if err := client.CheckAccess(t.Context(), wanted); err != nil {
		t.Error(err)
	}
	if n := traffic.count() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.CheckAccess(cancelled, wanted); !errors.Is(err, context.Canceled) {
		t.Errorf("when interrupted: got %v", err)
	}
}

func accesses(t *testing.T, c *kube.Client, kind schema.GroupVersionKind, namespace string, verbs ...string) []kube.Access {
	t.Helper()
	out, err := c.AccessTo(kind, namespace, verbs...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
