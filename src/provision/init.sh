# PID 1 of a node. k3s as PID 1 would keep a second, idle process of 20 MiB for what these lines do.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  # cgroup v2: processes may not sit where controllers are handed to children.
  mkdir -p /sys/fs/cgroup/init
  while read -r pid; do
    echo "$pid" > /sys/fs/cgroup/init/cgroup.procs
  done < /sys/fs/cgroup/cgroup.procs 2>/dev/null
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
  done 2>/dev/null
fi
# CSI drivers mount into pods through the node.
mount --make-rshared /
stopping=
/bin/k3s "$@" &
k3s=$!
trap 'stopping=1; kill -TERM $k3s' TERM INT
wait $k3s
code=$?
if [ -n "$stopping" ]; then
  # The signal ended the first wait; the second one gives k3s' own code.
  wait $k3s
  second=$?
  [ $second = 127 ] || code=$second
fi
exit $code
