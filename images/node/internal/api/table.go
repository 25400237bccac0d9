package api

import (
	"fmt"
	"mime"
	"net/http"
	"sort"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/store"
)

// tableFormat gives the version of the Table that a request prefers, or nothing if it wants plain objects: kubectl prints what
// the server puts into the columns and knows none itself.
func tableFormat(r *http.Request) string {
	for _, part := range strings.Split(r.Header.Get("Accept"), ",") {
		mediaType, parameters, err := mime.ParseMediaType(part)
		if err != nil || mediaType != "application/json" {
			continue
		}
		if parameters["as"] == "" {
			return ""
		}
		if parameters["as"] == "Table" && parameters["g"] == "meta.k8s.io" && strings.HasPrefix(parameters["v"], "v1") {
			return parameters["v"]
		}
	}
	return ""
}

type column struct {
	name     string
	priority int // above 0 only with -o wide
	cell     func(store.Object) string
}

func columnsOf(r resource) []column {
	name := column{"Name", 0, func(o store.Object) string { return store.Text(o, "metadata", "name") }}
	age := column{"Age", 0, func(o store.Object) string { return since(store.Text(o, "metadata", "creationTimestamp")) }}
	info := func(field string) func(store.Object) string {
		return func(o store.Object) string { return store.Text(o, "status", "nodeInfo", field) }
	}
	address := func(kind string) func(store.Object) string {
		return func(o store.Object) string { return nodeAddress(o, kind) }
	}
	switch r.key() {
	case nodes.key():
		return []column{name, {"Status", 0, nodeStatus}, {"Roles", 0, nodeRoles}, age, {"Version", 0, info("kubeletVersion")},
			{"Internal-IP", 1, address("InternalIP")}, {"External-IP", 1, address("ExternalIP")}, {"OS-Image", 1, info("osImage")},
			{"Kernel-Version", 1, info("kernelVersion")}, {"Container-Runtime", 1, info("containerRuntimeVersion")}}
	case namespaces.key():
		return []column{name, {"Status", 0, func(o store.Object) string { return store.Text(o, "status", "phase") }}, age}
	}
	return []column{name, age}
}

func table(version string, r resource, objects []store.Object, resourceVersion string) store.Object {
	columns := columnsOf(r)
	definitions := make([]interface{}, 0, len(columns))
	for _, c := range columns {
		format := map[bool]string{true: "name"}[c.name == "Name"]
		definitions = append(definitions, store.Object{
			"name": c.name, "type": "string", "format": format, "description": "", "priority": c.priority,
		})
	}
	rows := make([]interface{}, 0, len(objects))
	for _, object := range objects {
		cells := make([]interface{}, 0, len(columns))
		for _, c := range columns {
			cells = append(cells, c.cell(object))
		}
		metadata := store.Object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/" + version, "metadata": object["metadata"]}
		rows = append(rows, store.Object{"cells": cells, "object": metadata})
	}
	return store.Object{
		"kind": "Table", "apiVersion": "meta.k8s.io/" + version, "metadata": store.Object{"resourceVersion": resourceVersion},
		"columnDefinitions": definitions, "rows": rows,
	}
}

func nodeStatus(node store.Object) string {
	status := "Unknown"
	conditions, _ := store.Field(node, "status", "conditions").([]interface{})
	for _, c := range conditions {
		condition, _ := c.(store.Object)
		if condition["type"] == "Ready" {
			status = map[bool]string{true: "Ready", false: "NotReady"}[condition["status"] == "True"]
		}
	}
	if on, _ := store.Field(node, "spec", "unschedulable").(bool); on {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(node store.Object) string {
	const prefix = "node-role.kubernetes.io/"
	var roles []string
	labels, _ := store.Field(node, "metadata", "labels").(store.Object)
	for label := range labels {
		if strings.HasPrefix(label, prefix) && label != prefix {
			roles = append(roles, strings.TrimPrefix(label, prefix))
		}
	}
	if len(roles) == 0 {
		return "<none>"
	}
	sort.Strings(roles)
	return strings.Join(roles, ",")
}

func nodeAddress(node store.Object, kind string) string {
	addresses, _ := store.Field(node, "status", "addresses").([]interface{})
	for _, a := range addresses {
		address, _ := a.(store.Object)
		if address["type"] == kind {
			return fmt.Sprint(address["address"])
		}
	}
	return "<none>"
}

// since writes an age the way kubectl shows them.
func since(timestamp string) string {
	from, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		return "<unknown>"
	}
	age := time.Since(from)
	if age < 0 {
		age = 0
	}
	seconds, minutes, hours := int(age.Seconds()), int(age.Minutes()), int(age.Hours())
	switch {
	case seconds < 120:
		return fmt.Sprintf("%ds", seconds)
	case minutes < 10:
		return fmt.Sprintf("%dm%ds", minutes, seconds%60)
	case hours < 3:
		return fmt.Sprintf("%dm", minutes)
	case hours < 8:
		return fmt.Sprintf("%dh%dm", hours, minutes%60)
	case hours < 48:
		return fmt.Sprintf("%dh", hours)
	}
	return fmt.Sprintf("%dd", hours/24)
}
