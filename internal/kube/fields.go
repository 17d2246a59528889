package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Hidden stands for a Secret's value, which is never shown.
const Hidden = "(hidden)"

// none stands for the value of a field that is not there.
const none = "(none)"

// controllerManager is the field manager of Kubernetes' own controllers.
const controllerManager = "kube-controller-manager"

// scaleSubresource is how autoscalers and kubectl scale set the number of pods.
const scaleSubresource = "scale"

// owner is one entry of an object's managedFields: who has set which fields, and when.
type owner struct {
	manager     string
	operation   metav1.ManagedFieldsOperationType
	subresource string
	since       *time.Time // of the entry's last change; nil if the server did not note it
	fields      *fieldpath.Set
}

// applied reports whether the entry is pwdeploy's own server-side apply.
func (o owner) applied() bool {
	return o.manager == FieldManager && o.operation == metav1.ManagedFieldsOperationApply && o.subresource == ""
}

// ownersOf reads an object's managedFields. An entry that can't be read is left out: it is only used to say
// who it was.
func ownersOf(obj *unstructured.Unstructured) []owner {
	var out []owner
	for _, m := range obj.GetManagedFields() {
		if m.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(m.FieldsV1.GetRawReader()); err != nil {
			continue
		}
		o := owner{manager: m.Manager, operation: m.Operation, subresource: m.Subresource, fields: set}
		if m.Time != nil {
			o.since = &m.Time.Time
		}
		out = append(out, o)
	}
	return out
}

// valueAt gives what an object has at a path, or nil.
func valueAt(obj *unstructured.Unstructured, path fieldpath.Path) any {
	var current any = obj.Object
	for _, element := range path {
		switch {
		case element.FieldName != nil:
			fields, _ := current.(map[string]any)
			current = fields[*element.FieldName]
		case element.Index != nil:
			current = itemAt(current, *element.Index)
		case element.Key != nil:
			current = keyedItem(current, element)
		case element.Value != nil:
			current = (*element.Value).Unstructured()
		}
	}
	return current
}

func itemAt(list any, i int) any {
	items, _ := list.([]any)
	if i < 0 || i >= len(items) {
		return nil
	}
	return items[i]
}

// keyedItem gives the list's item that has the keys of a path element. A key that the item leaves out is one
// that the server fills in: it matches.
func keyedItem(list any, element fieldpath.PathElement) any {
	items, _ := list.([]any)
	for _, item := range items {
		fields, ok := item.(map[string]any)
		if ok && hasKeys(fields, element) {
			return item
		}
	}
	return nil
}

func hasKeys(fields map[string]any, element fieldpath.PathElement) bool {
	for _, key := range *element.Key {
		if v, ok := fields[key.Name]; ok && !sameScalar(v, key.Value.Unstructured()) {
			return false
		}
	}
	return true
}

// sameScalar compares numbers by their value, whichever type a decoder gave them.
func sameScalar(a, b any) bool { return a == b || fmt.Sprint(a) == fmt.Sprint(b) }

// show words a field's value: compact JSON, with texts as they are. Secrets' values are hidden.
func show(obj *unstructured.Unstructured, path string, value any) string {
	switch v := value.(type) {
	case nil:
		return none
	case string:
		if isSecretValue(obj, path) {
			return Hidden
		}
		return v
	}
	if isSecretValue(obj, path) {
		return Hidden
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(text.String())
}

// isSecretValue reports whether a field may hold what nobody should see. An annotation may, too: kubectl apply
// keeps the whole object in one.
func isSecretValue(obj *unstructured.Unstructured, path string) bool {
	if obj.GroupVersionKind().GroupKind() != SecretKind.GroupKind() {
		return false
	}
	for _, part := range []string{".data", ".stringData", ".metadata.annotations"} {
		if strings.HasPrefix(path, part) {
			return true
		}
	}
	return path == "" || path == "."
}
