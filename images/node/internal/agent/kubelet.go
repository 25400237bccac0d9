package agent

import (
	"context"
	"fmt"
	"math/rand"
	"time"

	"k3arm.dev/images/node/internal/imagestore"
	"k3arm.dev/images/node/internal/logging"
	"k3arm.dev/images/node/internal/network"
	"k3arm.dev/images/node/internal/timing"
)

// run plays the node's parts until the shutdown.
func (n *node) run() {
	ctx := n.shutdown.Context
	refusal := kubeletRefusal(n.Settings, cgroupV1())
	if refusal != nil {
		if sleep(ctx, timing.KubeletFailure-time.Since(n.started)) {
			n.shutdown.Request(fmt.Errorf("kubelet exited: %w", refusal))
			noise()
		}
		return
	}
	records := imagestore.Open(n.Settings.Text("data-dir"))
	n.startContainerd(ctx, records)
	if n.Ready != nil {
		for !n.Ready() && sleep(ctx, 100*time.Millisecond) {
		}
	}
	logging.Info("Running kubelet --config-dir=%s/etc/kubelet.conf.d --hostname-override=%s --node-ip=%s", n.directory, n.name, n.address)
	if !sleep(ctx, timing.KubeletStart) {
		return
	}
	n.occupyKubelet(ctx)
	if !n.register(ctx) {
		return
	}
	if !sleep(ctx, timing.NodeReady) {
		return
	}
	go n.beat(ctx, records)
	// The real node is Ready before flannel is up, too.
	if err := n.startNetwork(ctx); err != nil {
		n.shutdown.Request(err)
		noise()
		return
	}
	<-ctx.Done()
}

func (n *node) startContainerd(ctx context.Context, records *imagestore.Records) {
	n.complain()
	logging.Info("Logging containerd to %s/containerd/containerd.log", n.directory)
	logging.Info("Running containerd -c %s/etc/containerd/config.toml", n.directory)
	if !sleep(ctx, timing.Containerd) {
		return
	}
	logging.Info("containerd is now running")
	preload := imagestore.NewPreload(n.Settings.Text("data-dir"), records)
	preload.All()
	go preload.Watch(ctx)
}

// complain logs what a good start complains of in a container: none of it is a cause of anything.
func (n *node) complain() {
	logging.Info("Module overlay was already loaded")
	for _, module := range []string{"br_netfilter", "iptable_nat", "iptable_filter"} {
		logging.Warn("Failed to load kernel module %s with modprobe", module)
	}
	logging.Info("Set sysctl 'net/netfilter/nf_conntrack_max' to 131072")
	logging.Error("Failed to set sysctl: open /proc/sys/net/netfilter/nf_conntrack_max: permission denied")
}

// startNetwork makes interface and rules. With flannel's backend "none" the node stays without, and NotReady.
func (n *node) startNetwork(ctx context.Context) error {
	flannel := n.flannel(n.waitForRange(ctx))
	delay := timing.AgentNetwork
	if n.Ready != nil {
		delay = timing.ServerNetwork
	}
	if !sleep(ctx, delay) {
		return nil
	}
	rules := network.Rules{
		NodeAddress: n.address.String(), PodCIDR: flannel.PodCIDR, Ranges: flannel.Ranges, Port: n.cluster.HTTPSPort,
		KubeProxy: !n.cluster.DisableKubeProxy, NetworkPolicy: !n.cluster.DisableNetPolicy, Flannel: flannel.Backend != "none",
	}
	if rules.Flannel {
		if err := flannel.Up(); err != nil {
			return fmt.Errorf("flannel exited: %w", err)
		}
	}
	if err := rules.Apply(); err != nil {
		logging.Klog('E', "proxier.go:1473", "\"Failed to execute iptables-restore\" err=%q", err)
	}
	go n.routes(ctx, flannel)
	return nil
}

func (n *node) flannel(cidr string) network.Flannel {
	return network.Flannel{Backend: n.cluster.FlannelBackend, Address: n.address, PodCIDR: cidr, Ranges: n.cluster.Ranges, Settings: n.Settings}
}

// noise is what the parts of k3s go on logging when one of them has failed: nothing of it tells the cause.
func noise() {
	parts := []string{
		"kube-apiserver", "kube-scheduler", "kube-controller-manager", "cloud-controller-manager", "kube-proxy", "flannel",
		"helm-controller", "node-password", "servicelb", "tunnel",
	}
	pause := timing.Noise / time.Duration(3*len(parts))
	for i, part := range parts {
		logging.Klog('I', fmt.Sprintf("controller.go:%d", 120+rand.Intn(80)), "Shutting down %s", part)
		time.Sleep(pause)
		logging.Klog('W', fmt.Sprintf("reflector.go:%d", 480+i), "\"Watch ended\" part=%q err=\"context canceled\"", part)
		time.Sleep(pause)
		if i%3 == 0 {
			logging.Error("Error while stopping %s: context canceled", part)
		} else {
			logging.Klog('I', "secure_serving.go:259", "Stopped listening for %s", part)
		}
		time.Sleep(pause)
	}
}
