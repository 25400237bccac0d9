package store

import "reflect"

// Leases is the resource of the nodes' heartbeats.
const Leases = "leases.coordination.k8s.io"

// Metadata gives an object's metadata, made if missing.
func Metadata(object Object) Object { return Child(object, "metadata") }

// Child gives an object's field that is an object itself, made if missing.
func Child(object Object, field string) Object {
	child, ok := object[field].(Object)
	if !ok {
		child = Object{}
		object[field] = child
	}
	return child
}

// Field follows a path of field names; it is nil where the path ends early.
func Field(object Object, path ...string) interface{} {
	var current interface{} = object
	for _, name := range path {
		next, ok := current.(Object)
		if !ok {
			return nil
		}
		current = next[name]
	}
	return current
}

// Text is Field for a string.
func Text(object Object, path ...string) string {
	text, _ := Field(object, path...).(string)
	return text
}

// Copy makes a deep copy.
func Copy(object Object) Object {
	return copyValue(object).(Object)
}

func copyValue(value interface{}) interface{} {
	switch value := value.(type) {
	case Object:
		copied := make(Object, len(value))
		for name, field := range value {
			copied[name] = copyValue(field)
		}
		return copied
	case []interface{}:
		copied := make([]interface{}, len(value))
		for i, item := range value {
			copied[i] = copyValue(item)
		}
		return copied
	default:
		return value
	}
}

func equal(a, b Object) bool { return reflect.DeepEqual(a, b) }
