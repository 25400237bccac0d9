// Package patch applies the four kinds of patches that Kubernetes' clients send. Server-side apply is a strategic merge here:
// nobody keeps account of field managers.
package patch

import (
	"encoding/json"
	"fmt"
	"strings"

	"gopkg.in/yaml.v2"

	"k3arm.dev/images/node/internal/store"
)

// The media types of patches.
const (
	JSON      = "application/json-patch+json"
	Merge     = "application/merge-patch+json"
	Strategic = "application/strategic-merge-patch+json"
	Apply     = "application/apply-patch+yaml"
)

// UnsupportedError is a patch of another media type.
type UnsupportedError struct{ MediaType string }

func (e UnsupportedError) Error() string { return "unsupported patch type " + e.MediaType }

// To applies a patch to an object, which may be changed by it.
func To(object store.Object, mediaType string, body []byte) (store.Object, error) {
	if mediaType == JSON {
		return applyJSON(object, body)
	}
	changes, err := Decode(mediaType, body)
	if err != nil {
		return nil, err
	}
	switch mediaType {
	case Merge:
		return merge(object, changes).(store.Object), nil
	case Strategic, Apply:
		return strategic(object, changes), nil
	}
	return nil, UnsupportedError{mediaType}
}

// Decode reads a patch that has the form of an object.
func Decode(mediaType string, body []byte) (store.Object, error) {
	var changes store.Object
	if mediaType == Apply && !strings.HasPrefix(strings.TrimSpace(string(body)), "{") {
		var content interface{}
		if err := yaml.Unmarshal(body, &content); err != nil {
			return nil, err
		}
		changes, _ = plain(content).(store.Object)
		if changes == nil {
			return nil, fmt.Errorf("the patch is not an object")
		}
		return changes, nil
	}
	if err := json.Unmarshal(body, &changes); err != nil || changes == nil {
		return nil, fmt.Errorf("the patch is not a JSON object: %v", err)
	}
	return changes, nil
}

// plain gives YAML's values the types that JSON's have.
func plain(value interface{}) interface{} {
	switch value := value.(type) {
	case map[interface{}]interface{}:
		object := store.Object{}
		for name, field := range value {
			object[fmt.Sprint(name)] = plain(field)
		}
		return object
	case []interface{}:
		for i := range value {
			value[i] = plain(value[i])
		}
		return value
	case int:
		return float64(value)
	default:
		return value
	}
}

// merge is RFC 7386.
func merge(target, change interface{}) interface{} {
	changes, ok := change.(store.Object)
	if !ok {
		return change
	}
	object, ok := target.(store.Object)
	if !ok {
		object = store.Object{}
	}
	for name, value := range changes {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], value)
		}
	}
	return object
}

// listKeys are the lists that a strategic merge merges item by item, with the field that tells items apart; an empty one
// stands for lists of plain values. All others, such as taints, are replaced.
var listKeys = map[string]string{
	"conditions":       "type",
	"addresses":        "type",
	"ownerReferences":  "uid",
	"containers":       "name",
	"initContainers":   "name",
	"volumes":          "name",
	"env":              "name",
	"imagePullSecrets": "name",
	"finalizers":       "",
	"podCIDRs":         "",
}

func strategic(object, changes store.Object) store.Object {
	if changes["$patch"] == "replace" {
		delete(changes, "$patch")
		return changes
	}
	for name, value := range changes {
		switch {
		case strings.HasPrefix(name, "$deleteFromPrimitiveList/"):
			list := strings.TrimPrefix(name, "$deleteFromPrimitiveList/")
			object[list] = without(object[list], value)
		case strings.HasPrefix(name, "$"): // order and retention of keys: nothing here depends on them
		case value == nil:
			delete(object, name)
		default:
			object[name] = strategicValue(name, object[name], value)
		}
	}
	return object
}

func strategicValue(name string, before, change interface{}) interface{} {
	switch change := change.(type) {
	case store.Object:
		object, ok := before.(store.Object)
		if !ok {
			object = store.Object{}
		}
		return strategic(object, change)
	case []interface{}:
		if key, ok := listKeys[name]; ok {
			list, _ := before.([]interface{})
			return mergeList(list, change, key)
		}
		return change
	default:
		return change
	}
}

func mergeList(list, changes []interface{}, key string) []interface{} {
	for _, change := range changes {
		at := -1
		item, isObject := change.(store.Object)
		for i := range list {
			if present, ok := list[i].(store.Object); ok && isObject && present[key] == item[key] || !isObject && list[i] == change {
				at = i
			}
		}
		switch {
		case isObject && item["$patch"] == "replace" && len(item) == 1:
			list = nil
		case isObject && item["$patch"] == "delete":
			if at >= 0 {
				list = append(list[:at:at], list[at+1:]...)
			}
		case at < 0:
			list = append(list, change)
		case isObject:
			list[at] = strategic(list[at].(store.Object), item)
		}
	}
	return list
}

func without(list, removed interface{}) []interface{} {
	var kept []interface{}
	items, _ := list.([]interface{})
	gone, _ := removed.([]interface{})
	for _, item := range items {
		found := false
		for _, g := range gone {
			found = found || g == item
		}
		if !found {
			kept = append(kept, item)
		}
	}
	return kept
}
