package api

import (
	"net/http"
	"strings"

	"k3arm.dev/images/node/internal/store"
)

// User is who a request comes from.
type User struct {
	Name   string
	Groups []string
}

// The groups that have rights.
const (
	Admins = "system:masters"
	Nodes  = "system:nodes"
)

// In tells whether the user belongs to a group.
func (u User) In(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Handler serves the interface to users that somebody else has identified.
type Handler struct {
	Store *store.Store
	// Version is what /version answers.
	Version store.Object
	// Ready tells whether the start is over.
	Ready func() bool
	// Deleted is called after an object was deleted.
	Deleted func(key store.Key, object store.Object)
}

// maxBody bounds what a request may carry; the real interface has the same limit.
const maxBody = 3 << 20

// Serve answers a request of an identified user.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, user User) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if !h.Ready() {
		SendFailure(w, Unavailable("apiserver not ready"))
		return
	}
	if h.simple(w, r.URL.Path) {
		return
	}
	if r.URL.Path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" && r.Method == http.MethodPost {
		reviewSelf(w, r, user)
		return
	}
	target, ok := parsePath(r.URL.Path)
	if !ok {
		SendFailure(w, errNoPath)
		return
	}
	if failure, denied := authorize(user, target, r.Method); denied {
		SendFailure(w, failure)
		return
	}
	h.serveObjects(w, r, target)
}

// reviewSelf answers what `kubectl auth can-i` asks.
func reviewSelf(w http.ResponseWriter, r *http.Request, user User) {
	review, err := readObject(r)
	if err != nil {
		SendFailure(w, failureOf(err, resource{}, ""))
		return
	}
	review["status"] = store.Object{"allowed": user.In(Admins)}
	Send(w, http.StatusCreated, review)
}

// simple answers the paths that are not about objects.
func (h *Handler) simple(w http.ResponseWriter, path string) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "readyz" || parts[0] == "livez" || parts[0] == "healthz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
		return true
	case path == "/version" || path == "/version/":
		Send(w, http.StatusOK, h.Version)
		return true
	}
	document := discovery(parts)
	if document != nil {
		Send(w, http.StatusOK, document)
	}
	return document != nil
}

func discovery(parts []string) store.Object {
	switch {
	case len(parts) == 1 && parts[0] == "api":
		return store.Object{"kind": "APIVersions", "versions": []interface{}{"v1"}, "serverAddressByClientCIDRs": []interface{}{}}
	case len(parts) == 2 && parts[0] == "api":
		return resourceList("", parts[1])
	case len(parts) == 1 && parts[0] == "apis":
		return groupList()
	case len(parts) == 2 && parts[0] == "apis" && resourceList(parts[1], "v1") != nil:
		document := group(parts[1])
		document["kind"], document["apiVersion"] = "APIGroup", "v1"
		return document
	case len(parts) == 3 && parts[0] == "apis":
		return resourceList(parts[1], parts[2])
	}
	return nil
}

// target is the object, or the objects, that a path means.
type target struct {
	resource    resource
	namespace   string
	name        string
	subresource string
}

func (t target) key() store.Key {
	return store.Key{Resource: t.resource.key(), Namespace: t.namespace, Name: t.name}
}

func parsePath(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	group := ""
	switch {
	case len(parts) > 2 && parts[0] == "api" && parts[1] == "v1":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis" && parts[2] == "v1":
		group, parts = parts[1], parts[3:]
	default:
		return target{}, false
	}
	t := target{}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		t.namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 3 {
		return target{}, false
	}
	parts = append(parts, "", "")
	t.name, t.subresource = parts[1], parts[2]
	for _, r := range resources {
		if r.Group == group && r.Plural == parts[0] && (r.Namespaced || t.namespace == "") {
			t.resource = r
			return t, true
		}
	}
	return target{}, false
}

// authorize lets administrators do everything, nodes read nearly everything and write what is theirs.
func authorize(user User, t target, method string) (Failure, bool) {
	if user.In(Admins) {
		return Failure{}, false
	}
	reading := method == http.MethodGet
	if user.In(Nodes) {
		own := "system:node:"+t.name == user.Name
		creating := method == http.MethodPost && t.name == ""
		writable := t.resource.Plural == "nodes" || t.resource.Plural == "leases"
		if reading && t.resource.Plural != "secrets" || writable && (own || creating) && method != http.MethodDelete {
			return Failure{}, false
		}
	}
	verb := map[string]string{"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]
	scope := "at the cluster scope"
	if t.namespace != "" {
		scope = "in the namespace \"" + t.namespace + "\""
	}
	object := t.resource.key()
	if t.name != "" {
		object += " \"" + t.name + "\""
	}
	return Forbidden(object + " is forbidden: User \"" + user.Name + "\" cannot " + verb + " resource \"" + t.resource.Plural +
		"\" in API group \"" + t.resource.Group + "\" " + scope), true
}
