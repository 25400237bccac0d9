package server

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/store"
	"k3arm.dev/images/node/internal/supervisor"
	"k3arm.dev/images/node/internal/timing"
)

// populate makes the objects that every cluster has from the beginning.
func (s *server) populate() {
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		_, _ = s.store.Create(store.Key{Resource: "namespaces", Name: name}, store.Object{
			"metadata": store.Object{"labels": store.Object{"kubernetes.io/metadata.name": name}},
			"spec":     store.Object{"finalizers": []interface{}{"kubernetes"}},
			"status":   store.Object{"phase": "Active"},
		})
	}
	_, _ = s.store.Create(store.Key{Resource: "services", Namespace: "default", Name: "kubernetes"}, store.Object{
		"spec": store.Object{"clusterIP": s.ranges.APIAddress().String(), "type": "ClusterIP", "ports": []interface{}{store.Object{
			"name": "https", "port": 443.0, "protocol": "TCP", "targetPort": float64(s.port()),
		}}},
	})
}

// parts are what a server deploys unless it is told not to. Here they are entries in a list, and nothing runs.
var parts = []string{"ccm", "coredns", "local-storage", "metrics-server", "rolebindings", "runtimes", "traefik"}

// deploy makes and removes the entries of the parts.
func (s *server) deploy() {
	disabled := map[string]bool{}
	for _, name := range s.settings.Fields("disable") {
		disabled[name] = true
	}
	for _, name := range parts {
		key := store.Key{Resource: "addons.k3s.cattle.io", Namespace: "kube-system", Name: name}
		path := filepath.Join(s.directory, "manifests", name+".yaml")
		if disabled[name] {
			_, _ = s.store.Delete(key)
			_ = os.Remove(path)
			continue
		}
		logging.Info("Writing manifest: %s", path)
		_ = os.MkdirAll(filepath.Dir(path), 0o700)
		_ = os.WriteFile(path, []byte("# would deploy "+name+"\n"), 0o600)
		_, _ = s.store.Create(key, store.Object{"spec": store.Object{"source": path}})
	}
}

// heard is when a node's lease was last seen to change; the clocks of the nodes do not matter.
type heard struct {
	version string
	at      time.Time
}

// control does what the controller manager does for nodes: address ranges for pods, and the state of nodes that went silent.
func (s *server) control() {
	seen := map[string]heard{}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-s.shutdown.Context.Done():
			return
		case <-ticker.C:
		}
		nodes, _ := s.store.List("nodes", "")
		for _, node := range nodes {
			s.assignRange(node)
			s.judge(node, seen)
			s.labelOwn(node)
		}
	}
}

// assignRange gives a new node the first /24 of the pods' addresses that is free.
func (s *server) assignRange(node store.Object) {
	if store.Text(node, "spec", "podCIDR") != "" {
		return
	}
	used := map[string]bool{}
	current, _ := s.store.List("nodes", "")
	for _, other := range current {
		used[store.Text(other, "spec", "podCIDR")] = true
	}
	for n := 0; ; n++ {
		cidr := s.ranges.NodeRange(n)
		switch {
		case cidr == "":
			logging.Klog('E', "range_allocator.go:400", "\"Failed to allocate cidr\" err=\"CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range\"")
			return
		case used[cidr]:
			continue
		}
		s.change(node, func(o store.Object) {
			store.Child(o, "spec")["podCIDR"] = cidr
			store.Child(o, "spec")["podCIDRs"] = []interface{}{cidr}
		})
		return
	}
}

// labelOwn gives the server's node its role once it is Ready: a fresh node has none for about a second.
func (s *server) labelOwn(node store.Object) {
	name := store.Text(node, "metadata", "name")
	labels, _ := store.Field(node, "metadata", "labels").(store.Object)
	if name != s.nodeName || labels["node-role.kubernetes.io/control-plane"] != nil || readiness(node) != "True" {
		return
	}
	s.change(node, func(o store.Object) {
		for label, value := range s.roleLabels() {
			store.Child(store.Metadata(o), "labels")[label] = value
		}
	})
	logging.Info("Labels and annotations have been set successfully on node: %s", name)
}

func (s *server) judge(node store.Object, seen map[string]heard) {
	name := store.Text(node, "metadata", "name")
	version := ""
	if lease, err := s.store.Get(store.Key{Resource: store.Leases, Namespace: "kube-node-lease", Name: name}); err == nil {
		version = store.Text(lease, "metadata", "resourceVersion")
	}
	last, known := seen[name]
	if !known || last.version != version {
		seen[name] = heard{version, time.Now()}
		return
	}
	if time.Since(last.at) > timing.Grace && readiness(node) != "Unknown" {
		logging.Klog('I', "node_lifecycle_controller.go:1004", "\"Node is not responding\" node=%q", name)
		s.change(node, markLost)
	}
}

func readiness(node store.Object) string {
	conditions, _ := store.Field(node, "status", "conditions").([]interface{})
	for _, c := range conditions {
		if condition, _ := c.(store.Object); condition["type"] == "Ready" {
			status, _ := condition["status"].(string)
			return status
		}
	}
	return ""
}

// markLost is what the controller manager makes of a node without a heartbeat; the node's kubelet undoes it.
func markLost(node store.Object) {
	now := time.Now().UTC().Format(time.RFC3339)
	conditions, _ := store.Field(node, "status", "conditions").([]interface{})
	for _, c := range conditions {
		condition, _ := c.(store.Object)
		condition["status"], condition["reason"] = "Unknown", "NodeStatusUnknown"
		condition["message"], condition["lastTransitionTime"] = "Kubelet stopped posting node status.", now
	}
	taints, _ := store.Field(node, "spec", "taints").([]interface{})
	for _, effect := range []string{"NoSchedule", "NoExecute"} {
		taints = append(taints, store.Object{"key": "node.kubernetes.io/unreachable", "effect": effect, "timeAdded": now})
	}
	store.Child(node, "spec")["taints"] = taints
}

func (s *server) change(node store.Object, edit func(store.Object)) {
	key := store.Key{Resource: "nodes", Name: store.Text(node, "metadata", "name")}
	_, err := s.store.Update(key, func(o store.Object) (store.Object, error) {
		edit(o)
		return o, nil
	})
	if err != nil {
		logging.Error("Failed to change node %s: %v", key.Name, err)
	}
}

// deleted clears what belongs to a deleted node: its lease, and the password that kept its name to it.
func (s *server) deleted(key store.Key, _ store.Object) {
	if key.Resource != "nodes" {
		return
	}
	_, _ = s.store.Delete(supervisor.PasswordKey(strings.ToLower(key.Name)))
	_, _ = s.store.Delete(store.Key{Resource: store.Leases, Namespace: "kube-node-lease", Name: key.Name})
}
