package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const swagger = `{"definitions": {
	"io.k8s.api.networking.v1.Ingress": {
		"type": "object",
		"properties": {
			"spec": {"$ref": "#/definitions/Spec"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}},
			"list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}
		},
		"x-kubernetes-group-version-kind": [{"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}]
	},
	"io.k8s.api.core.v1.Pod": {
		"type": "object",
		"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]
	},
	"DeleteOptions": {
		"type": "object",
		"x-kubernetes-group-version-kind": [
			{"group": "", "version": "v1", "kind": "DeleteOptions"},
			{"group": "apps", "version": "v1", "kind": "DeleteOptions"}
		]
	},
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": "string", "format": "int-or-string"}
}}`

func TestConvert(t *testing.T) {
	folder := t.TempDir()
	source := filepath.Join(folder, "swagger.json")
	if err := os.WriteFile(source, []byte(swagger), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(folder, "out")
	if err := convert(source, out); err != nil {
		t.Fatal(err)
	}

	var files []string
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	if diff := cmp.Diff([]string{"definitions.json", "ingress-networking-v1.json", "pod-v1.json"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	want := object{"$ref": "definitions.json#/definitions/io.k8s.api.networking.v1.Ingress"}
	if diff := cmp.Diff(want, read(t, out, "ingress-networking-v1.json")); diff != "" {
		t.Errorf("the kind's file (-want +got):\n%s", diff)
	}

	definitions := read(t, out, "definitions.json")["definitions"].(object)
	ingress := definitions["io.k8s.api.networking.v1.Ingress"].(object)
	properties := ingress["properties"].(object)
	if ingress["additionalProperties"] != false {
		t.Error("the kind takes unknown fields")
	}
	if items := properties["list"].(object)["items"].(object); items["additionalProperties"] != false {
		t.Error("a type written inside another takes unknown fields")
	}
	if labels := properties["labels"].(object); labels["additionalProperties"] == false {
		t.Error("a map takes no keys")
	}
	intOrString := object{"type": []any{"string", "number"}}
	if diff := cmp.Diff(intOrString, definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]); diff != "" {
		t.Errorf("int or string (-want +got):\n%s", diff)
	}
}

func TestConvertRefusesOtherFiles(t *testing.T) {
	for name, text := range map[string]string{"not json": "a: b", "no definitions": "{}"} {
		t.Run(name, func(t *testing.T) {
			source := filepath.Join(t.TempDir(), "swagger.json")
			if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := convert(source, t.TempDir()); err == nil {
				t.Error("no error")
			}
		})
	}
}

func read(t *testing.T, folder, file string) object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
