package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pwdeploy/pwdeploy/service/internal/store"
)

// Error is the body of every answer that is not a success.
type Error struct {
	status int
	// Detail says what is wrong, in words.
	Detail string `json:"detail" doc:"What is wrong, in words."`
}

var (
	_ huma.StatusError  = (*Error)(nil)
	_ huma.HeadersError = (*Error)(nil)
)

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

// GetStatus returns the HTTP status.
func (e *Error) GetStatus() int { return e.status }

// GetHeaders tells clients of a service without Redis to come back soon.
func (e *Error) GetHeaders() http.Header {
	if e.status != http.StatusServiceUnavailable {
		return nil
	}
	return http.Header{"Retry-After": {"1"}}
}

// WriteError answers with a status and {"detail": detail}.
func WriteError(w http.ResponseWriter, status int, detail string) {
	e := &Error{status: status, Detail: detail}
	for name, values := range e.GetHeaders() {
		w.Header()[name] = values
	}
	WriteJSON(w, status, e)
}

// WriteJSON answers with a status and v, which must be marshallable.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // a bug in a type of ours; the server's recovery answers 500
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client went away; there is nobody to tell
}

// details says in words why Redis cannot serve.
var details = map[store.Reason]string{
	store.Refused:     "Redis refused the credentials",
	store.Loading:     "Redis is loading its data",
	store.ReadOnly:    "Redis does not accept writes",
	store.OutOfMemory: "Redis is out of memory",
	store.Busy:        "Redis is busy",
	store.TimedOut:    "Redis did not answer in time",
}

// Unavailable is the detail of a 503 for an error of the store.
func Unavailable(err error) string {
	var unavailable *store.UnavailableError
	if errors.As(err, &unavailable) {
		if detail, ok := details[unavailable.Reason]; ok {
			return detail
		}
	}
	return "Redis is unavailable"
}

// answer turns an error of the store into the HTTP answer.
func answer(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		return &Error{status: http.StatusNotFound, Detail: "Key not found"}
	case errors.Is(err, store.ErrWrongType):
		return &Error{status: http.StatusConflict, Detail: "Key does not hold a string"}
	}
	return &Error{status: http.StatusServiceUnavailable, Detail: Unavailable(err)}
}
