package kube

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Refused is the trial of an object that the server does not take as a change, whoever asked: it says whether it would
// be taken if it were made anew.
func (c *Client) Refused(ctx context.Context, obj *unstructured.Unstructured, refusal error) (*Trial, error) {
	live, err := c.Find(ctx, RefOf(obj))
	if err != nil {
		return nil, err
	}
	t := &Trial{Object: obj, Live: live, Action: Configured, wanted: obj}
	if err := c.askAnew(ctx, t, refusal); err != nil {
		return nil, err
	}
	if len(t.Immutable) > 0 {
		t.nameFields()
	}
	return t, nil
}

// fixedStatefulSetFields can't be changed in place. The API server says which can, and not which was.
var fixedStatefulSetFields = []string{"podManagementPolicy", "selector", "serviceName", "volumeClaimTemplates"}

// nameFields says which fields of a StatefulSet are meant.
func (t *Trial) nameFields() {
	if t.Live == nil || RefOf(t.Object).GroupKind() != StatefulSetKind.GroupKind() {
		return
	}
	wanted, live := canonical(t.Object), canonical(t.Live)
	var named []FieldProblem
	for _, field := range fixedStatefulSetFields {
		to, from := nested(wanted, "spec", field), nested(live, "spec", field)
		removed := field == "volumeClaimTemplates" && isEmpty(to) && !isEmpty(from)
		if removed || !covers(to, from) {
			named = append(named, FieldProblem{Field: "spec." + field, Message: "field is immutable"})
		}
	}
	if len(named) > 0 {
		t.Immutable = named
	}
}
