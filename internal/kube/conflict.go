package kube

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Conflict is a field that pwdeploy wants to set and that another field manager has set to another value.
// Server-side apply reports it (KEP-555).
type Conflict struct {
	Ref         Ref        `json:"-"`
	Object      string     `json:"object"`
	Field       string     `json:"field"`  // as a path: .spec.replicas
	Ours        string     `json:"ours"`   // what pwdeploy wants; Hidden in Secrets
	Theirs      string     `json:"theirs"` // what is there
	Manager     string     `json:"manager,omitempty"`
	Subresource string     `json:"subresource,omitempty"` // through which it was set: scale
	Since       *time.Time `json:"since,omitempty"`       // when the manager last changed any of its fields; nil: unknown
}

// Scaled reports whether it is the number of pods, set the way autoscalers and kubectl scale do.
func (c Conflict) Scaled() bool { return c.Subresource == scaleSubresource }

// Autoscaled reports whether it is the number of pods, set by a HorizontalPodAutoscaler.
func (c Conflict) Autoscaled() bool { return c.Scaled() && c.Manager == controllerManager }

// Change is the conflict in words: what there is instead of ours, by whom and since when.
func (c Conflict) Change() string {
	switch c.Theirs {
	case none:
		return fmt.Sprintf("%s was removed, it was %s", c.Field, shorten(c.Ours))
	case Hidden:
		return fmt.Sprintf("%s has another value%s", c.Field, c.by())
	}
	return fmt.Sprintf("%s is %s instead of %s%s", c.Field, shorten(c.Theirs), shorten(c.Ours), c.by())
}

func (c Conflict) by() string {
	switch {
	case c.Manager == "":
		return ""
	case c.Since == nil:
		return ", set by " + c.who()
	}
	return fmt.Sprintf(", set by %s on %s", c.who(), c.since())
}

// Same reports whether both are the same dispute: nothing that a person was told of one is wrong of the other.
func (c Conflict) Same(o Conflict) bool {
	return c.Ref.Same(o.Ref) && c.Field == o.Field && c.Ours == o.Ours && c.Theirs == o.Theirs && c.Manager == o.Manager
}

// who names the manager, and through what it works where that is not the object itself.
func (c Conflict) who() string {
	switch {
	case c.Manager == "":
		return "unknown"
	case c.Subresource != "":
		return fmt.Sprintf("%s (%s)", c.Manager, c.Subresource)
	}
	return c.Manager
}

func (c Conflict) since() string {
	if c.Since == nil {
		return "unknown"
	}
	return c.Since.Local().Format(time.DateTime)
}

// ConflictError says which fields belong to somebody else. None of them was changed.
type ConflictError struct{ Conflicts []Conflict }

func (e *ConflictError) Error() string {
	things := "a field was"
	if len(e.Conflicts) > 1 {
		things = fmt.Sprintf("%d fields were", len(e.Conflicts))
	}
	return things + " set by somebody else:\n" + ConflictTable(e.Conflicts)
}

// Hint says what to do.
func (e *ConflictError) Hint() string {
	return "undo that change, or set the same value in pwdeploy.yaml; nothing was forced"
}

// shownValue is how much of a value a table shows, in characters.
const shownValue = 40

// ConflictTable shows conflicts as text, one a line under a heading.
func ConflictTable(conflicts []Conflict) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OBJECT\tFIELD\tOURS\tTHEIRS\tWHO\tSINCE")
	for _, c := range conflicts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Ref, c.Field, shorten(c.Ours), shorten(c.Theirs), c.who(), c.since())
	}
	_ = w.Flush() // a buffer takes all
	return strings.TrimSuffix(out.String(), "\n")
}

// shorten makes a value fit a line of a table.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > shownValue {
		return string(r[:shownValue-1]) + "…"
	}
	return text
}

// conflictOf makes of the server's answer the fields in dispute, or nil if it is about something else. live is
// the object as it is there, which tells who has set them; it may be nil.
func conflictOf(obj, live *unstructured.Unstructured, err error) *ConflictError {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	e := &ConflictError{}
	for _, c := range status.Status().Details.Causes {
		if c.Type == metav1.CauseTypeFieldManagerConflict && !slices.ContainsFunc(e.Conflicts, func(o Conflict) bool { return o.Field == c.Field }) {
			e.Conflicts = append(e.Conflicts, disputes(obj, live, c.Field)...)
		}
	}
	if len(e.Conflicts) == 0 {
		return nil
	}
	return e
}

// disputes are all that have set a field: usually one.
func disputes(obj, live *unstructured.Unstructured, field string) []Conflict {
	ref := RefOf(obj)
	var out []Conflict
	if live != nil {
		for _, o := range ownersOf(live) {
			if o.applied() {
				continue
			}
			for path := range o.fields.All() {
				if path.String() != field {
					continue
				}
				out = append(out, Conflict{
					Ref: ref, Object: ref.String(), Field: field, Manager: o.manager, Subresource: o.subresource, Since: o.since,
					Ours: show(obj, field, valueAt(obj, path)), Theirs: show(obj, field, valueAt(live, path)),
				})
			}
		}
	}
	if len(out) == 0 {
		out = []Conflict{{Ref: ref, Object: ref.String(), Field: field, Ours: "unknown", Theirs: "unknown"}}
	}
	return out
}
