// Package snapshot takes a picture of all that a cluster holds, so that tests can compare object by object.
package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Snapshot holds what the owners of each object wrote, by "Kind namespace/name".
type Snapshot map[string]string

// passing are the kinds that controllers make and renew all the time.
func passing() []string {
	return []string{"Event", "Lease", "Endpoints", "EndpointSlice", "PodMetrics", "NodeMetrics", "Node", "CSINode"}
}

// Take reads every object that can be listed, status and bookkeeping apart. With identity, an object that
// was deleted and made again, or written with other contents in between, is another one.
func Take(ctx context.Context, config *rest.Config, identity bool) (Snapshot, error) {
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	lists, err := found.ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	out := Snapshot{}
	for _, list := range lists {
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || slices.Contains(passing(), r.Kind) {
				continue
			}
			gv, err := schema.ParseGroupVersion(list.GroupVersion)
			if err != nil {
				return nil, err
			}
			if err := out.add(ctx, client, gv.WithResource(r.Name), identity); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (s Snapshot) add(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, identity bool) error {
	list, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list of %s: %w", resource, err)
	}
	for i := range list.Items {
		o := &list.Items[i]
		text, err := json.Marshal(content(o, identity))
		if err != nil {
			return err
		}
		s[fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())] = string(text)
	}
	return nil
}

func content(o *unstructured.Unstructured, identity bool) map[string]any {
	unstructured.RemoveNestedField(o.Object, "status")
	fields := []string{"managedFields", "resourceVersion"}
	if !identity {
		fields = append(fields, "uid", "creationTimestamp", "generation")
	}
	for _, f := range fields {
		unstructured.RemoveNestedField(o.Object, "metadata", f)
	}
	return o.Object
}

// Diff says what is different, a line an object; nothing means that both are the same.
func (s Snapshot) Diff(after Snapshot) []string {
	var out []string
	for key, was := range s {
		is, ok := after[key]
		switch {
		case !ok:
			out = append(out, "- "+key)
		case is != was:
			out = append(out, fmt.Sprintf("~ %s\n    was %s\n    is  %s", key, was, is))
		}
	}
	for key := range after {
		if _, ok := s[key]; !ok {
			out = append(out, "+ "+key)
		}
	}
	sort.Slice(out, func(i, j int) bool { return strings.TrimLeft(out[i], "+-~ ") < strings.TrimLeft(out[j], "+-~ ") })
	return out
}
