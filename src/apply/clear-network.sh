# Removes what k3s left in this network namespace, and nothing else.
failed=0
for interface in cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
  if [ -e "/sys/class/net/$interface" ]; then
    ip link delete "$interface" || failed=1
  fi
done
# Both families and both kernel interfaces: k3s uses the one that it finds in use.
for mode in nft legacy; do
  for family in iptables ip6tables; do
    # A table at a time: rules of others that lead to k3s' chains go, then its chains are emptied and removed.
    rules=$("xtables-$mode-multi" "$family-save" 2> /dev/null | awk '
      function chain(name) { return name ~ /^(KUBE|CNI|FLANNEL)-/ }
      function ours(rule) { return rule ~ / -[jg] (KUBE|CNI|FLANNEL)-/ || rule ~ /--comment "(flanneld|KUBE-ROUTER rule) / }
      /^\*/ { table = $0; empties = ""; removes = ""; deletes = "" }
      /^:/ && chain(substr($1, 2)) { name = substr($1, 2); empties = empties "-F " name "\n"; removes = removes "-X " name "\n" }
      /^-A / && ours($0) && !chain($2) { sub(/^-A/, "-D"); deletes = deletes $0 "\n" }
      /^COMMIT/ && empties deletes != "" { printf "%s\n%s%s%sCOMMIT\n", table, deletes, empties, removes }
    ')
    [ -n "$rules" ] || continue
    printf '%s\n' "$rules" | "xtables-$mode-multi" "$family-restore" --noflush || failed=1
  done
done
if command -v ipset > /dev/null 2>&1; then
  for set in $(ipset list -n 2> /dev/null | grep '^KUBE-'); do
    ipset destroy "$set" || failed=1
  done
fi
exit $failed
