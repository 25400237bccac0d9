package patch

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k3arm.dev/images/node/internal/store"
)

// TestError is a JSON patch whose `test` did not hold.
type TestError struct{ Path string }

func (e TestError) Error() string {
	return "the server rejected our request due to an error in our request: testing value " + e.Path + " failed"
}

type operation struct {
	Op    string      `json:"op"`
	Path  string      `json:"path"`
	From  string      `json:"from"`
	Value interface{} `json:"value"`
}

// applyJSON is RFC 6902.
func applyJSON(object store.Object, body []byte) (store.Object, error) {
	var operations []operation
	if err := json.Unmarshal(body, &operations); err != nil {
		return nil, err
	}
	var document interface{} = object
	for _, o := range operations {
		var err error
		if document, err = o.apply(document); err != nil {
			return nil, err
		}
	}
	result, ok := document.(store.Object)
	if !ok {
		return nil, fmt.Errorf("the patch leaves no object")
	}
	return result, nil
}

func (o operation) apply(document interface{}) (interface{}, error) {
	path := pointer(o.Path)
	switch o.Op {
	case "test":
		if value, ok := at(document, path); !ok || !reflect.DeepEqual(value, o.Value) {
			return nil, TestError{o.Path}
		}
		return document, nil
	case "add":
		return edit(document, path, insert(o.Value))
	case "replace":
		return edit(document, path, replace(o.Value))
	case "remove":
		return edit(document, path, remove)
	case "move", "copy":
		value, ok := at(document, pointer(o.From))
		if !ok {
			return nil, fmt.Errorf("%s of a missing path %s", o.Op, o.From)
		}
		if o.Op == "move" {
			var err error
			if document, err = edit(document, pointer(o.From), remove); err != nil {
				return nil, err
			}
		}
		return edit(document, path, insert(value))
	}
	return nil, fmt.Errorf("unexpected kind %q", o.Op)
}

func pointer(path string) []string {
	if path == "" {
		return nil
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[i])
	}
	return parts
}

func at(document interface{}, path []string) (interface{}, bool) {
	for _, name := range path {
		switch container := document.(type) {
		case store.Object:
			value, ok := container[name]
			if !ok {
				return nil, false
			}
			document = value
		case []interface{}:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(container) {
				return nil, false
			}
			document = container[i]
		default:
			return nil, false
		}
	}
	return document, true
}

// step changes a container at a name and gives the container back.
type step func(container interface{}, name string) (interface{}, error)

func edit(document interface{}, path []string, change step) (interface{}, error) {
	if len(path) == 0 {
		return nil, fmt.Errorf("the whole document cannot be patched")
	}
	if len(path) == 1 {
		return change(document, path[0])
	}
	child, ok := at(document, path[:1])
	if !ok {
		return nil, fmt.Errorf("missing path %q", path[0])
	}
	child, err := edit(child, path[1:], change)
	if err != nil {
		return nil, err
	}
	return replace(child)(document, path[0])
}

func insert(value interface{}) step {
	return func(container interface{}, name string) (interface{}, error) {
		switch container := container.(type) {
		case store.Object:
			container[name] = value
			return container, nil
		case []interface{}:
			i, err := strconv.Atoi(name)
			if name == "-" {
				i, err = len(container), nil
			}
			if err != nil || i < 0 || i > len(container) {
				return nil, fmt.Errorf("invalid index %q", name)
			}
			return append(container[:i:i], append([]interface{}{value}, container[i:]...)...), nil
		}
		return nil, fmt.Errorf("nothing can be added at %q", name)
	}
}

func replace(value interface{}) step {
	return func(container interface{}, name string) (interface{}, error) {
		if _, ok := at(container, []string{name}); !ok {
			return nil, fmt.Errorf("missing path %q", name)
		}
		if list, ok := container.([]interface{}); ok {
			i, _ := strconv.Atoi(name)
			list[i] = value
		} else {
			container.(store.Object)[name] = value
		}
		return container, nil
	}
}

func remove(container interface{}, name string) (interface{}, error) {
	if _, ok := at(container, []string{name}); !ok {
		return nil, fmt.Errorf("missing path %q", name)
	}
	if list, ok := container.([]interface{}); ok {
		i, _ := strconv.Atoi(name)
		return append(list[:i:i], list[i+1:]...), nil
	}
	delete(container.(store.Object), name)
	return container, nil
}
