package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// RefusedError says what of the app is not applied as things are. It holds all that is in the way, so that
// nobody has to run up once more to learn of the next. Nothing was changed.
type RefusedError struct {
	Foreign   []*kube.ForeignError `json:"foreign,omitempty"`
	Invalid   []InvalidObject      `json:"invalid,omitempty"`
	Immutable []InvalidObject      `json:"immutable,omitempty"` // made anew they would be taken
	Conflicts []kube.Conflict      `json:"conflicts,omitempty"`

	// Autoscaled says that the number of pods is among the conflicts, and that an autoscaler or somebody who
	// scales by hand has set it.
	Autoscaled bool `json:"autoscaled,omitempty"`
}

// InvalidObject is an object that the API server does not take as it should be.
type InvalidObject struct {
	Object   string              `json:"object"`
	Problems []kube.FieldProblem `json:"problems"`
}

func (e *RefusedError) Error() string {
	var parts []string
	for _, f := range e.Foreign {
		parts = append(parts, f.Error())
	}
	for _, o := range e.Invalid {
		parts = append(parts, o.Object+" is not valid:"+problems(o.Problems))
	}
	for _, o := range e.Immutable {
		parts = append(parts, o.Object+" can't be changed in place:"+problems(o.Problems))
	}
	if len(e.Conflicts) > 0 {
		parts = append(parts, (&kube.ConflictError{Conflicts: e.Conflicts}).Error())
	}
	return strings.Join(parts, "\n")
}

// problems are told one a line below their object.
func problems(all []kube.FieldProblem) string {
	var b strings.Builder
	for _, p := range all {
		b.WriteString("\n  ")
		if p.Field != "" {
			b.WriteString(p.Field + ": ")
		}
		b.WriteString(p.Message)
	}
	return b.String()
}

// Hint says what to do about each.
func (e *RefusedError) Hint() string {
	var parts []string
	for _, f := range e.Foreign {
		if hint := f.Hint(); !slices.Contains(parts, hint) {
			parts = append(parts, hint)
		}
	}
	if len(e.Invalid) > 0 {
		parts = append(parts, "the cluster takes it in no way: this version of Kubernetes, or a policy of the cluster's, does not allow it")
	}
	if len(e.Immutable) > 0 {
		parts = append(parts, "undo that change, or delete the object with kubectl and run pwdeploy up again: what it serves is away until then, volumes stay")
	}
	if e.Autoscaled {
		parts = append(parts, "--keep-replicas leaves the number of pods to whoever scales them")
	}
	if len(e.Conflicts) > 0 {
		parts = append(parts, "--take-over sets just these fields to our values; or undo the change, or set the same value in pwdeploy.yaml")
	}
	return strings.Join(parts, "\n")
}

// Ask is the question that a person can answer with yes to go on, or empty if none can.
func (e *RefusedError) Ask() string {
	if len(e.Foreign)+len(e.Invalid)+len(e.Immutable) > 0 {
		return ""
	}
	if n := len(e.Conflicts); n > 0 {
		return fmt.Sprintf("Set %s to our value?", counted(n, "this field", "these %d fields"))
	}
	return ""
}

// counted words a number of things.
func counted(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(more, n)
}

// empty reports whether nothing is in the way.
func (e *RefusedError) empty() bool {
	return len(e.Foreign)+len(e.Invalid)+len(e.Immutable)+len(e.Conflicts) == 0
}
