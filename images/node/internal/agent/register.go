package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/logging"
)

const (
	mergePatch = "application/merge-patch+json"
	jsonType   = "application/json"
	nodesPath  = "/api/v1/nodes"
)

type object = map[string]interface{}

// register makes the node's object, or takes the one of an earlier start over.
func (n *node) register(ctx context.Context) bool {
	logging.Klog('I', "kubelet_node_status.go:75", "\"Attempting to register node\" node=%q", n.name)
	for {
		err := n.tryRegister(ctx)
		if err == nil {
			logging.Klog('I', "kubelet_node_status.go:78", "\"Successfully registered node\" node=%q", n.name)
			logging.Info("Annotations and labels have been set successfully on node: %s", n.name)
			return true
		}
		logging.Klog('E', "kubelet_node_status.go:107", "\"Unable to register node with API server\" err=%q node=%q", err, n.name)
		if !sleep(ctx, time.Second) {
			return false
		}
	}
}

func (n *node) tryRegister(ctx context.Context) error {
	_, err := n.api(ctx, http.MethodPost, nodesPath, object{
		"kind": "Node", "apiVersion": "v1",
		"metadata": object{"name": n.name, "labels": n.labels(), "annotations": n.annotations()},
		"spec":     object{"providerID": "k3s://" + n.name, "taints": n.taints()},
		"status":   n.status(nil, notReady("container runtime network not ready")),
	}, jsonType)
	var refused answerError
	if errors.As(err, &refused) && refused.code == http.StatusConflict {
		metadata := object{"labels": n.labels(), "annotations": n.annotations()}
		_, err = n.api(ctx, http.MethodPatch, nodesPath+"/"+n.name, object{"metadata": metadata}, mergePatch)
	}
	return err
}

// taints are those of the settings, and the one that keeps pods away until the node is Ready. They count at registration only.
func (n *node) taints() []interface{} {
	taints := []interface{}{object{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}}
	for _, text := range n.Settings.Fields("node-taint") {
		keyAndValue, effect := text, ""
		if at := strings.LastIndex(text, ":"); at >= 0 {
			keyAndValue, effect = text[:at], text[at+1:]
		}
		parts := strings.SplitN(keyAndValue, "=", 2)
		taint := object{"key": parts[0], "effect": effect}
		if len(parts) == 2 && parts[1] != "" {
			taint["value"] = parts[1]
		}
		taints = append(taints, taint)
	}
	return taints
}

// waitForRange waits for the pods' addresses that the server gives the node.
func (n *node) waitForRange(ctx context.Context) string {
	for {
		current, err := n.api(ctx, http.MethodGet, nodesPath+"/"+n.name, nil, "")
		if err == nil {
			spec, _ := current["spec"].(object)
			if cidr, _ := spec["podCIDR"].(string); cidr != "" {
				logging.Info("Flannel found PodCIDR assigned for node %s", n.name)
				return cidr
			}
		}
		if !sleep(ctx, 300*time.Millisecond) {
			return "10.42.0.0/24"
		}
	}
}
