// Package api answers Kubernetes' HTTP interface over the store: discovery, objects of every kind, patches, tables and watches,
// enough for kubectl and for the kube crate. Only nodes mean anything; other objects are kept and nothing acts on them.
package api

import (
	"strings"

	"k3arm.dev/images/node/internal/store"
)

// resource is one kind of objects that the interface serves.
type resource struct {
	Group, Version, Plural, Kind string
	Namespaced                   bool
	Short                        []string
}

// key is the name under which the store knows it.
func (r resource) key() string {
	if r.Group == "" {
		return r.Plural
	}
	return r.Plural + "." + r.Group
}

func (r resource) apiVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// resources in the order of discovery. A * marks those without a namespace.
var resources = parseResources(`
v1 *nodes Node no
v1 *namespaces Namespace ns
v1 *persistentvolumes PersistentVolume pv
v1 configmaps ConfigMap cm
v1 endpoints Endpoints ep
v1 events Event ev
v1 persistentvolumeclaims PersistentVolumeClaim pvc
v1 pods Pod po
v1 replicationcontrollers ReplicationController rc
v1 secrets Secret
v1 serviceaccounts ServiceAccount sa
v1 services Service svc
apps/v1 daemonsets DaemonSet ds
apps/v1 deployments Deployment deploy
apps/v1 replicasets ReplicaSet rs
apps/v1 statefulsets StatefulSet sts
batch/v1 cronjobs CronJob cj
batch/v1 jobs Job
coordination.k8s.io/v1 leases Lease
discovery.k8s.io/v1 endpointslices EndpointSlice
events.k8s.io/v1 events Event ev
helm.cattle.io/v1 helmcharts HelmChart
k3s.cattle.io/v1 addons Addon
networking.k8s.io/v1 ingresses Ingress ing
networking.k8s.io/v1 networkpolicies NetworkPolicy netpol
policy/v1 poddisruptionbudgets PodDisruptionBudget pdb
rbac.authorization.k8s.io/v1 *clusterroles ClusterRole
rbac.authorization.k8s.io/v1 *clusterrolebindings ClusterRoleBinding
rbac.authorization.k8s.io/v1 roles Role
rbac.authorization.k8s.io/v1 rolebindings RoleBinding
storage.k8s.io/v1 *storageclasses StorageClass sc
`)

func parseResources(table string) []resource {
	var all []resource
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		fields := strings.Fields(line)
		r := resource{Version: fields[0], Plural: strings.TrimPrefix(fields[1], "*"), Kind: fields[2], Short: fields[3:]}
		r.Namespaced = r.Plural == fields[1]
		if at := strings.Index(fields[0], "/"); at >= 0 {
			r.Group, r.Version = fields[0][:at], fields[0][at+1:]
		}
		all = append(all, r)
	}
	return all
}

var (
	nodes      = mustFind("", "nodes")
	namespaces = mustFind("", "namespaces")
	pods       = mustFind("", "pods")
)

func mustFind(group, plural string) resource {
	for _, r := range resources {
		if r.Group == group && r.Plural == plural {
			return r
		}
	}
	panic("no resource " + plural)
}

var verbs = []interface{}{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func (r resource) discovery() store.Object {
	entry := store.Object{
		"name": r.Plural, "singularName": strings.ToLower(r.Kind), "namespaced": r.Namespaced, "kind": r.Kind, "verbs": verbs,
	}
	if len(r.Short) > 0 {
		entry["shortNames"] = r.Short
	}
	return entry
}

func (r resource) status() store.Object {
	return store.Object{
		"name": r.Plural + "/status", "singularName": "", "namespaced": r.Namespaced, "kind": r.Kind,
		"verbs": []interface{}{"get", "patch", "update"},
	}
}

// resourceList is what discovery says of one group and version.
func resourceList(group, version string) store.Object {
	var entries []interface{}
	for _, r := range resources {
		if r.Group == group && r.Version == version {
			entries = append(entries, r.discovery(), r.status())
		}
	}
	if entries == nil {
		return nil
	}
	if group == "" {
		entries = append(entries, store.Object{
			"name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
			"kind": "Eviction", "verbs": []interface{}{"create"},
		})
	}
	r := resource{Group: group, Version: version}
	return store.Object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": r.apiVersion(), "resources": entries}
}

func groupList() store.Object {
	var groups []interface{}
	seen := map[string]bool{"": true}
	for _, r := range resources {
		if !seen[r.Group] {
			seen[r.Group] = true
			groups = append(groups, group(r.Group))
		}
	}
	return store.Object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
}

func group(name string) store.Object {
	version := store.Object{"groupVersion": name + "/v1", "version": "v1"}
	return store.Object{"name": name, "versions": []interface{}{version}, "preferredVersion": version}
}
