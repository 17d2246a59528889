package integration

import (
	"errors"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// merge changes an object in the name of somebody else.
func merge(t *testing.T, ref kube.Ref, manager, patch string) {
	t.Helper()
	r := adminClient(t).Resource(t, ref.GroupVersionKind, ref.Namespace)
	if _, err := r.Patch(t.Context(), ref.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager}); err != nil {
		t.Fatal(err)
	}
}

// scale sets the number of a Deployment's pods as an autoscaler does.
func scale(t *testing.T, ref kube.Ref, n int32) {
	t.Helper()
	s := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name}, Spec: autoscalingv1.ScaleSpec{Replicas: n}}
	if _, err := adminClient(t).AppsV1().Deployments(ref.Namespace).UpdateScale(t.Context(), ref.Name, s, metav1.UpdateOptions{FieldManager: "autoscaler"}); err != nil {
		t.Fatal(err)
	}
}

// twoKeys is a ConfigMap with two fields to disagree about.
func twoKeys(t *testing.T, ns, a, b string) *unstructured.Unstructured {
	t.Helper()
	o := owned(t, ns, configMap("settings", "a", a))
	if err := unstructured.SetNestedField(o.Object, b, "data", "b"); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestTry says what would come of applying, and changes nothing.
func TestTry(t *testing.T) {
	t.Parallel()
	deployment := func(selector, image string) string {
		return `{apiVersion: apps/v1, kind: Deployment, metadata: {name: settings}, spec: {replicas: 0, selector: {matchLabels: {app: ` + selector + `}},
  template: {metadata: {labels: {app: ` + selector + `}}, spec: {containers: [{name: a, image: ` + image + `}]}}}}`
	}
	for name, test := range map[string]struct {
		there, wanted string // YAML of ours; without what is there, nothing is
		edit          string // a merge patch of somebody else's
		foreign       bool
		action        kube.Action
		conflicts     []string
		immutable     string
		invalid       string
	}{
		"it is not there": {wanted: configMap("settings", "a", "1"), action: kube.Created},
		"it is the same":  {there: configMap("settings", "a", "1"), wanted: configMap("settings", "a", "1"), action: kube.Unchanged},
		"it is the same beside what others added": {there: configMap("settings", "a", "1"), edit: `{"data": {"b": "2"}}`,
			wanted: configMap("settings", "a", "1"), action: kube.Unchanged},
		"another value": {there: configMap("settings", "a", "1"), wanted: configMap("settings", "a", "2"), action: kube.Configured},
		"a value that others set": {there: configMap("settings", "a", "1"), edit: `{"data": {"a": "theirs"}}`, wanted: configMap("settings", "a", "1"),
			action: kube.Configured, conflicts: []string{".data.a: 1, theirs"}},
		"somebody else's":               {there: configMap("settings", "a", "1"), foreign: true, wanted: configMap("settings", "a", "2"), action: kube.Configured},
		"a field that can't be changed": {there: deployment("one", "a"), wanted: deployment("two", "a"), action: kube.Configured, immutable: "spec.selector"},
		"a field that is never valid": {there: deployment("one", "a"), wanted: strings.Replace(deployment("one", "a"), "replicas: 0", "replicas: -1", 1),
			action: kube.Configured, invalid: "spec.replicas"},
		"a conflict, and a field that can't be changed": {there: deployment("one", "a"), edit: `{"spec": {"replicas": 3, "paused": true}}`, wanted: deployment("two", "a"),
			action: kube.Configured, conflicts: []string{".spec.replicas: 0, 3"}, immutable: "spec.selector"},
		"a Secret's value": {there: `{apiVersion: v1, kind: Secret, metadata: {name: settings}, data: {a: b25l}}`, edit: `{"data": {"a": "dHdv"}}`,
			wanted: `{apiVersion: v1, kind: Secret, metadata: {name: settings}, data: {a: b25l}}`, action: kube.Configured, conflicts: []string{".data.a: (hidden), (hidden)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil)
			client := connect(t, nil)
			wanted := owned(t, ns, test.wanted)
			switch {
			case test.foreign:
				create(t, object(t, ns, test.there))
			case test.there != "":
				if _, err := client.Apply(t.Context(), owned(t, ns, test.there), ns); err != nil {
					t.Fatal(err)
				}
			}
			if test.edit != "" {
				merge(t, kube.RefOf(wanted), someoneElse, test.edit)
			}
			before := version(t, kube.RefOf(wanted))
			trial, err := client.Try(t.Context(), wanted, kube.Terms{Instance: ns})
			if err != nil {
				t.Fatal(err)
			}
			if trial.Action != test.action || (trial.Foreign != nil) != test.foreign {
				t.Errorf("got %s, foreign: %v", trial.Action, trial.Foreign)
			}
			requireConflicts(t, trial.Conflicts, test.conflicts...)
			requireProblem(t, "immutable", trial.Immutable, test.immutable)
			requireProblem(t, "invalid", trial.Invalid, test.invalid)
			if after := version(t, kube.RefOf(wanted)); after != before {
				t.Errorf("the generation or the fields changed from %q to %q", before, after)
			}
		})
	}
}

// version is what an object is by its owners' doing; empty if it is not there.
func version(t *testing.T, ref kube.Ref) string {
	t.Helper()
	o := read(t, ref)
	if o == nil {
		return ""
	}
	unstructured.RemoveNestedField(o.Object, "metadata", "annotations") // a controller numbers rollouts there
	return string(o.GetUID()) + intent(t, o)
}

func requireConflicts(t *testing.T, got []kube.Conflict, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d conflicts, not %d: %+v", len(got), len(want), got)
		return
	}
	for i, c := range got {
		if text := c.Field + ": " + c.Ours + ", " + c.Theirs; text != want[i] || c.Manager != someoneElse || c.Since == nil {
			t.Errorf("got %+v, want %s of %s", c, want[i], someoneElse)
		}
	}
}

