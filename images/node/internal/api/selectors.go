package api

import (
	"fmt"
	"net/url"
	"strings"

	"k3arm.dev/images/node/internal/store"
)

// selector tells whether an object is wanted.
type selector func(store.Object) bool

// parseSelectors reads labelSelector and fieldSelector of a query.
func parseSelectors(query url.Values) (selector, error) {
	var all []selector
	for _, requirement := range splitOutside(query.Get("labelSelector")) {
		one, err := labelRequirement(requirement)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	for _, requirement := range splitOutside(query.Get("fieldSelector")) {
		one, err := fieldRequirement(requirement)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return func(object store.Object) bool {
		for _, one := range all {
			if !one(object) {
				return false
			}
		}
		return true
	}, nil
}

// splitOutside splits at commas that are not inside parentheses.
func splitOutside(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, c := range text + "," {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			if part := strings.TrimSpace(text[start:i]); part != "" {
				parts = append(parts, part)
			}
			start = i + 1
		}
	}
	return parts
}

func fieldRequirement(text string) (selector, error) {
	path, value, wanted, ok := equality(text)
	if !ok {
		return nil, fmt.Errorf("invalid selector: %q; can't understand it", text)
	}
	return func(object store.Object) bool {
		found := store.Field(object, strings.Split(path, ".")...)
		if found == nil {
			found = map[bool]interface{}{true: false, false: ""}[value == "true" || value == "false"]
		}
		return (fmt.Sprint(found) == value) == wanted
	}, nil
}

// equality reads `a=b`, `a==b` and `a!=b`.
func equality(text string) (name, value string, wanted, ok bool) {
	at := strings.Index(text, "=")
	if at < 1 {
		return "", "", false, false
	}
	name, value, wanted = text[:at], strings.TrimPrefix(text[at+1:], "="), true
	if strings.HasSuffix(name, "!") {
		name, wanted = name[:len(name)-1], false
	}
	return strings.TrimSpace(name), strings.TrimSpace(value), wanted, true
}

func labelRequirement(text string) (selector, error) {
	if name, value, wanted, ok := equality(text); ok {
		return onLabel(name, func(label string, present bool) bool { return (present && label == value) == wanted }), nil
	}
	fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ", ",", " ").Replace(text))
	switch {
	case len(fields) == 1 && strings.HasPrefix(text, "!"):
		return onLabel(strings.TrimPrefix(text, "!"), func(_ string, present bool) bool { return !present }), nil
	case len(fields) == 1:
		return onLabel(text, func(_ string, present bool) bool { return present }), nil
	case len(fields) >= 4 && (fields[1] == "in" || fields[1] == "notin") && fields[2] == "(" && fields[len(fields)-1] == ")":
		values := map[string]bool{}
		for _, value := range fields[3 : len(fields)-1] {
			values[value] = true
		}
		return onLabel(fields[0], func(label string, present bool) bool {
			return (present && values[label]) == (fields[1] == "in")
		}), nil
	}
	return nil, fmt.Errorf("unable to parse requirement: %q", text)
}

func onLabel(name string, test func(label string, present bool) bool) selector {
	return func(object store.Object) bool {
		label, present := store.Field(object, "metadata", "labels", name).(string)
		return test(label, present)
	}
}
