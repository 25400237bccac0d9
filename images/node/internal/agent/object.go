package agent

import (
	"bufio"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"k3arm.dev/images/node/internal/imagestore"
	"k3arm.dev/images/node/internal/version"
)

func (n *node) labels() object {
	labels := object{
		"kubernetes.io/arch": runtime.GOARCH, "kubernetes.io/os": "linux", "kubernetes.io/hostname": n.name,
		"beta.kubernetes.io/arch": runtime.GOARCH, "beta.kubernetes.io/os": "linux",
		"node.kubernetes.io/instance-type": "k3s", "beta.kubernetes.io/instance-type": "k3s",
	}
	for _, text := range n.Settings.Fields("node-label") {
		parts := append(strings.SplitN(text, "=", 2), "")
		labels[parts[0]] = parts[1]
	}
	return labels
}

func (n *node) annotations() object {
	host, _ := os.Hostname()
	arguments, _ := json.Marshal(masked(n.Settings))
	sum := sha256.Sum256(arguments)
	annotations := object{
		"k3s.io/hostname": host, "k3s.io/internal-ip": n.address.String(), "k3s.io/node-args": string(arguments), "k3s.io/node-env": "{}",
		"k3s.io/node-config-hash":                                base32.StdEncoding.EncodeToString(sum[:]),
		"flannel.alpha.coreos.com/backend-type":                  n.cluster.FlannelBackend,
		"flannel.alpha.coreos.com/kube-subnet-manager":           "true",
		"flannel.alpha.coreos.com/public-ip":                     n.address.String(),
		"node.alpha.kubernetes.io/ttl":                           "0",
		"volumes.kubernetes.io/controller-managed-attach-detach": "true",
	}
	if external := n.Settings.Fields("node-external-ip"); len(external) > 0 {
		annotations["k3s.io/external-ip"] = strings.Join(external, ",")
	}
	return annotations
}

// status is the node's own account of itself.
func (n *node) status(images []imagestore.Image, ready object) object {
	now := time.Now().UTC().Format(time.RFC3339)
	conditions := []interface{}{}
	for _, c := range [][3]string{
		{"MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		{"DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		{"PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
	} {
		conditions = append(conditions, object{"type": c[0], "status": "False", "reason": c[1], "message": c[2]})
	}
	conditions = append(conditions, ready)
	for _, c := range conditions {
		c.(object)["lastHeartbeatTime"], c.(object)["lastTransitionTime"] = now, now
	}
	capacity := n.capacity()
	return object{
		"capacity": capacity, "allocatable": capacity, "conditions": conditions, "addresses": n.addresses(),
		"daemonEndpoints": object{"kubeletEndpoint": object{"Port": 10250}}, "nodeInfo": nodeInfo(), "images": imageList(images),
	}
}

func ready() object {
	return object{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
}

func notReady(why string) object {
	return object{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": why}
}

func (n *node) addresses() []interface{} {
	addresses := []interface{}{object{"type": "InternalIP", "address": n.address.String()}}
	for _, external := range n.Settings.Fields("node-external-ip") {
		addresses = append(addresses, object{"type": "ExternalIP", "address": external})
	}
	return append(addresses, object{"type": "Hostname", "address": n.name})
}

func (n *node) capacity() object {
	var disk unix.Statfs_t
	_ = unix.Statfs(n.directory, &disk)
	return object{
		"cpu": fmt.Sprint(runtime.NumCPU()), "memory": memory(), "pods": "110",
		"ephemeral-storage": fmt.Sprintf("%dKi", disk.Blocks*uint64(disk.Bsize)/1024), "hugepages-2Mi": "0",
	}
}

func memory() string {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return "0"
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "MemTotal:" {
			return fields[1] + "Ki"
		}
	}
	return "0"
}

func nodeInfo() object {
	var system unix.Utsname
	_ = unix.Uname(&system)
	machine := firstLine("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
	return object{
		"architecture": runtime.GOARCH, "operatingSystem": "linux", "osImage": osImage(),
		"kernelVersion": unix.ByteSliceToString(system.Release[:]), "kubeletVersion": version.K3s, "kubeProxyVersion": "",
		"containerRuntimeVersion": "containerd://" + version.Containerd,
		"machineID":               machine, "systemUUID": machine, "bootID": firstLine("/proc/sys/kernel/random/boot_id"),
	}
}

func firstLine(paths ...string) string {
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
			return strings.TrimSpace(strings.SplitN(string(content), "\n", 2)[0])
		}
	}
	return ""
}

// osImage reads what the image calls itself.
func osImage() string {
	content, _ := os.ReadFile("/etc/os-release")
	for _, line := range strings.Split(string(content), "\n") {
		if strings.HasPrefix(line, "PRETTY_NAME=") {
			return strings.Trim(strings.TrimPrefix(line, "PRETTY_NAME="), "\"")
		}
	}
	return "Unknown"
}

// imageList shows what could be run from; a kubelet reports fifty images at most.
func imageList(images []imagestore.Image) []interface{} {
	list := []interface{}{}
	for _, image := range images {
		if image.Complete && len(list) < 50 {
			list = append(list, object{"names": []interface{}{image.Name}, "sizeBytes": image.Size})
		}
	}
	return list
}
