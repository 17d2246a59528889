package cli

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// The formats of results.
const (
	outputText = "text"
	outputJSON = "json"
	outputYAML = "yaml"
)

func (a *app) checkOutput() error {
	switch a.flags.output {
	case outputText, outputJSON, outputYAML:
		return nil
	}
	return &usageError{message: fmt.Sprintf("--output: %q is not a format", a.flags.output), hint: "use text, json or yaml"}
}

// print writes a result: text by its own function, or as data.
func (a *app) print(result any, text func()) error {
	var body []byte
	var err error
	switch a.flags.output {
	case outputJSON:
		body, err = json.MarshalIndent(result, "", "  ")
		body = append(body, '\n')
	case outputYAML:
		body, err = yaml.Marshal(result)
	default:
		text()
		return nil
	}
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	_, err = a.Out.Write(body)
	return err
}
