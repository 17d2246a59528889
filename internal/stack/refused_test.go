package stack

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// An immutable field is refused with everything else that is in the way, and no yes gets past it.
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
	if refused.empty() || refused.Ask() != "" {
		t.Errorf("empty: %v, question: %q", refused.empty(), refused.Ask())
	}
	want := "Deployment pw-crud/pw-crud can't be changed in place:\n  spec.selector: field is immutable\n"
	if got := refused.Error(); !strings.HasPrefix(got, want) || !strings.Contains(got, ".spec.replicas") {
		t.Errorf("error %q", got)
	}
	if hint := refused.Hint(); !strings.Contains(hint, "delete the object") {
		t.Errorf("hint %q", hint)
	}
}
