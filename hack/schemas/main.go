// Command schemas turns Kubernetes' OpenAPI document into the JSON schemas that kubeconform reads, so that manifests can
// be checked in a network that reaches a Go module proxy and nothing else:
//
//	schemas SWAGGER_JSON FOLDER
//
// FOLDER gets definitions.json, every type of the API, and for each kind a file KIND-GROUP-VERSION.json that refers to
// it. Fields that a type doesn't have are refused.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: schemas SWAGGER_JSON FOLDER")
		os.Exit(2)
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

const definitionsFile = "definitions.json"

type object = map[string]any

// kind is an entry of x-kubernetes-group-version-kind.
type kind struct{ Group, Version, Kind string }

// convert reads the OpenAPI v2 document and writes the schemas.
func convert(swagger, folder string) error {
	text, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	var document struct{ Definitions map[string]object }
	if err := json.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("read %s: %w", swagger, err)
	}
	if len(document.Definitions) == 0 {
		return fmt.Errorf("read %s: no definitions in it", swagger)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, definition := range document.Definitions {
		if err := writeKinds(folder, name, definition); err != nil {
			return err
		}
		closeTypes(definition)
	}
	loosenScalars(document.Definitions)
	return write(folder, definitionsFile, object{"definitions": document.Definitions})
}

// writeKinds writes a schema for each kind that the definition is the type of.
func writeKinds(folder, name string, definition object) error {
	for _, k := range kinds(definition) {
		parts := []string{k.Kind, k.Version}
		if k.Group != "" {
			// The name that kubeconform looks for has the group's first part only.
			group, _, _ := strings.Cut(k.Group, ".")
			parts = []string{k.Kind, group, k.Version}
		}
		file := strings.ToLower(strings.Join(parts, "-")) + ".json"
		if err := write(folder, file, object{"$ref": definitionsFile + "#/definitions/" + name}); err != nil {
			return err
		}
	}
	return nil
}

// kinds returns the one kind that the definition stands for. Types such as DeleteOptions belong to every group; nobody
// writes a manifest of one.
func kinds(definition object) []kind {
	text, err := json.Marshal(definition["x-kubernetes-group-version-kind"])
	var found []kind
	if err = errors.Join(err, json.Unmarshal(text, &found)); err != nil || len(found) != 1 {
		return nil
	}
	return found
}

// closeTypes refuses properties that aren't listed, in the definition and in the types written inside it.
func closeTypes(schema object) {
	if properties, ok := schema["properties"].(object); ok {
		if _, open := schema["additionalProperties"]; !open && schema["x-kubernetes-preserve-unknown-fields"] != true {
			schema["additionalProperties"] = false
		}
		for _, property := range properties {
			if inner, ok := property.(object); ok {
				closeTypes(inner)
			}
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, ok := schema[key].(object); ok {
			closeTypes(inner)
		}
	}
}

// loosenScalars lets the types that OpenAPI v2 can only call strings be numbers too, as the API server does.
func loosenScalars(definitions map[string]object) {
	for _, name := range []string{
		"io.k8s.apimachinery.pkg.util.intstr.IntOrString",
		"io.k8s.apimachinery.pkg.api.resource.Quantity",
	} {
		definitions[name] = object{"type": []string{"string", "number"}}
	}
}

func write(folder, file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.WriteFile(filepath.Join(folder, file), text, 0o644)
}
