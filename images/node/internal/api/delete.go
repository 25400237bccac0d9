package api

import (
	"encoding/json"
	"net/http"

	"k3arm.dev/images/node/internal/store"
)

func (h *Handler) remove(t target, r *http.Request) (store.Object, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var options store.Object
	_ = json.Unmarshal(body, &options)
	object, err := h.Store.Get(t.key())
	if err != nil {
		return nil, err
	}
	if uid := store.Text(options, "preconditions", "uid"); uid != "" && uid != store.Text(object, "metadata", "uid") {
		return nil, store.ErrConflict
	}
	if !dryRun(r) && options["dryRun"] == nil {
		if err := h.Remove(t.key()); err != nil {
			return nil, err
		}
	}
	return store.Object{
		"kind": "Status", "apiVersion": "v1", "metadata": store.Object{}, "status": "Success",
		"details": store.Object{"name": t.name, "kind": t.resource.Plural, "uid": store.Text(object, "metadata", "uid")},
	}, nil
}

// Remove deletes an object, and with a namespace all that is in it.
func (h *Handler) Remove(key store.Key) error {
	object, err := h.Store.Delete(key)
	if err != nil {
		return err
	}
	if key.Resource == namespaces.key() {
		for _, r := range resources {
			inside, _ := h.Store.List(r.key(), key.Name)
			for _, o := range inside {
				_ = h.Remove(store.Key{Resource: r.key(), Namespace: key.Name, Name: store.Text(o, "metadata", "name")})
			}
		}
	}
	h.Deleted(key, object)
	return nil
}

func (h *Handler) removeAll(t target, r *http.Request) (store.Object, error) {
	matches, err := parseSelectors(r.URL.Query())
	if err != nil {
		return nil, BadRequest(err.Error())
	}
	objects, _ := h.Store.List(t.resource.key(), t.namespace)
	for _, object := range objects {
		if matches(object) && !dryRun(r) {
			one := store.Key{Resource: t.resource.key(), Namespace: store.Text(object, "metadata", "namespace"), Name: store.Text(object, "metadata", "name")}
			if err := h.Remove(one); err != nil {
				return nil, err
			}
		}
	}
	return store.Object{"kind": "Status", "apiVersion": "v1", "metadata": store.Object{}, "status": "Success"}, nil
}
