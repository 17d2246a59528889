package api

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// errorSchema refers to Error, which Register adds to the schemas.
const errorSchema = "#/components/schemas/Error"

func statusOperation() huma.Operation {
	return operation(http.MethodGet, "/pw", "get-status", "Say that the service runs",
		"Answers without asking Redis; `/readyz` says whether Redis answers.", nil)
}

func createOperation() huma.Operation {
	return operation(http.MethodPost, "/pw/{key}/{value}", "create-key", "Store a value under a key",
		"Replaces what was stored under the key before.", map[int]string{
			http.StatusUnprocessableEntity: "Value is longer than 65536 bytes",
			http.StatusServiceUnavailable:  "Redis is unavailable",
		})
}

func readOperation() huma.Operation {
	return operation(http.MethodGet, "/pw/{key}", "read-key", "Read the value of a key", "", map[int]string{
		http.StatusNotFound:            "Key not found",
		http.StatusConflict:            "Key does not hold a string",
		http.StatusUnprocessableEntity: "Key is longer than 8192 bytes",
		http.StatusServiceUnavailable:  "Redis is unavailable",
	})
}

func deleteOperation() huma.Operation {
	return operation(http.MethodDelete, "/pw/{key}", "delete-key", "Delete a key",
		"Answers the number of keys removed: 1, or 0 if the key was not set.", map[int]string{
			http.StatusUnprocessableEntity: "Key is longer than 8192 bytes",
			http.StatusServiceUnavailable:  "Redis is unavailable",
		})
}

// operation describes one operation; failures holds an example detail a status.
func operation(method, path, id, summary, description string, failures map[int]string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path,
		Summary: summary, Description: description, Tags: []string{"pw"},
		// The handlers check the parameters, in bytes and with answers of the
		// contract's form.
		SkipValidateParams: true,
		Responses:          map[string]*huma.Response{},
	}
	for status, detail := range failures {
		op.Responses[strconv.Itoa(status)] = failure(status, detail)
	}
	return op
}

func failure(status int, detail string) *huma.Response {
	response := &huma.Response{
		Description: http.StatusText(status),
		Content: map[string]*huma.MediaType{"application/json": {
			Schema:  &huma.Schema{Ref: errorSchema},
			Example: map[string]string{"detail": detail},
		}},
	}
	if status == http.StatusServiceUnavailable {
		response.Headers = map[string]*huma.Param{"Retry-After": {
			Description: "Seconds after which to try again.",
			Schema:      &huma.Schema{Type: huma.TypeInteger},
		}}
	}
	return response
}
