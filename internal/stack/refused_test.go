package stack

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// An immutable field is refused with everything else that is in the way, and asked about, with what it costs. A claim
// is never deleted, whatever anybody says.
func TestRefusedImmutable(t *testing.T) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kube.DeploymentKind)
	obj.SetNamespace("pw-crud")
	obj.SetName("pw-crud")
	refused := &RefusedError{}
	refused.add(&kube.Trial{
		Object:    obj,
		Immutable: []kube.FieldProblem{{Field: "spec.selector", Message: "field is immutable"}},
		Conflicts: []kube.Conflict{{Field: ".spec.replicas"}},
	}, UpOptions{})
	if refused.empty() || refused.Ask() != "Delete Deployment pw-crud/pw-crud and make it anew? Set this field to our value?" {
		t.Errorf("empty: %v, question: %q", refused.empty(), refused.Ask())
	}
	want := "Deployment pw-crud/pw-crud can't be changed in place:\n  spec.selector: field is immutable\n  made anew, it is away until its new pods are ready\n"
	if got := refused.Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, ".spec.replicas") {
		t.Errorf("error %q", got)
	}
	if hint := refused.Hint(); !strings.Contains(hint, "--recreate") {
		t.Errorf("hint %q", hint)
	}

	anew := func(kind schema.GroupVersionKind, o UpOptions) (*RefusedError, bool) {
		obj.SetGroupVersionKind(kind)
		e, trial := &RefusedError{}, &kube.Trial{Object: obj, Immutable: refused.Immutable[0].Problems, Conflicts: refused.Conflicts}
		e.add(trial, o)
		return e, trial.Recreate
	}
	for _, o := range []UpOptions{{Recreate: true}, {Agreed: refused}} {
		if e, ok := anew(kube.DeploymentKind, o); !ok || !e.empty() {
			t.Errorf("%+v: not to be made anew, or in the way: %v", o, e)
		}
	}
	if e, ok := anew(kube.ServiceKind, UpOptions{Agreed: refused}); ok || e.empty() {
		t.Error("what nobody was told of is made anew")
	}
	if e, ok := anew(kube.PVCKind, UpOptions{Recreate: true}); ok || e.empty() || e.Ask() != "" {
		t.Error("a claim is deleted")
	}
}