func requireProblem(t *testing.T, what string, got []kube.FieldProblem, field string) {
	t.Helper()
	if field == "" && len(got) > 0 || field != "" && (len(got) != 1 || got[0].Field != field || got[0].Message == "") {
		t.Errorf("%s: got %+v, want the field %q", what, got, field)
	}
}

// TestCarryTakesOver forces what was seen, and nothing that came after.
func TestCarryTakesOver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		since    string // a merge patch of somebody else's between the trial and the carrying out
		takeOver bool
		want     string // the values in the end
		refused  []string
	}{
		"just the field that was seen":                {takeOver: true, want: "1 2"},
		"beside a change of a field that is not ours": {takeOver: true, since: `{"data": {"c": "3"}}`, want: "1 2"},
		"not without being told":                      {want: "theirs 2", refused: []string{".data.a: 1, theirs"}},
		"not one field more": {takeOver: true, since: `{"data": {"b": "theirs"}}`, want: "theirs theirs",
			refused: []string{".data.a: 1, theirs", ".data.b: 2, theirs"}},
		"not with another value than the one shown": {takeOver: true, since: `{"data": {"a": "newer"}}`, want: "newer 2", refused: []string{".data.a: 1, newer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil)
			client := connect(t, nil)
			wanted := twoKeys(t, ns, "1", "2")
			if _, err := client.Apply(t.Context(), wanted, ns); err != nil {
				t.Fatal(err)
			}
			merge(t, kube.RefOf(wanted), someoneElse, `{"data": {"a": "theirs"}}`)
			trial, err := client.Try(t.Context(), wanted, kube.Terms{Instance: ns})
			if err != nil {
				t.Fatal(err)
			}
			requireConflicts(t, trial.Conflicts, ".data.a: 1, theirs")
			if trial.TakeOver = test.takeOver; test.since != "" {
				merge(t, kube.RefOf(wanted), someoneElse, test.since)
			}
			_, err = client.Carry(t.Context(), trial)
			var conflict *kube.ConflictError
			if errors.As(err, &conflict) {
				requireConflicts(t, conflict.Conflicts, test.refused...)
			} else if err != nil || test.refused != nil {
				t.Errorf("got %v, want a refusal of %v", err, test.refused)
			}
			data, _, _ := unstructured.NestedStringMap(read(t, kube.RefOf(wanted)).Object, "data")
			if got := data["a"] + " " + data["b"]; got != test.want {
				t.Errorf("the values are %s, not %s", got, test.want)
			}
		})
	}
}

