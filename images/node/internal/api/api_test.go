package api

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"k3arm.dev/images/node/internal/patch"
	"k3arm.dev/images/node/internal/store"
)

var admin = User{Name: "system:admin", Groups: []string{Admins}}

func serve(t *testing.T, user User) (*store.Store, *httptest.Server) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{Store: s, Ready: func() bool { return true }, Deleted: func(store.Key, store.Object) {}, Version: store.Object{"major": "1"}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, user) }))
	t.Cleanup(web.Close)
	return s, web
}

// call makes a request; header holds pairs.
func call(t *testing.T, method, url, body string, header ...string) (int, store.Object) {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var object store.Object
	if err := json.NewDecoder(response.Body).Decode(&object); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, object
}

func TestLifeOfANode(t *testing.T) {
	_, web := serve(t, admin)
	url := web.URL + "/api/v1/nodes"
	if code, _ := call(t, "POST", url, `{"metadata":{"name":"pi1","labels":{"a":"b"}},"status":{"phase":"x"}}`); code != 201 {
		t.Fatalf("create: %d", code)
	}
	if code, status := call(t, "POST", url, `{"metadata":{"name":"pi1"}}`); code != 409 || status["reason"] != "AlreadyExists" {
		t.Errorf("create again: %d %v", code, status)
	}
	code, node := call(t, "PATCH", url+"/pi1", `{"spec":{"unschedulable":true},"status":{"phase":"y"}}`, "Content-Type", patch.Strategic)
	if code != 200 || store.Field(node, "spec", "unschedulable") != true || store.Text(node, "status", "phase") != "x" {
		t.Errorf("the status belongs to its subresource: %d %v", code, node)
	}
	code, node = call(t, "PATCH", url+"/pi1/status", `{"spec":{"unschedulable":false},"status":{"phase":"y"}}`, "Content-Type", patch.Merge)
	if code != 200 || store.Field(node, "spec", "unschedulable") != true || store.Text(node, "status", "phase") != "y" {
		t.Errorf("and the rest does not: %d %v", code, node)
	}
	if code, status := call(t, "PUT", url+"/pi1", `{"metadata":{"name":"pi1","resourceVersion":"1"}}`); code != 409 || status["reason"] != "Conflict" {
		t.Errorf("old version: %d %v", code, status)
	}
	if code, status := call(t, "DELETE", url+"/pi1", ""); code != 200 || status["status"] != "Success" {
		t.Errorf("delete: %d %v", code, status)
	}
	if code, status := call(t, "GET", url+"/pi1", ""); code != 404 || status["message"] != `nodes "pi1" not found` {
		t.Errorf("get: %d %v", code, status)
	}
}

func TestListsAndTables(t *testing.T) {
	s, web := serve(t, admin)
	for _, name := range []string{"b", "a"} {
		create(t, s, name, store.Object{"role": name})
	}
	_, list := call(t, "GET", web.URL+"/api/v1/nodes?labelSelector=role+in+(a,c)", "")
	if items := list["items"].([]interface{}); len(items) != 1 || list["kind"] != "NodeList" {
		t.Errorf("selected: %v", list)
	}
	_, list = call(t, "GET", web.URL+"/api/v1/nodes?fieldSelector=metadata.name!%3Da", "")
	if items := list["items"].([]interface{}); len(items) != 1 {
		t.Errorf("selected: %v", list)
	}
	_, table := call(t, "GET", web.URL+"/api/v1/nodes", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	rows := table["rows"].([]interface{})
	if table["kind"] != "Table" || len(rows) != 2 || rows[0].(store.Object)["cells"].([]interface{})[0] != "a" {
		t.Errorf("table: %v", table)
	}
}

func create(t *testing.T, s *store.Store, name string, labels store.Object) {
	t.Helper()
	if _, err := s.Create(store.Key{Resource: "nodes", Name: name}, store.Object{"metadata": store.Object{"labels": labels}}); err != nil {
		t.Fatal(err)
	}
}

type watchEvent struct {
	Type   string
	Object store.Object
}

func TestWatch(t *testing.T) {
	s, web := serve(t, admin)
	create(t, s, "a", store.Object{"role": "x"})
	response, err := http.Get(web.URL + "/api/v1/nodes?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&labelSelector=role=x")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := func() watchEvent {
		var event watchEvent
		if !lines.Scan() {
			t.Fatalf("the watch ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		return event
	}
	if event := next(); event.Type != "ADDED" || store.Text(event.Object, "metadata", "name") != "a" {
		t.Errorf("first: %v", event)
	}
	if event := next(); event.Type != "BOOKMARK" || store.Text(event.Object, "metadata", "annotations", "k8s.io/initial-events-end") != "true" {
		t.Errorf("mark: %v", event)
	}
	create(t, s, "other", store.Object{"role": "y"}) // not selected, not seen
	call(t, "PATCH", web.URL+"/api/v1/nodes/a", `{"metadata":{"labels":{"n":"1"}}}`, "Content-Type", patch.Merge)
	if event := next(); event.Type != "MODIFIED" {
		t.Errorf("change: %v", event)
	}
	call(t, "PATCH", web.URL+"/api/v1/nodes/a", `{"metadata":{"labels":{"role":"y"}}}`, "Content-Type", patch.Merge)
	if event := next(); event.Type != "DELETED" {
		t.Errorf("no longer selected: %v", event)
	}
}

func TestWatchFromTheForgottenPast(t *testing.T) {
	s, web := serve(t, admin)
	create(t, s, "a", store.Object{})
	for i := 0; i < 3000; i++ {
		_, err := s.Update(store.Key{Resource: "nodes", Name: "a"}, func(o store.Object) (store.Object, error) {
			o["n"] = float64(i)
			return o, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	code, event := call(t, "GET", web.URL+"/api/v1/nodes?watch=true&resourceVersion=1", "")
	if code != 200 || event["type"] != "ERROR" || store.Field(event, "object", "code") != 410.0 {
		t.Errorf("%d %v", code, event)
	}
}

func TestRightsOfANode(t *testing.T) {
	s, web := serve(t, User{Name: "system:node:a", Groups: []string{Nodes}})
	create(t, s, "a", nil)
	create(t, s, "b", nil)
	for request, want := range map[string]int{
		"GET nodes": 200, "PATCH nodes/a": 200, "PATCH nodes/b": 403, "DELETE nodes/a": 403, "GET secrets": 403,
	} {
		parts := strings.SplitN(request, " ", 2)
		if code, status := call(t, parts[0], web.URL+"/api/v1/"+parts[1], "{}", "Content-Type", patch.Merge); code != want {
			t.Errorf("%s: %d %v", request, code, status)
		}
	}
}

func TestOddRequests(t *testing.T) {
	_, web := serve(t, admin)
	for request, want := range map[string]int{
		"GET /api/v1/nope": 404, "GET /apis/none/v1/x": 404, "POST /api/v1/nodes": 400, "PUT /api/v1/nodes": 405, "GET /version": 200,
		"GET /apis/apps/v1": 200, "GET /api/v1/namespaces/default/pods": 200,
	} {
		parts := strings.SplitN(request, " ", 2)
		if code, status := call(t, parts[0], web.URL+parts[1], ""); code != want {
			t.Errorf("%s: %d %v", request, code, status)
		}
	}
	if code, status := call(t, "POST", web.URL+"/api/v1/nodes", `{"x":"`+strings.Repeat("y", maxBody)+`"}`); code != 413 {
		t.Errorf("too large: %d %v", code, status)
	}
}
