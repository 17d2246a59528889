package stack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// RefusedError says what of the app and the releases is not applied as things are. It holds all that is in the way, so that
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
	Lost     string              `json:"lost,omitempty"` // what making it anew costs
	Kept     bool                `json:"kept,omitempty"` // it is never deleted, for the sake of its data
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
		parts = append(parts, o.Object+" can't be changed in place:"+problems(o.Problems)+"\n  made anew, "+o.Lost)
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
		parts = append(parts, "--recreate deletes such an object and makes it anew; volume claims and their data stay. Or undo that change")
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
	if len(e.Foreign)+len(e.Invalid) > 0 || slices.ContainsFunc(e.Immutable, func(o InvalidObject) bool { return o.Kept }) {
		return ""
	}
	var parts []string
	if n := len(e.Immutable); n > 0 {
		parts = append(parts, fmt.Sprintf("Delete %s and make it anew?", counted(n, e.Immutable[0].Object, "each of these %d objects")))
	}
	if n := len(e.Conflicts); n > 0 {
		parts = append(parts, fmt.Sprintf("Set %s to our value?", counted(n, "this field", "these %d fields")))
	}
	return strings.Join(parts, " ")
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
