package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Drift gives the fields of an object that are no longer as they were applied, and who changed them: values that
// somebody else has set, and what is not there any more, of which nobody knows who took it away. It asks nobody:
// wanted is the object as it was applied, live as it was read.
//
// What wanted does not set is no drift, nor is a value that differs and that nobody but pwdeploy has set: the API
// server or an admission webhook wrote it in another way when it was applied.
func Drift(wanted, live *unstructured.Unstructured) []Conflict {
	d := &drift{wanted: wanted, live: live}
	for _, o := range ownersOf(live) {
		d.owners = append(d.owners, o)
		if o.manager != FieldManager {
			d.others = append(d.others, ownedLeaves{o, o.fields.Leaves()})
		}
	}
	if len(d.owners) == 0 { // somebody removed the notes: nothing tells a change from a default
		return nil
	}
	ours, theirs := canonical(wanted), canonical(live)
	restoreZeros(wanted.Object, ours)
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		switch key {
		case "apiVersion", "kind", "status":
		case "metadata":
			for _, part := range []string{"annotations", "labels"} {
				d.compare(fieldpath.MakePathOrDie(key, part), nested(ours, key, part), nested(theirs, key, part))
			}
		default:
			d.compare(fieldpath.MakePathOrDie(key), ours[key], theirs[key])
		}
	}
	return d.found
}

func nested(object map[string]any, fields ...string) any {
	value, _, _ := unstructured.NestedFieldNoCopy(object, fields...)
	return value
}

// drift is one comparison under way.
type drift struct {
	wanted, live *unstructured.Unstructured
	owners       []owner
	others       []ownedLeaves // all but pwdeploy
	found        []Conflict
}

// ownedLeaves are the fields that an owner has set to a value: not those that only hold them.
type ownedLeaves struct {
	owner
	leaves *fieldpath.Set
}

// canonical is an object as the API server writes it: quantities in their shortest form, without what is empty. An
// object of a kind that is not built in is taken as it is.
func canonical(obj *unstructured.Unstructured) map[string]any {
	typed, err := scheme.Scheme.New(obj.GroupVersionKind())
	if err != nil {
		return obj.DeepCopy().Object
	}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed) != nil {
		return obj.DeepCopy().Object
	}
	storeText(typed)
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return obj.DeepCopy().Object
	}
	return out
}

// restoreZeros puts back what canonical left out as empty and somebody wrote nevertheless: "hostNetwork: false".
func restoreZeros(written, object any) {
	switch written := written.(type) {
	case map[string]any:
		object, ok := object.(map[string]any)
		if !ok {
			return
		}
		for key, value := range written {
			if _, there := object[key]; !there && value != nil && isEmpty(value) {
				object[key] = value
			}
			restoreZeros(value, object[key])
		}
	case []any:
		object, _ := object.([]any)
		for i := 0; i < min(len(written), len(object)); i++ {
			restoreZeros(written[i], object[i])
		}
	}
}

// compare notes what differs at path and below.
func (d *drift) compare(path fieldpath.Path, wanted, live any) {
	if wanted == nil || isEmpty(wanted) && live == nil {
		return
	}
	switch wanted := wanted.(type) {
	case map[string]any:
		fields, ok := live.(map[string]any)
		if !ok {
			d.note(path, wanted, live)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(wanted)) {
			d.compare(below(path, fieldpath.PathElement{FieldName: &key}), wanted[key], fields[key])
		}
	case []any:
		d.compareList(path, wanted, live)
	default:
		if !sameScalar(wanted, live) {
			d.note(path, wanted, live)
		}
	}
}

// compareList finds the items of a list by their keys, where the server told which fields those are. Any other list
// is one value.
func (d *drift) compareList(path fieldpath.Path, wanted []any, live any) {
	items := d.itemsAt(path)
	if len(items) == 0 || live == nil {
		if !covers(wanted, live) {
			d.note(path, wanted, live)
		}
		return
	}
	for _, item := range wanted {
		element, found := itemIn(live, item, items)
		d.compare(below(path, element), item, found)
	}
}

