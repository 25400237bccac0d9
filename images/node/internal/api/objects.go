package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"k3arm.dev/images/node/internal/patch"
	"k3arm.dev/images/node/internal/store"
)

func (h *Handler) serveObjects(w http.ResponseWriter, r *http.Request, t target) {
	if r.Method == http.MethodGet && t.name == "" {
		h.list(w, r, t)
		return
	}
	code, object, err := h.one(r, t)
	if err != nil {
		SendFailure(w, failureOf(err, t.resource, t.name))
		return
	}
	if format := tableFormat(r); format != "" && r.Method == http.MethodGet {
		object = table(format, t.resource, []store.Object{object}, store.Text(object, "metadata", "resourceVersion"))
	}
	Send(w, code, object)
}

// one handles every request that is answered with one object.
func (h *Handler) one(r *http.Request, t target) (int, store.Object, error) {
	switch {
	case r.Method == http.MethodPost && t.subresource == "eviction" && t.resource.key() == pods.key():
		object, err := h.remove(t, r)
		return http.StatusCreated, object, err
	case r.Method == http.MethodPost && t.name == "":
		object, err := h.create(t, r)
		return http.StatusCreated, object, err
	case r.Method == http.MethodGet:
		object, err := h.Store.Get(t.key())
		return http.StatusOK, withKind(object, t.resource), err
	case r.Method == http.MethodPut && t.name != "":
		object, err := h.put(t, r)
		return http.StatusOK, object, err
	case r.Method == http.MethodPatch && t.name != "":
		return h.patch(t, r)
	case r.Method == http.MethodDelete && t.name != "":
		object, err := h.remove(t, r)
		return http.StatusOK, object, err
	case r.Method == http.MethodDelete:
		object, err := h.removeAll(t, r)
		return http.StatusOK, object, err
	}
	return 0, nil, methodNotAllowed(r.Method)
}

// withKind gives an object its type, which the store does not need.
func withKind(object store.Object, r resource) store.Object {
	if object == nil {
		return nil
	}
	typed := store.Object{}
	for name, value := range object {
		typed[name] = value
	}
	typed["kind"], typed["apiVersion"] = r.Kind, r.apiVersion()
	return typed
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if strings.Contains(err.Error(), "too large") {
			return nil, Failure{Code: http.StatusRequestEntityTooLarge, Reason: "RequestEntityTooLarge", Message: "Request entity too large: limit is 3145728"}
		}
		return nil, BadRequest(err.Error())
	}
	return body, nil
}

func readObject(r *http.Request) (store.Object, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var object store.Object
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return nil, BadRequest("the object provided is unrecognized (must be of type JSON)")
	}
	return object, nil
}

func dryRun(r *http.Request) bool { return r.URL.Query().Get("dryRun") == "All" }

func (h *Handler) create(t target, r *http.Request) (store.Object, error) {
	object, err := readObject(r)
	if err != nil {
		return nil, err
	}
	t.name = store.Text(object, "metadata", "name")
	if prefix := store.Text(object, "metadata", "generateName"); t.name == "" && prefix != "" {
		t.name = prefix + strconv.FormatUint(h.Store.Version(), 36)
	}
	if t.name == "" {
		return nil, Failure{Code: http.StatusUnprocessableEntity, Reason: "Invalid", Message: "resource name may not be empty"}
	}
	return h.add(t, object, dryRun(r))
}

func (h *Handler) add(t target, object store.Object, dry bool) (store.Object, error) {
	if dry {
		if _, err := h.Store.Get(t.key()); err == nil {
			return nil, store.ErrExists
		}
		return withKind(object, t.resource), nil
	}
	created, err := h.Store.Create(t.key(), object)
	if err != nil {
		return nil, failureOf(err, t.resource, t.name)
	}
	return withKind(created, t.resource), nil
}

func (h *Handler) put(t target, r *http.Request) (store.Object, error) {
	object, err := readObject(r)
	if err != nil {
		return nil, err
	}
	return h.change(t, dryRun(r), func(store.Object) (store.Object, error) { return object, nil })
}

func (h *Handler) patch(t target, r *http.Request) (int, store.Object, error) {
	body, err := readBody(r)
	if err != nil {
		return 0, nil, err
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	object, err := h.change(t, dryRun(r), func(before store.Object) (store.Object, error) {
		after, err := patch.To(before, mediaType, body)
		return after, malformed(err)
	})
	// Server-side apply makes what is not there yet.
	if errors.Is(err, store.ErrNotFound) && mediaType == patch.Apply {
		object, err := patch.Decode(mediaType, body)
		if err != nil {
			return 0, nil, BadRequest(err.Error())
		}
		object, err = h.add(t, object, dryRun(r))
		return http.StatusCreated, object, err
	}
	return http.StatusOK, object, err
}

// malformed tells patches that cannot be read from those that cannot be applied.
func malformed(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return BadRequest("error decoding patch: " + err.Error())
	}
	return err
}

// change updates an object; the status belongs to the status subresource alone, everything else to the object itself.
func (h *Handler) change(t target, dry bool, edit func(store.Object) (store.Object, error)) (store.Object, error) {
	var result store.Object
	errDry := errors.New("dry run")
	object, err := h.Store.Update(t.key(), func(stored store.Object) (store.Object, error) {
		before := store.Copy(stored)
		after, err := edit(stored)
		if err != nil {
			return nil, err
		}
		keepForeign(before, after, t.subresource == "status")
		if dry {
			result = withKind(after, t.resource)
			return nil, errDry
		}
		return after, nil
	})
	if errors.Is(err, errDry) {
		return result, nil
	}
	return withKind(object, t.resource), err
}

func keepForeign(before, after store.Object, status bool) {
	delete(after, "kind")
	delete(after, "apiVersion")
	if status {
		version := store.Text(after, "metadata", "resourceVersion")
		after["metadata"] = store.Copy(store.Metadata(before))
		store.Metadata(after)["resourceVersion"] = version
		restore(before, after, "spec")
		return
	}
	restore(before, after, "status")
}

func restore(before, after store.Object, field string) {
	if value, ok := before[field]; ok {
		after[field] = value
	} else {
		delete(after, field)
	}
}
