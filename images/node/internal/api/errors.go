package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"k3arm.dev/images/node/internal/patch"
	"k3arm.dev/images/node/internal/store"
)

// Failure is an answer of the interface that is not a success: an object of kind Status.
type Failure struct {
	Code    int
	Reason  string
	Message string
	Details store.Object
}

func (f Failure) Error() string { return f.Message }

// Object is the failure as JSON has it.
func (f Failure) Object() store.Object {
	object := store.Object{
		"kind": "Status", "apiVersion": "v1", "metadata": store.Object{}, "status": "Failure",
		"message": f.Message, "reason": f.Reason, "code": f.Code,
	}
	if f.Details != nil {
		object["details"] = f.Details
	}
	return object
}

// Unauthorized, Forbidden, Unavailable and the others below are the failures that k3s answers with.
func Unauthorized(message string) Failure {
	return Failure{Code: http.StatusUnauthorized, Reason: "Unauthorized", Message: message}
}

// Forbidden is a known client without the right.
func Forbidden(message string) Failure {
	return Failure{Code: http.StatusForbidden, Reason: "Forbidden", Message: message}
}

// Unavailable is an interface that is not ready yet.
func Unavailable(message string) Failure {
	return Failure{Code: http.StatusServiceUnavailable, Reason: "ServiceUnavailable", Message: message}
}

// BadRequest is a request that makes no sense.
func BadRequest(message string) Failure {
	return Failure{Code: http.StatusBadRequest, Reason: "BadRequest", Message: message}
}

var errNoPath = Failure{
	Code: http.StatusNotFound, Reason: "NotFound", Message: "the server could not find the requested resource",
	Details: store.Object{},
}

func methodNotAllowed(method string) Failure {
	return Failure{Code: http.StatusMethodNotAllowed, Reason: "MethodNotAllowed",
		Message: "the server does not allow this method on the requested resource: " + method}
}

func expired(message string) Failure {
	return Failure{Code: http.StatusGone, Reason: "Expired", Message: message}
}

// failureOf names the object that an error of the store or of a patch is about.
func failureOf(err error, r resource, name string) Failure {
	var failure Failure
	if errors.As(err, &failure) {
		return failure
	}
	qualified := r.key() + " \"" + name + "\""
	details := store.Object{"name": name, "kind": r.Plural}
	if r.Group != "" {
		details["group"] = r.Group
	}
	var unsupported patch.UnsupportedError
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Failure{http.StatusNotFound, "NotFound", qualified + " not found", details}
	case errors.Is(err, store.ErrExists):
		return Failure{http.StatusConflict, "AlreadyExists", qualified + " already exists", details}
	case errors.Is(err, store.ErrConflict):
		message := "Operation cannot be fulfilled on " + qualified + ": " + err.Error()
		return Failure{http.StatusConflict, "Conflict", message, details}
	case errors.As(err, &unsupported):
		return Failure{http.StatusUnsupportedMediaType, "UnsupportedMediaType", err.Error(), nil}
	}
	return Failure{http.StatusUnprocessableEntity, "Invalid", err.Error(), details}
}

// Send writes an object as the answer.
func Send(w http.ResponseWriter, code int, object interface{}) {
	data, err := json.Marshal(object)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

// SendFailure writes a failure as the answer.
func SendFailure(w http.ResponseWriter, failure Failure) {
	if failure.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	Send(w, failure.Code, failure.Object())
}
