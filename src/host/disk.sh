# What the disk is that holds $place: read only, as any user, with what busybox has. disk.rs reads what this prints.
say() { if [ -n "$2" ]; then printf '%s=%s\n' "$1" "$2"; fi; }

echo k3arm-disk-1
line=$(timeout 5 df -Pk -- "$place" 2>/dev/null | tail -n 1)
say df "$line"
at=${line##*% } filesystem='' node=''
# mountinfo: ID, parent, major:minor, root, mount point, options … - file system, source, options. The last one counts.
while read -r _ _ number _ mount rest; do
    if [ "$mount" = "$at" ]; then
        rest=${rest#* - } filesystem=${rest#* - }; filesystem=${filesystem%% *} node=/sys/dev/block/$number
    fi
done < /proc/self/mountinfo
say filesystem "$filesystem"
say device "${node##*/}"
if [ -e "$node/partition" ]; then node=$node/..; fi
disk=$(cd -P "$node" 2>/dev/null && pwd)
case $disk in
    '') ;;
    */mmc*)
        read -r kind 2>/dev/null < "$disk/device/type"
        case $kind in SD) say medium card ;; MMC) say medium emmc ;; esac
        ;;
    */usb*) say medium usb ;;
    */nvme*) say medium nvme ;;
    *)
        read -r spins 2>/dev/null < "$disk/queue/rotational"
        case $spins in 0) say medium flash ;; 1) say medium disk ;; esac
        ;;
esac
echo end