// itemsAt gives the items of the list at path as their owners have them, or none if the list is one value.
func (d *drift) itemsAt(path fieldpath.Path) []fieldpath.PathElement {
	var out []fieldpath.PathElement
	for _, o := range d.owners {
		at, ok := o.fields, true
		for _, element := range path {
			if at, ok = at.Children.Get(element); !ok {
				break
			}
		}
		if !ok {
			continue
		}
		for element := range at.Children.All() {
			if element.Key != nil {
				out = append(out, element)
			}
		}
	}
	return out
}

// itemIn finds the item of a list that has the keys of a wanted one. Where there is none, the keys alone name it.
func itemIn(live, wanted any, items []fieldpath.PathElement) (fieldpath.PathElement, any) {
	fields, _ := wanted.(map[string]any)
	for _, element := range items {
		if !hasKeys(fields, element) {
			continue
		}
		if found := keyedItem(live, element); found != nil {
			return element, found
		}
	}
	var keys []any
	for _, key := range *items[0].Key {
		if v, ok := fields[key.Name]; ok {
			keys = append(keys, key.Name, v)
		}
	}
	return fieldpath.KeyElementByFields(keys...), nil
}

// covers reports whether a value holds all that is wanted of it: it may have defaults beside.
func covers(wanted, live any) bool {
	if isEmpty(wanted) {
		return true
	}
	switch wanted := wanted.(type) {
	case map[string]any:
		fields, ok := live.(map[string]any)
		for key, value := range wanted {
			ok = ok && covers(value, fields[key])
		}
		return ok
	case []any:
		items, _ := live.([]any)
		ok := len(items) == len(wanted)
		for i := 0; ok && i < len(wanted); i++ {
			ok = covers(wanted[i], items[i])
		}
		return ok
	}
	return sameScalar(wanted, live)
}

// isEmpty reports whether a value is as good as none.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		return !slices.ContainsFunc(slices.Collect(maps.Values(v)), func(v any) bool { return !isEmpty(v) })
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	case bool:
		return !v
	case int64:
		return v == 0
	}
	return false
}

// note adds a field that differs. What is there must have been set by somebody else; who took away what is not there
// is nowhere written down.
func (d *drift) note(path fieldpath.Path, wanted, live any) {
	who := d.setter(path)
	if who == nil && live != nil {
		return
	}
	ref, field := RefOf(d.live), path.String()
	c := Conflict{Ref: ref, Object: ref.String(), Field: field, Ours: show(d.wanted, field, wanted), Theirs: show(d.live, field, live)}
	if who != nil {
		c.Manager, c.Subresource, c.Since = who.manager, who.subresource, who.since
	}
	d.found = append(d.found, c)
}

// setter is who has set a field, or the value that it is a part of, last; nil if nobody but pwdeploy did.
func (d *drift) setter(path fieldpath.Path) *owner {
	var last *owner
	for i := range d.others {
		o := &d.others[i]
		if o.sets(path) && (last == nil || o.since != nil && (last.since == nil || o.since.After(*last.since))) {
			last = &o.owner
		}
	}
	return last
}

func (o *ownedLeaves) sets(path fieldpath.Path) bool {
	for n := 1; n <= len(path); n++ {
		if o.leaves.Has(path[:n]) {
			return true
		}
	}
	return false
}

// below is the path of what path holds.
func below(path fieldpath.Path, element fieldpath.PathElement) fieldpath.Path {
	return append(path.Copy(), element)
}

// storeText does to a Secret what the API server does: text becomes data.
func storeText(obj runtime.Object) {
	secret, ok := obj.(*corev1.Secret)
	if !ok || len(secret.StringData) == 0 {
		return
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for key, text := range secret.StringData {
		secret.Data[key] = []byte(text)
	}
	secret.StringData = nil
}
