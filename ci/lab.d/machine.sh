# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# Hosts that are machines: emulated by qemu, with a kernel of their own and another architecture, named a1, a2, … (arm64) and v1, v2, …
# (armv7). Everything that a namespace host does, they do; and they run pods, have cgroup v2, and lose what is not on their disk when
# their power is cut.
is_machine() { [[ -e $lab/hosts/$1/architecture ]]; }
# The process in whose namespace the far end of a cable is; none for a machine, whose cable ends in the lab's own (link_shape).
far_process() { is_machine "$1" || host_process "$1"; }

machine_suite=trixie
machine_image() { echo "$cache/machine-$1-$(cat "$images"/machine/* | sha256sum | cut -c1-12)"; }
machine_names() {
    [[ -z $arm64 ]] || seq -f a%g 1 "${arm64%%:*}"
    [[ -z $armv7 ]] || seq -f v%g 1 "${armv7%%:*}"
}
# machine_option HOST: the count and memory that its kind was asked with.
machine_option() { case $1 in a*) echo "$arm64" ;; v*) echo "$armv7" ;; esac }
machine_architecture() { case $1 in a*) echo arm64 ;; v*) echo armhf ;; esac }

# machine_images_build: for all architectures of this lab.
machine_images_build() {
    local host architecture image log
    [[ -n $arm64$armv7 ]] || return 0
    [[ -z $arm64 ]] || need qemu-system-aarch64:qemu-system-arm
    need qemu-system-arm:qemu-system-arm qemu-img:qemu-utils mkfs.ext4:e2fsprogs cpio:cpio depmod:kmod xz:xz-utils
    for architecture in $(for host in $(machine_names); do machine_architecture "$host"; done | sort -u); do
        image=$(machine_image "$architecture") log=$lab/machine-$architecture.log
        cache_lock "$image"
        if [[ ! -d $image ]]; then
            say "building the $architecture machine (two minutes when alone; kept in $cache)"
            rm -rf "$image.partial"
            mkdir "$image.partial"
            within lab unshare --mount --pid --fork --kill-child "$images/machine/build" "$architecture" "$machine_suite" "$image.partial" \
                "$(root_mirror)" </dev/null >"$log" 2>&1 || die_with "$log" "cannot build the $architecture machine"
            mv "$image.partial" "$image"
        fi
        exec 8>&-
    done
}

# machine_make HOST: its directory, with the seed that its initrd brings.
machine_make() {
    local host=$1 directory=$lab/hosts/$1 size
    size=$(machine_option "$host")
    [[ $size == *:* ]] || size=$size:1G
    mkdir -p "$directory/seed"
    machine_architecture "$host" >"$directory/architecture"
    echo "$machine_suite" >"$directory/engine"
    echo classic >"$directory/store"
    numfmt --from=iec "${size#*:}" >"$directory/memory"
    address_of "$host" >"$directory/address"
    echo "${rate:-none} ${delay:-none}" >"$lab/shape.$host"
    host_seed "$host" classic
    mkdir -p "$directory/initrd/seed"/{common,own}
    cp "$images/host"/{seed,services,sshd_config} "$images/machine/init" "$directory/initrd/seed/common/"
    echo "$host" >"$directory/initrd/seed/own/name"
    cp -r "$directory/seed" "$directory/initrd/seed/own/"
    { cat "$(machine_image "$(<"$directory/architecture")")/initrd" &&
        (cd "$directory/initrd" && find seed | cpio --quiet -o -H newc | gzip -1); } >"$directory/initrd.img"
    qemu-img create -q -f qcow2 -F raw -b "$(machine_image "$(<"$directory/architecture")")/disk.raw" "$directory/disk.qcow2"
}

machine_boot() {
    local host=$1 directory=$lab/hosts/$1 image megabytes emulator arguments
    arguments=$(cat "$directory/arguments" 2>/dev/null || true)
    image=$(machine_image "$(<"$directory/architecture")")
    megabytes=$(($(<"$directory/memory") >> 20))
    case $(<"$directory/architecture") in
        arm64) emulator=(qemu-system-aarch64 -M "virt,gic-version=3" -cpu cortex-a72) ;;
        armhf) emulator=(qemu-system-arm -M "virt,highmem=off" -cpu cortex-a15) ;;
    esac
    # The emulator needs some for itself, most of it for translated code (tb-size).
    cgroup_make "$host" $(((megabytes + 1024) << 20))
    rm -f "$directory"/{pid,console.log}
    machine_link "$host"
    background "$host" "$directory/qemu.log" nsenter --net="/proc/$(process "$lab/network.pid")/ns/net" -- \
        "${emulator[@]}" -accel tcg,thread=multi,tb-size=256 -smp 2 -m "$megabytes" -nodefaults -display none -no-user-config \
        -serial "file:$directory/console.log" -kernel "$image/kernel" -initrd "$directory/initrd.img" \
        -append "console=ttyAMA0 panic=0 net.ifnames=0 lab.address=$(address_of "$host")/24 lab.gateway=$subnet.1 lab.clock=$EPOCHSECONDS${arguments:+ $arguments}" \
        -drive "if=none,id=disk,format=qcow2,file=$directory/disk.qcow2" -device virtio-blk-pci,drive=disk \
        -netdev "tap,id=net,ifname=tap-$host,script=no,downscript=no" -device "virtio-net-pci,netdev=net,romfile=,mac=$(machine_mac "$host")" \
        -device virtio-rng-pci
    echo "$spawned" >"$directory/pid"
    wait_for 20 test -s "$directory/console.log" || die_with "$directory/qemu.log" "$host's kernel does not start"
}
machine_mac() { printf '02:6b:33:00:00:%02x' "$(address_of "$1" | cut -d. -f4)"; }

# machine_link HOST: its cable is a veth pair, as everybody's; behind it is a bridge with the emulator's tap.
machine_link() {
    local last rate delay
    last=$(address_of "$1" | cut -d. -f4)
    machine_unlink "$1"
    in_network ip -batch - <<E
tuntap add dev tap-$1 mode tap
link add on-$1 type bridge
link add $1 index $((100 + last)) address $(printf 06:6b:33:00:00:%02x "$last") type veth peer name up-$1
link set tap-$1 master on-$1 up
link set up-$1 master on-$1 up
link set on-$1 up
link set $1 master br0 up
E
    read -r rate delay <"$lab/shape.$1"
    link_shape "$1" "$rate" "$delay"
}
machine_unlink() {
    local device
    for device in "tap-$1" "$1" "on-$1"; do in_network ip link delete "$device" 2>/dev/null || true; done
}

# As root over its own sshd: nothing else leads into it.
machine_run() {
    local command=("${@:2}") terminal=()
    [[ ! -t 0 || $# -gt 1 ]] || terminal=(-t)
    in_network ssh -F "$lab/ssh_config" -o LogLevel=ERROR "${terminal[@]}" -l root "$1" "${command[*]@Q}"
}
