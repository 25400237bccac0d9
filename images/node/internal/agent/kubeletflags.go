package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v2"

	"k3arm.dev/images/node/internal/config"
)

// kubeletFlags are the names that the kubelet of Kubernetes 1.36 takes, from its reference page.
const kubeletFlags = `
address allowed-unsafe-sysctls anonymous-auth application-metrics-count-limit authentication-token-webhook
authentication-token-webhook-cache-ttl authorization-mode authorization-webhook-cache-authorized-ttl
authorization-webhook-cache-unauthorized-ttl boot-id-file bootstrap-kubeconfig cert-dir cgroup-driver cgroup-root cgroups-per-qos
client-ca-file cloud-config cloud-provider cluster-dns cluster-domain config config-dir container-hints
container-log-max-files container-log-max-size container-runtime-endpoint containerd containerd-namespace contention-profiling
cpu-cfs-quota cpu-cfs-quota-period cpu-manager-policy cpu-manager-policy-options cpu-manager-reconcile-period
enable-controller-attach-detach enable-debugging-handlers enable-load-reader enable-server enforce-node-allocatable event-burst
event-qps event-storage-age-limit event-storage-event-limit eviction-hard eviction-max-pod-grace-period eviction-minimum-reclaim
eviction-pressure-transition-period eviction-soft eviction-soft-grace-period exit-on-lock-contention
experimental-allocatable-ignore-eviction fail-cgroupv1 fail-swap-on feature-gates file-check-frequency global-housekeeping-interval
hairpin-mode healthz-bind-address healthz-port hostname-override housekeeping-interval http-check-frequency
image-credential-provider-bin-dir image-credential-provider-config image-gc-high-threshold image-gc-low-threshold
image-service-endpoint keep-terminated-pod-volumes kernel-memcg-notification kube-api-burst kube-api-content-type kube-api-qps
kube-reserved kube-reserved-cgroup kubeconfig kubelet-cgroups local-storage-capacity-isolation lock-file log-cadvisor-usage
log-flush-frequency log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
logging-format machine-id-file make-iptables-util-chains manifest-url manifest-url-header max-open-files max-pods
maximum-dead-containers maximum-dead-containers-per-container memory-manager-policy minimum-container-ttl-duration
minimum-image-ttl-duration node-ip node-labels node-status-max-images node-status-update-frequency oom-score-adj pod-cidr
pod-infra-container-image pod-manifest-path pod-max-pids pods-per-core port protect-kernel-defaults provider-id qos-reserved
read-only-port register-node register-schedulable register-with-taints registry-burst registry-qps reserved-cpus reserved-memory
resolv-conf root-dir rotate-certificates rotate-server-certificates runonce runtime-cgroups runtime-request-timeout
seccomp-default serialize-image-pulls storage-driver-buffer-duration storage-driver-db storage-driver-host
storage-driver-password storage-driver-secure storage-driver-table storage-driver-user streaming-connection-idle-timeout
sync-frequency system-cgroups system-reserved system-reserved-cgroup tls-cert-file tls-cipher-suites tls-min-version
tls-private-key-file topology-manager-policy topology-manager-policy-options topology-manager-scope v vmodule
volume-plugin-dir volume-stats-agg-period
`

// kubeletRefusal is why the kubelet would exit with these arguments on this machine, or nothing.
func kubeletRefusal(settings *config.Settings, cgroupV1 bool) error {
	known := map[string]bool{}
	for _, name := range strings.Fields(kubeletFlags) {
		known[name] = true
	}
	allowed := failCgroupV1Off(settings)
	for _, argument := range settings.List("kubelet-arg") {
		parts := strings.SplitN(strings.TrimLeft(argument, "-"), "=", 2)
		if !known[parts[0]] {
			return fmt.Errorf("failed to parse kubelet flag: unknown flag: --%s", parts[0])
		}
		if parts[0] == "fail-cgroupv1" {
			allowed = len(parts) == 2 && parts[1] == "false"
		}
	}
	if cgroupV1 && !allowed {
		return fmt.Errorf("failed to validate kubelet configuration, error: kubelet is configured to not run on a host using cgroup v1. " +
			"cgroup v1 support is unsupported and will be removed in a future release, path: &TypeMeta{Kind:,APIVersion:,}")
	}
	return nil
}

// failCgroupV1Off looks into the drop-ins of the kubelet's configuration.
func failCgroupV1Off(settings *config.Settings) bool {
	off := false
	files, _ := filepath.Glob(filepath.Join(settings.Text("data-dir"), "agent", "etc", "kubelet.conf.d", "*.conf"))
	for _, file := range files {
		var content struct {
			FailCgroupV1 *bool `yaml:"failCgroupV1"`
		}
		data, err := os.ReadFile(file)
		if err == nil && yaml.Unmarshal(data, &content) == nil && content.FailCgroupV1 != nil {
			off = !*content.FailCgroupV1
		}
	}
	return off
}
