package integration

import (
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func TestApply(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	text := func(value string) *unstructured.Unstructured {
		return owned(t, ns, configMap("settings", "key", value))
	}
	var version string
	for _, step := range []struct {
		name   string
		value  string
		action kube.Action
	}{
		{"it is not there", "one", kube.Created},
		{"it is as it should be", "one", kube.Unchanged},
		{"it has another value", "two", kube.Configured},
		{"and then the same again", "two", kube.Unchanged},
	} {
		change, err := client.Apply(t.Context(), text(step.value), ns)
		if err != nil || change.Action != step.action {
			t.Fatalf("%s: got %+v, %v", step.name, change, err)
		}
		stored := read(t, change.Ref)
		if got, _, _ := unstructured.NestedString(stored.Object, "data", "key"); got != step.value {
			t.Errorf("%s: %q is stored", step.name, got)
		}
		if same := stored.GetResourceVersion() == version; same != (step.action == kube.Unchanged) {
			t.Errorf("%s: the resource version was %s and is %s", step.name, version, stored.GetResourceVersion())
		}
		version = stored.GetResourceVersion()
		requireManagers(t, stored, kube.FieldManager)
	}
}

// requireManagers checks who owns the fields of an object, statuses apart.
func requireManagers(t *testing.T, o *unstructured.Unstructured, want ...string) {
	t.Helper()
	var got []string
	for _, m := range o.GetManagedFields() {
		if m.Subresource == "" && !slices.Contains(got, m.Manager) {
			got = append(got, m.Manager)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the fields of %s are managed by %v, not by %v", kube.RefOf(o), got, want)
	}
}

// TestApplyRefused: what belongs to somebody else is neither changed nor taken over.
func TestApplyRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		labels map[string]string
		edit   string // a value that somebody else sets on our object, by server-side apply
		check  func(t *testing.T, err error)
	}{
		"not made by pwdeploy": {check: foreign("")},
		"made by Helm":         {labels: map[string]string{kube.ManagedByLabel: "Helm"}, check: foreign("Helm")},
		"of another instance":  {labels: map[string]string{kube.ManagedByLabel: kube.ManagedBy, kube.InstanceLabel: "other"}, check: foreign(kube.ManagedBy)},
		"a field that somebody else has changed": {edit: "theirs", check: func(t *testing.T, err error) {
			var conflict *kube.ConflictError
			if !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 {
				t.Fatalf("got %v", err)
			}
			if c := conflict.Conflicts[0]; c.Field != ".data.key" || c.Manager != someoneElse || c.Ours != "wanted" || c.Theirs != "theirs" || c.Since == nil {
				t.Errorf("got %+v", c)
			}
			if conflict.Hint() == "" {
				t.Error("there is no hint")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil)
			client := connect(t, nil)
			if test.edit == "" {
				o := object(t, ns, configMap("settings", "key", "theirs"))
				o.SetLabels(test.labels)
				create(t, o)
			} else {
				edit(t, client, owned(t, ns, configMap("settings", "key", "ours")), configMap("settings", "key", test.edit))
			}
			before := takeSnapshot(t, ns)
			_, err := client.Apply(t.Context(), owned(t, ns, configMap("settings", "key", "wanted")), ns)
			test.check(t, err)
			requireUntouched(t, before, takeSnapshot(t, ns))
		})
	}
}

// edit applies ours as pwdeploy, and then theirs over it as somebody else who takes the fields by force.
func edit(t *testing.T, client *kube.Client, ours *unstructured.Unstructured, theirs string) {
	t.Helper()
	if _, err := client.Apply(t.Context(), ours, ours.GetNamespace()); err != nil {
		t.Fatal(err)
	}
	r := adminClient(t).Resource(t, ours.GroupVersionKind(), ours.GetNamespace())
	if _, err := r.Apply(t.Context(), ours.GetName(), object(t, ours.GetNamespace(), theirs), metav1.ApplyOptions{FieldManager: someoneElse, Force: true}); err != nil {
		t.Fatal(err)
	}
}

func foreign(managedBy string) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var foreign *kube.ForeignError
		if !errors.As(err, &foreign) || foreign.ManagedBy != managedBy || foreign.Ref.Name != "settings" || foreign.Hint() == "" {
			t.Errorf("got %v", err)
		}
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	before := takeSnapshot(t, ns)
	if err := client.DryRun(t.Context(), &kube.Trial{Object: owned(t, ns, configMap("settings", "key", "value"))}); err != nil {
		t.Error(err)
	}
	if err := client.DryRun(t.Context(), &kube.Trial{Object: owned(t, ns, configMap("Not_A_Name", "key", "value"))}); err == nil || !strings.Contains(err.Error(), "ConfigMap "+ns+"/Not_A_Name") {
		t.Errorf("an object that the server refuses: got %v", err)
	}
	requireUntouched(t, before, takeSnapshot(t, ns))
}

// TestApplyAll: every object is tried, whatever becomes of the others.
func TestApplyAll(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	create(t, object(t, ns, configMap("second", "key", "theirs")))
	objs := []*unstructured.Unstructured{
		owned(t, ns, configMap("first", "key", "ours")), owned(t, ns, configMap("second", "key", "ours")), owned(t, ns, configMap("third", "key", "ours")),
	}
	changes, err := client.ApplyAll(t.Context(), objs, ns)
	var foreign *kube.ForeignError
	if !errors.As(err, &foreign) || foreign.Ref.Name != "second" {
		t.Errorf("got %v", err)
	}
	for i, want := range []kube.Change{{Ref: kube.RefOf(objs[0]), Action: kube.Created}, {}, {Ref: kube.RefOf(objs[2]), Action: kube.Created}} {
		if changes[i] != want {
			t.Errorf("the change %d is %+v", i, changes[i])
		}
	}
	unknown := object(t, ns, "{apiVersion: example.test/v1, kind: Nothing, metadata: {name: x}}")
	if _, err := client.ApplyAll(t.Context(), []*unstructured.Unstructured{unknown}, ns); err == nil || !strings.Contains(err.Error(), "the cluster does not know this kind") {
		t.Errorf("an unknown kind: got %v", err)
	}
}

// TestCreate keeps what is there: a password that was made once must never be replaced.
func TestCreate(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	for i, want := range []kube.Action{kube.Created, kube.Unchanged} {
		value := []string{"first", "second"}[i]
		made, action, err := client.Create(t.Context(), owned(t, ns, configMap("once", "key", value)))
		if err != nil || action != want {
			t.Fatalf("got %s, %v", action, err)
		}
		if got, _, _ := unstructured.NestedString(made.Object, "data", "key"); got != "first" {
			t.Errorf("got the value %q", got)
		}
	}
}
