package integration

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func TestDeleteOwned(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	mark := func(name, managedBy, instance string) kube.Ref {
		o := object(t, ns, configMap(name, "key", "value"))
		o.SetLabels(map[string]string{kube.ManagedByLabel: managedBy, kube.InstanceLabel: instance})
		return kube.RefOf(create(t, o))
	}
	refs := []kube.Ref{
		mark("ours", kube.ManagedBy, ns),
		mark("of-another-instance", kube.ManagedBy, "other"),
		mark("of-helm", "Helm", ns),
		kube.RefOf(create(t, object(t, ns, configMap("unmarked", "key", "value")))),
		kube.RefOf(object(t, ns, configMap("never-made", "key", "value"))),
	}
	before := takeSnapshot(t, ns)
	changes, err := client.DeleteOwned(t.Context(), refs, ns)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []kube.Action{kube.Deleted, kube.Unchanged, kube.Unchanged, kube.Unchanged, kube.Absent} {
		if changes[i] != (kube.Change{Ref: refs[i], Action: want}) {
			t.Errorf("got %+v, want %s", changes[i], want)
		}
	}
	if err := client.WaitGone(within(t, 2*time.Minute), refs[:1], nil); err != nil {
		t.Error(err)
	}
	got := differences(before, takeSnapshot(t, ns))
	if want := []string{refs[0].String() + " is gone"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestDeleteOwnedRecreated: between the look at an object and its deletion somebody else puts another one under the
// same name. It has to stay.
func TestDeleteOwnedRecreated(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	ref := kube.RefOf(create(t, owned(t, ns, configMap("settings", "key", "ours"))))
	var once sync.Once
	client := connect(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodDelete {
				once.Do(func() { recreate(t, ref) })
			}
			return next.RoundTrip(r)
		})
	})
	changes, err := client.DeleteOwned(t.Context(), []kube.Ref{ref}, ns)
	if err != nil || changes[0].Action != kube.Unchanged {
		t.Errorf("got %+v, %v", changes, err)
	}
	if o := read(t, ref); o == nil || o.GetDeletionTimestamp() != nil {
		t.Error("somebody else's object was deleted")
	}
}

func recreate(t *testing.T, ref kube.Ref) {
	r := adminClient(t).Resource(t, ref.GroupVersionKind, ref.Namespace)
	if err := r.Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := r.Create(t.Context(), object(t, ref.Namespace, configMap(ref.Name, "key", "theirs")), metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWaitGone says what holds a deletion up, and ends when it ends.
func TestWaitGone(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	var traffic requests
	client := connect(t, traffic.wrap)
	const finalizer = "example.test/held"
	held := owned(t, ns, configMap("held", "key", "value"))
	held.SetFinalizers([]string{finalizer})
	ref := kube.RefOf(create(t, held))
	if _, err := client.DeleteOwned(t.Context(), []kube.Ref{ref}, ns); err != nil {
		t.Fatal(err)
	}

	before := traffic.count()
	ctx, enough := context.WithCancel(within(t, 2*time.Minute))
	err := client.WaitGone(ctx, []kube.Ref{ref}, func(kube.Ref, string) { time.AfterFunc(1500*time.Millisecond, enough) })
	var there *kube.StillThereError
	if !errors.As(err, &there) || there.Ref != ref || !strings.Contains(err.Error(), finalizer) || there.Hint() == "" {
		t.Errorf("got %v", err)
	}
	if n := traffic.count() - before; n > 4 {
		t.Errorf("%d requests for a wait in which nothing happened: %v", n, traffic.all()[before:])
	}

	told := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- client.WaitGone(within(t, 2*time.Minute), []kube.Ref{ref}, func(_ kube.Ref, message string) { told <- message })
	}()
	if message := <-told; !strings.Contains(message, finalizer) {
		t.Errorf("the progress is %q", message)
	}
	unhold(t, ref)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if read(t, ref) != nil {
		t.Error("it is still there")
	}
}

// TestWaitGoneNamespace: a namespace that does not go says what in it is held.
func TestWaitGoneNamespace(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	held := object(t, ns, configMap("held", "key", "value"))
	held.SetFinalizers([]string{"example.test/held"})
	inside := kube.RefOf(create(t, held))
	t.Cleanup(func() { unhold(t, inside) })
	ref := kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: ns}
	if _, err := client.Delete(t.Context(), ref, ""); err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithCancel(within(t, 2*time.Minute))
	err := client.WaitGone(ctx, []kube.Ref{ref}, func(_ kube.Ref, message string) {
		if strings.Contains(message, "configmaps") {
			enough()
		}
	})
	var there *kube.StillThereError
	if !errors.As(err, &there) || !strings.Contains(there.Message, "configmaps") {
		t.Errorf("got %v", err)
	}
}

// TestRemaining: what a namespace holds that nobody else will take away.
func TestRemaining(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	if got, err := client.Remaining(t.Context(), ns); err != nil || len(got) > 0 {
		t.Fatalf("an empty namespace: got %v, %v", got, err)
	}
	theirs := create(t, object(t, ns, configMap("theirs", "key", "value")))
	create(t, object(t, ns, "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a-controllers}}"))
	dependent := object(t, ns, configMap("dependent", "key", "value"))
	dependent.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "theirs", UID: theirs.GetUID()}})
	create(t, dependent)
	leaving := object(t, ns, configMap("leaving", "key", "value"))
	leaving.SetFinalizers([]string{"example.test/held"})
	leavingRef := kube.RefOf(create(t, leaving))
	t.Cleanup(func() { unhold(t, leavingRef) })
	if _, err := client.Delete(t.Context(), leavingRef, ""); err != nil {
		t.Fatal(err)
	}
	service := create(t, object(t, ns, "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}], selector: {app: web}}}"))
	got, err := client.Remaining(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	want := []*unstructured.Unstructured{theirs, service}
	slices.SortFunc(got, func(a, b kube.Ref) int { return strings.Compare(a.String(), b.String()) })
	if !slices.Equal(got, kube.RefsOf(want)) {
		t.Errorf("got %v, want %v", got, kube.RefsOf(want))
	}
}