// TestCarryMadeAnew: what somebody else put in the place of an object since is not changed.
func TestCarryMadeAnew(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]bool{"where there was one of ours": true, "where there was none": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil)
			client := connect(t, nil)
			wanted := owned(t, ns, configMap("settings", "a", "1"))
			if there {
				if _, err := client.Apply(t.Context(), owned(t, ns, configMap("settings", "a", "0")), ns); err != nil {
					t.Fatal(err)
				}
			}
			trial, err := client.Try(t.Context(), wanted, kube.Terms{Instance: ns})
			if err != nil {
				t.Fatal(err)
			}
			if there {
				remove(t, kube.RefOf(wanted))
			}
			create(t, object(t, ns, configMap("settings", "a", "theirs")))
			before := version(t, kube.RefOf(wanted))
			var foreign *kube.ForeignError
			if _, err := client.Carry(t.Context(), trial); !errors.As(err, &foreign) {
				t.Errorf("got %v", err)
			}
			if version(t, kube.RefOf(wanted)) != before {
				t.Error("it was changed")
			}
		})
	}
}

// TestKeep leaves a field to whoever sets it, at every moment.
func TestKeep(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	wanted := owned(t, ns, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: app}, spec: {replicas: 0, selector: {matchLabels: {app: a}},
  template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: a}]}}}}`)
	terms := kube.Terms{Instance: ns, Keep: [][]string{{"spec", "replicas"}}}
	carry := func(between func()) kube.Action {
		t.Helper()
		trial, err := client.Try(t.Context(), wanted, terms)
		if err != nil {
			t.Fatal(err)
		}
		requireConflicts(t, trial.Conflicts)
		between()
		change, err := client.Carry(t.Context(), trial)
		if err != nil {
			t.Fatal(err)
		}
		return change.Action
	}
	replicas := func(want int64) {
		t.Helper()
		if n, _, _ := unstructured.NestedInt64(read(t, kube.RefOf(wanted)).Object, "spec", "replicas"); n != want {
			t.Errorf("there are %d pods, not %d", n, want)
		}
	}
	nothing := func() {}
	if got := carry(nothing); got != kube.Created {
		t.Errorf("the first time: %s", got)
	}
	replicas(0)
	scale(t, kube.RefOf(wanted), 3)
	if got := carry(nothing); got == kube.Created {
		t.Errorf("scaled: %s", got)
	}
	replicas(3)
	wanted.SetAnnotations(map[string]string{"a": "b"})
	carry(func() { scale(t, kube.RefOf(wanted), 1) })
	replicas(1)
	if got := carry(nothing); got != kube.Unchanged {
		t.Errorf("nothing to do: %s", got)
	}
}

// TestPruneKindGone: an object whose kind the cluster no longer knows went with it.
func TestPruneKindGone(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	ref := kube.RefOf(object(t, ns, "{apiVersion: example.test/v1, kind: Nothing, metadata: {name: x}}"))
	changes, err := connect(t, nil).DeleteOwned(t.Context(), []kube.Ref{ref}, ns)
	if err != nil || len(changes) != 1 || changes[0].Action != kube.Absent {
		t.Errorf("got %+v, %v", changes, err)
	}
}
