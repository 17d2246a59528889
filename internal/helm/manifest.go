package helm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// parseManifest reads the objects of a manifest, in their order. Lists are taken apart.
func parseManifest(manifest string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		var document runtime.RawExtension
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err == nil {
			objects, err = appendObjects(objects, document.Raw)
		}
		if err != nil {
			return nil, fmt.Errorf("read the manifest: %w", err)
		}
	}
}

func appendObjects(objects []*unstructured.Unstructured, document []byte) ([]*unstructured.Unstructured, error) {
	if len(document) == 0 || bytes.Equal(document, []byte("null")) {
		return objects, nil // a template that rendered to nothing but comments
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(document); err != nil {
		return nil, err
	}
	if !obj.IsList() {
		return append(objects, obj), nil
	}
	err := obj.EachListItem(func(item runtime.Object) error {
		objects = append(objects, item.(*unstructured.Unstructured))
		return nil
	})
	return objects, err
}

// objects reads a manifest and fills in the namespaces as the API server would: Helm's manifests may
// leave them out.
func (r *run) objects(manifest string) ([]*unstructured.Unstructured, error) {
	objects, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	mapper, err := r.getter.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	for _, obj := range objects {
		if err := r.setNamespace(mapper, obj); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

func (r *run) setNamespace(mapper meta.RESTMapper, obj *unstructured.Unstructured) error {
	mapping, err := mappingOf(mapper, obj)
	switch {
	case err != nil || mapping == nil:
		return err
	case mapping.Scope.Name() == meta.RESTScopeNameRoot:
		obj.SetNamespace("")
	case obj.GetNamespace() == "":
		obj.SetNamespace(r.namespace)
	}
	return nil
}

// mappingOf gives the resource of an object's kind, or nil where the cluster does not know the kind any more: its
// definition is gone, and so is the object.
func mappingOf(mapper meta.RESTMapper, obj *unstructured.Unstructured) (*meta.RESTMapping, error) {
	kind := obj.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the cluster for kind %s: %w", kind.Kind, err)
	}
	return mapping, nil
}
