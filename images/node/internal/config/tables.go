package config

// The names, types and defaults of k3s 1.36's flags, from its documentation and `--help`. An underscore in a default is a space.

// nodeFlags are those that both roles have.
const nodeFlags = `
[config]
config,c string =/etc/rancher/k3s/config.yaml $K3S_CONFIG_FILE
[logging]
debug bool $K3S_DEBUG
v int =0
vmodule string
log,l string
alsologtostderr bool
[listener]
bind-address string
[cluster]
token,t string $K3S_TOKEN
token-file string $K3S_TOKEN_FILE
server,s string $K3S_URL
[data]
data-dir,d string =/var/lib/rancher/k3s $K3S_DATA_DIR
[agent/node]
node-name string $K3S_NODE_NAME
with-node-id bool
node-label list
node-taint list
image-credential-provider-bin-dir string =/var/lib/rancher/credentialprovider/bin
image-credential-provider-config string =/var/lib/rancher/credentialprovider/config.yaml
selinux bool $K3S_SELINUX
lb-server-port int =6444 $K3S_LB_SERVER_PORT
protect-kernel-defaults bool
[agent/runtime]
docker bool
container-runtime-endpoint string
default-runtime string
image-service-endpoint string
pause-image string =rancher/mirrored-pause:3.10.2
snapshotter string =overlayfs
private-registry string =/etc/rancher/k3s/registries.yaml
airgap-extra-registry list hidden
[agent/containerd]
disable-default-registry-endpoint bool
nonroot-devices bool
[agent/networking]
node-ip,i list
node-external-ip list
node-internal-dns list
node-external-dns list
resolv-conf string $K3S_RESOLV_CONF
flannel-iface string
flannel-conf string
flannel-cni-conf string
vpn-auth string $K3S_VPN_AUTH
vpn-auth-file string $K3S_VPN_AUTH_FILE
[agent/flags]
kubelet-arg list
kube-proxy-arg list
[experimental]
enable-pprof bool
rootless bool
prefer-bundled-bin bool
`

const agentFlags = `
[agent/networking]
disable-apiserver-lb bool
`

const serverFlags = `
[listener]
https-listen-port int =6443
supervisor-port int =0 $K3S_SUPERVISOR_PORT hidden
apiserver-port int =0 $K3S_APISERVER_PORT hidden
apiserver-bind-address string $K3S_APISERVER_BIND_ADDRESS hidden
advertise-address string
advertise-port int =0
tls-san list
tls-san-security bool =true
[networking]
cluster-cidr list
service-cidr list
service-node-port-range string =30000-32767
cluster-dns list
cluster-domain string =cluster.local
flannel-backend string =vxlan
flannel-ipv6-masq bool
flannel-external-ip bool
egress-selector-mode string =agent
servicelb-namespace string =kube-system
[client]
write-kubeconfig,o string $K3S_KUBECONFIG_OUTPUT
write-kubeconfig-mode string $K3S_KUBECONFIG_MODE
write-kubeconfig-group string $K3S_KUBECONFIG_GROUP
write-kubeconfig-name string =default $K3S_KUBECONFIG_NAME
[helm]
helm-job-image string
[cluster]
agent-token string $K3S_AGENT_TOKEN
agent-token-file string $K3S_AGENT_TOKEN_FILE
cluster-init bool $K3S_CLUSTER_INIT
cluster-reset bool $K3S_CLUSTER_RESET
cluster-reset-restore-path string
[flags]
kube-apiserver-arg list
etcd-arg list
kube-scheduler-arg list
kube-controller-manager-arg list
kube-controller-arg list hidden
kube-cloud-controller-manager-arg list
kube-cloud-controller-arg list hidden
helm-controller-arg list
[db]
kine-tls bool hidden
datastore-endpoint string $K3S_DATASTORE_ENDPOINT
datastore-cafile string $K3S_DATASTORE_CAFILE
datastore-certfile string $K3S_DATASTORE_CERTFILE
datastore-keyfile string $K3S_DATASTORE_KEYFILE
etcd-expose-metrics bool
etcd-disable-snapshots bool
etcd-snapshot-name string =etcd-snapshot
etcd-snapshot-schedule-cron string =0_*/12_*_*_*
etcd-snapshot-reconcile-interval duration =10m0s
etcd-snapshot-retention int =5
etcd-snapshot-dir string
etcd-snapshot-compress bool
etcd-s3 bool
etcd-s3-endpoint string =s3.amazonaws.com
etcd-s3-endpoint-ca string
etcd-s3-skip-ssl-verify bool
etcd-s3-access-key string $AWS_ACCESS_KEY_ID
etcd-s3-secret-key string $AWS_SECRET_ACCESS_KEY
etcd-s3-session-token string $AWS_SESSION_TOKEN
etcd-s3-bucket string
etcd-s3-bucket-lookup-type string
etcd-s3-region string =us-east-1
etcd-s3-folder string
etcd-s3-retention int =5
etcd-s3-proxy string
etcd-s3-config-secret string
etcd-s3-insecure bool
etcd-s3-timeout duration =5m0s
[storage]
default-local-storage-path string
secrets-encryption bool
secrets-encryption-provider string =aescbc
[components]
disable list
disable-scheduler bool
disable-cloud-controller bool
disable-kube-proxy bool
disable-network-policy bool
disable-helm-controller bool
disable-apiserver bool hidden
disable-controller-manager bool hidden
disable-etcd bool hidden
disable-agent bool hidden
embedded-registry bool
supervisor-metrics bool
[agent/runtime]
system-default-registry string $K3S_SYSTEM_DEFAULT_REGISTRY
`
