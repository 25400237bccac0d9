package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"k3arm.dev/images/node/internal/config"
	"k3arm.dev/images/node/internal/imagestore"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/timing"
)

const leasesPath = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

// ourTaints are set by the control plane while a node is not Ready, and go when it is.
var ourTaints = []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}

// beat reports the node as Ready and keeps doing so. The status goes out at the start, also if the server knows it from an earlier
// one, and again when something changed or it has become old; the lease always.
func (n *node) beat(ctx context.Context, records *imagestore.Records) {
	for {
		images, _ := records.List()
		condition := ready()
		if n.cluster.FlannelBackend == "none" {
			condition = notReady("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized")
		} else if hasPause(images, n.Settings) {
			if err := n.flannel(n.waitForRange(ctx)).Bridge(); err != nil {
				logging.Klog('E', "kuberuntime_sandbox.go:70", "\"Failed to create sandbox for pod\" err=%q", err)
			}
		}
		if err := n.report(ctx, images, condition); err != nil && ctx.Err() == nil {
			logging.Klog('E', "kubelet_node_status.go:549", "\"Error updating node status, will retry\" err=%q", "error getting node \""+n.name+"\": "+err.Error())
		}
		if !sleep(ctx, timing.Heartbeat) {
			return
		}
	}
}

func hasPause(images []imagestore.Image, settings *config.Settings) bool {
	wanted := imagestore.Normalize(settings.Text("pause-image"))
	for _, image := range images {
		if image.Complete && image.Name == wanted {
			return true
		}
	}
	return false
}

func (n *node) report(ctx context.Context, images []imagestore.Image, condition object) error {
	if err := n.renewLease(ctx); err != nil {
		return err
	}
	path := nodesPath + "/" + n.name
	current, err := n.api(ctx, http.MethodGet, path, nil, "")
	if err != nil {
		return err
	}
	if time.Since(n.reported) >= timing.StatusReport || !sameStatus(current, images, condition) {
		status := object{"status": n.status(images, condition)}
		if _, err := n.api(ctx, http.MethodPatch, path+"/status", status, mergePatch); err != nil {
			return err
		}
		n.reported = time.Now()
		logging.Klog('I', "kubelet_node_status.go:431", "\"Fast updating node status as it just became ready\"")
	}
	if condition["status"] == "True" {
		return n.clearTaints(ctx, path, current)
	}
	return nil
}

// sameStatus tells whether the server knows the condition and the images already.
func sameStatus(current object, images []imagestore.Image, condition object) bool {
	status, _ := current["status"].(object)
	known, _ := status["images"].([]interface{})
	if len(known) != len(imageList(images)) {
		return false
	}
	conditions, _ := status["conditions"].([]interface{})
	for _, c := range conditions {
		if one, _ := c.(object); one["type"] == "Ready" {
			return one["status"] == condition["status"] && one["message"] == condition["message"]
		}
	}
	return false
}

func (n *node) clearTaints(ctx context.Context, path string, current object) error {
	spec, _ := current["spec"].(object)
	taints, _ := spec["taints"].([]interface{})
	kept := []interface{}{}
	for _, t := range taints {
		taint, _ := t.(object)
		if key, _ := taint["key"].(string); !contains(ourTaints, key) {
			kept = append(kept, t)
		}
	}
	if len(kept) == len(taints) {
		return nil
	}
	_, err := n.api(ctx, http.MethodPatch, path, object{"spec": object{"taints": kept}}, mergePatch)
	return err
}

func (n *node) renewLease(ctx context.Context) error {
	spec := object{
		"holderIdentity": n.name, "leaseDurationSeconds": 40, "renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
	_, err := n.api(ctx, http.MethodPatch, leasesPath+"/"+n.name, object{"spec": spec}, mergePatch)
	var refused answerError
	if errors.As(err, &refused) && refused.code == http.StatusNotFound {
		lease := object{"metadata": object{"name": n.name}, "spec": spec}
		_, err = n.api(ctx, http.MethodPost, leasesPath, lease, jsonType)
	}
	return err
}

// routes leads to the pods of the other nodes, as they come and go.
func (n *node) routes(ctx context.Context, flannel network.Flannel) {
	for flannel.Backend != "none" {
		list, err := n.api(ctx, http.MethodGet, nodesPath, nil, "")
		items, _ := list["items"].([]interface{})
		for _, i := range items {
			peer, name := peerOf(i)
			if err == nil && name != n.name && peer.PodCIDR != "" && peer.Address != nil {
				if err := flannel.Route(peer); err != nil {
					logging.Klog('E', "route_network.go:114", "\"Error adding route\" err=%q node=%q", err, name)
				}
			}
		}
		if !sleep(ctx, timing.Heartbeat) {
			return
		}
	}
}

func peerOf(item interface{}) (network.Peer, string) {
	other, _ := item.(object)
	metadata, _ := other["metadata"].(object)
	annotations, _ := metadata["annotations"].(object)
	spec, _ := other["spec"].(object)
	name, _ := metadata["name"].(string)
	cidr, _ := spec["podCIDR"].(string)
	public, _ := annotations["flannel.alpha.coreos.com/public-ip"].(string)
	return network.Peer{Address: net.ParseIP(public), PodCIDR: cidr}, name
}

// masked gives a node's arguments with the secrets blanked, as its annotation shows them.
func masked(settings *config.Settings) []string {
	shown := []string{string(settings.Role)}
	hide := false
	for _, argument := range settings.Arguments {
		parts := strings.SplitN(argument, "=", 2)
		secret := strings.Contains(parts[0], "token") && !strings.HasSuffix(parts[0], "-file") || parts[0] == "-t"
		switch {
		case hide:
			shown, hide = append(shown, "********"), false
		case len(parts) == 2 && secret:
			shown = append(shown, parts[0], "********")
		case len(parts) == 2:
			shown = append(shown, parts[0], parts[1])
		default:
			shown, hide = append(shown, argument), secret
		}
	}
	return shown
}
