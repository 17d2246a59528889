package kube

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// eventsAbout gives the events about an object with one of the reasons, newest first. A field names a part of
// it, as spec.containers{redis}; empty: any.
func eventsAbout(v *view, about *unstructured.Unstructured, field string, reasons ...string) []corev1.Event {
	var found []corev1.Event
	for _, u := range v.events(about.GetNamespace()) {
		uid, _, _ := unstructured.NestedString(u.Object, "involvedObject", "uid")
		reason, _, _ := unstructured.NestedString(u.Object, "reason")
		path, _, _ := unstructured.NestedString(u.Object, "involvedObject", "fieldPath")
		if uid != string(about.GetUID()) || !slices.Contains(reasons, reason) || field != "" && path != field {
			continue
		}
		var e corev1.Event
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &e); err != nil {
			continue
		}
		e.Message = strings.Join(strings.Fields(e.Message), " ") // a probe may answer in several lines
		found = append(found, e)
	}
	slices.SortFunc(found, newestFirst)
	return found
}

// newestFirst orders events. Their times have whole seconds, in which a controller tries more than once: the API
// server's versions, which can be compared (KEP-5504), decide then.
func newestFirst(a, b corev1.Event) int {
	if byTime := eventTime(b).Compare(eventTime(a)); byTime != 0 {
		return byTime
	}
	byVersion, err := resourceversion.CompareResourceVersion(b.ResourceVersion, a.ResourceVersion)
	if err != nil {
		return 0
	}
	return byVersion
}

// lastEvent is the newest of eventsAbout, or nil.
func lastEvent(v *view, about *unstructured.Unstructured, field string, reasons ...string) *corev1.Event {
	found := eventsAbout(v, about, field, reasons...)
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

// events are all of a namespace.
func (v *view) events(namespace string) []*unstructured.Unstructured {
	if v.askEvents {
		return v.ask(EventKind, namespace).objs
	}
	return v.objects(EventKind.GroupKind(), namespace)
}

// eventTime is when an event happened last: the two recorders of client-go fill in different fields.
func eventTime(e corev1.Event) time.Time {
	at := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.FirstTimestamp.Time, e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(at) {
			at = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(at) {
		at = e.Series.LastObservedTime.Time
	}
	return at
}
