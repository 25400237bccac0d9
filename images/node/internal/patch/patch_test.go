package patch

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"k3arm.dev/images/node/internal/store"
)

const node = `{"metadata":{"name":"a","labels":{"x":"1","y":"2"},"finalizers":["f"]},
"spec":{"taints":[{"key":"k","effect":"NoSchedule"}]},
"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]}}`

func TestPatches(t *testing.T) {
	for name, c := range map[string]struct{ kind, patch, path, want string }{
		"merge sets":             {Merge, `{"metadata":{"labels":{"z":"3"}}}`, "labels", `{"x":"1","y":"2","z":"3"}`},
		"merge removes":          {Merge, `{"metadata":{"labels":{"x":null}}}`, "labels", `{"y":"2"}`},
		"strategic removes":      {Strategic, `{"metadata":{"labels":{"x":null,"z":"3"}}}`, "labels", `{"y":"2","z":"3"}`},
		"strategic primitive":    {Strategic, `{"metadata":{"finalizers":["g","f"]}}`, "finalizers", `["f","g"]`},
		"strategic drops":        {Strategic, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["f"]}}`, "finalizers", `null`},
		"strategic taints":       {Strategic, `{"spec":{"taints":[{"key":"n","effect":"NoExecute"}]}}`, "taints", `[{"key":"n","effect":"NoExecute"}]`},
		"strategic conditions":   {Strategic, `{"status":{"$setElementOrder/conditions":[{"type":"Ready"}],"conditions":[{"type":"Ready","status":"False"}]}}`, "conditions", `[{"type":"Ready","status":"False"},{"type":"DiskPressure","status":"False"}]`},
		"strategic deletes item": {Strategic, `{"status":{"conditions":[{"$patch":"delete","type":"Ready"}]}}`, "conditions", `[{"type":"DiskPressure","status":"False"}]`},
		"json add":               {JSON, `[{"op":"add","path":"/metadata/labels/a~1b","value":"c"}]`, "labels", `{"x":"1","y":"2","a/b":"c"}`},
		"json list":              {JSON, `[{"op":"add","path":"/metadata/finalizers/-","value":"g"},{"op":"remove","path":"/metadata/finalizers/0"}]`, "finalizers", `["g"]`},
		"json move":              {JSON, `[{"op":"move","from":"/metadata/labels/x","path":"/metadata/labels/w"}]`, "labels", `{"w":"1","y":"2"}`},
		"apply in YAML":          {Apply, "metadata:\n  labels: {z: \"3\"}\n", "labels", `{"x":"1","y":"2","z":"3"}`},
	} {
		result, err := To(decoded(t, node).(store.Object), c.kind, []byte(c.patch))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := find(result, c.path); !reflect.DeepEqual(got, decoded(t, c.want)) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func find(object store.Object, field string) interface{} {
	for _, part := range []string{"metadata", "spec", "status"} {
		if value := store.Field(object, part, field); value != nil && !reflect.ValueOf(value).IsZero() {
			return value
		}
	}
	return nil
}

func decoded(t *testing.T, text string) interface{} {
	t.Helper()
	var value interface{}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestRefusals(t *testing.T) {
	var test TestError
	_, err := To(decoded(t, node).(store.Object), JSON, []byte(`[{"op":"test","path":"/metadata/name","value":"b"}]`))
	if !errors.As(err, &test) {
		t.Errorf("test: %v", err)
	}
	var unsupported UnsupportedError
	if _, err = To(store.Object{}, "text/plain", []byte("{}")); !errors.As(err, &unsupported) {
		t.Errorf("media type: %v", err)
	}
	if _, err = To(store.Object{}, JSON, []byte(`[{"op":"remove","path":"/nothing"}]`)); err == nil {
		t.Error("a missing path was removed")
	}
}
