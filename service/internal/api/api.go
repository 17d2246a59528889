// Package api is the HTTP contract of the service: four operations over
// /pw, their OpenAPI document, and the router that keeps to the contract in
// the corners (slashes, unknown paths, methods).
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const (
	// MaxKeyBytes bounds a key, decoded. The same number stands in keyInput's
	// tag, from where it reaches the OpenAPI document.
	MaxKeyBytes = 8 << 10
	// MaxValueBytes bounds a value, decoded.
	MaxValueBytes = 64 << 10
	// MaxRequestBytes is room for the request line of the longest key and value
	// with every byte percent-encoded, and for the headers.
	MaxRequestBytes = 3*(MaxKeyBytes+MaxValueBytes) + 32<<10

	running = "Your redis crud server is running!"
)

// Store keeps the keys. Its errors are those of package store.
type Store interface {
	Get(ctx context.Context, key string) (string, error)
	Set(ctx context.Context, key, value string) error
	Delete(ctx context.Context, key string) (int64, error)
}

// Register adds the four operations and /openapi.json to the router. version
// is the document's.
func Register(router *Router, store Store, version string) error {
	doc := huma.NewAPI(config(version), router)
	doc.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Error](), true, "Error")
	handlers := &handlers{store: store}
	huma.Register(doc, statusOperation(), handlers.status)
	huma.Register(doc, createOperation(), handlers.create)
	huma.Register(doc, readOperation(), handlers.read)
	huma.Register(doc, deleteOperation(), handlers.delete)
	return serveDocument(router, doc)
}

func config(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			Info: &huma.Info{
				Title:       "pw CRUD service",
				Description: "Keeps strings in Redis under keys.",
				Version:     version,
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Tags: []*huma.Tag{{Name: "pw", Description: "Create, read and delete keys."}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		Formats:       map[string]huma.Format{"application/json": {Marshal: marshal, Unmarshal: json.Unmarshal}},
		DefaultFormat: "application/json",
	}
}

// marshal writes JSON as the contract has it: no newline at the end, and <, >
// and & as they are.
func marshal(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	return err
}

// serveDocument renders the OpenAPI document once and serves it.
func serveDocument(router *Router, doc huma.API) error {
	// The library lists its own error model, which no operation here uses, and
	// a "default" answer for the operation that cannot fail.
	schemas := doc.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	delete(doc.OpenAPI().Paths["/pw"].Get.Responses, "default")
	body, err := json.Marshal(doc.OpenAPI())
	if err != nil {
		return fmt.Errorf("render the OpenAPI document: %w", err)
	}
	router.Register(http.MethodGet, "/openapi.json", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, json.RawMessage(body))
	}))
	return nil
}

type keyInput struct {
	Key string `path:"key" minLength:"1" maxLength:"8192" doc:"Any UTF-8 text without a slash, at most 8192 bytes." example:"greeting"`
}

// pairInput repeats keyInput's field: the library fills only fields of exported
// types.
type pairInput struct {
	Key   string `path:"key" minLength:"1" maxLength:"8192" doc:"Any UTF-8 text without a slash, at most 8192 bytes." example:"greeting"`
	Value string `path:"value" minLength:"1" maxLength:"65536" doc:"Any UTF-8 text without a slash, at most 65536 bytes." example:"hello"`
}

// Pair is a key with its value.
type Pair struct {
	Key   string `json:"key" doc:"The key." example:"greeting"`
	Value string `json:"value" doc:"The value now stored under the key." example:"hello"`
}

type statusOutput struct {
	Body string `example:"Your redis crud server is running!"`
}

type valueOutput struct {
	Body string `doc:"The value." example:"hello"`
}

type pairOutput struct {
	Body Pair
}

type countOutput struct {
	Body int64 `minimum:"0" maximum:"1" doc:"The number of keys removed." example:"1"`
}

type handlers struct {
	store Store
}

func (h *handlers) status(context.Context, *struct{}) (*statusOutput, error) {
	return &statusOutput{Body: running}, nil
}

func (h *handlers) create(ctx context.Context, in *pairInput) (*pairOutput, error) {
	if err := checkText("Key", in.Key, MaxKeyBytes); err != nil {
		return nil, err
	}
	if err := checkText("Value", in.Value, MaxValueBytes); err != nil {
		return nil, err
	}
	if err := h.store.Set(ctx, in.Key, in.Value); err != nil {
		return nil, answer(err)
	}
	return &pairOutput{Body: Pair{Key: in.Key, Value: in.Value}}, nil
}

func (h *handlers) read(ctx context.Context, in *keyInput) (*valueOutput, error) {
	if err := checkText("Key", in.Key, MaxKeyBytes); err != nil {
		return nil, err
	}
	value, err := h.store.Get(ctx, in.Key)
	if err != nil {
		return nil, answer(err)
	}
	return &valueOutput{Body: value}, nil
}

func (h *handlers) delete(ctx context.Context, in *keyInput) (*countOutput, error) {
	if err := checkText("Key", in.Key, MaxKeyBytes); err != nil {
		return nil, err
	}
	removed, err := h.store.Delete(ctx, in.Key)
	if err != nil {
		return nil, answer(err)
	}
	return &countOutput{Body: removed}, nil
}

// checkText refuses what would not come back as it was sent: JSON cannot carry
// bytes that are not UTF-8.
func checkText(name, text string, limit int) error {
	if len(text) > limit {
		return &Error{status: http.StatusUnprocessableEntity, Detail: name + " is longer than " + strconv.Itoa(limit) + " bytes"}
	}
	if !utf8.ValidString(text) {
		return &Error{status: http.StatusUnprocessableEntity, Detail: name + " is not valid UTF-8"}
	}
	return nil
}
