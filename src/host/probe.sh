# What k3arm knows of a machine: read only, as any user, with what busybox has. machine.rs reads what this prints.
# Every line is key=value; a value that could not be had has no line. `end` is last: without it the output was cut.

PATH=$PATH:/sbin:/usr/sbin:/usr/local/sbin
ports='192B 192C 2118 2808 2809 280A 2810 2811 2812 2813'
line_end='
'
carriage_return=$(printf '\r')

# What has more than one line is no fact, but a program's complaint.
say() { case $2 in '' | *"$line_end"*) ;; *) printf '%s=%s\n' "$1" "$2" ;; esac; }
# A shell reads byte by byte, and gets no more than one from /proc/sys.
setting() { say "$1" "$(cat "/proc/sys/$2" 2>/dev/null)"; }
first_line() { if [ -r "$1" ]; then read -r line < "$1" && say "$2" "$line"; fi; }

# What may wait for a service, a server or a process that does not answer.
ask() { timeout 3 "$@" 2>/dev/null; }

kernel() {
    say hostname "$(uname -n)"
    say arch "$(uname -m)"
    say kernel "$(uname -r)"
    say time "$(date +%s)"
    say user "$(id -un 2>/dev/null || id -u)"
}

memory() {
    while read -r name kib _; do
        case $name in
            MemTotal:) say total_kib "$kib" ;;
            MemFree:) say free_kib "$kib" ;;
            MemAvailable:) say available_kib "$kib" ;;
        esac
    done < /proc/meminfo
    # Where they are on, the kernel keeps more free: `[always] madvise never`.
    if [ -e /sys/kernel/mm/transparent_hugepage ]; then
        first_line /sys/kernel/mm/transparent_hugepage/enabled huge_pages
        setting kept_kib vm/min_free_kbytes
    fi
}

# A limit of the group at the root of what we see (a container, a test's machine), or of our own group and those above
# it. A login's slice and scope bound the login, not the engine.
limits() {
    first_line /sys/fs/cgroup/memory.max limit
    first_line /sys/fs/cgroup/memory/memory.limit_in_bytes limit
    while IFS=: read -r _ names group; do
        case $group in *.slice* | *.scope* | *.service*) continue ;; esac
        case ",$names," in
            ,,) root=/sys/fs/cgroup file=memory.max ;;
            *,memory,*) root=/sys/fs/cgroup/memory file=memory.limit_in_bytes ;;
            *) continue ;;
        esac
        while [ -n "$group" ] && [ "$group" != / ]; do
            first_line "$root$group/$file" limit
            group=${group%/*}
        done
    done < /proc/self/cgroup
}

# On v2 /proc/cgroups is not to be believed: kernels from 6.12 leave memory out of it.
controllers() {
    if [ -r /sys/fs/cgroup/cgroup.controllers ]; then
        say cgroup v2
        first_line /sys/fs/cgroup/cgroup.controllers controllers
    elif [ -r /proc/cgroups ]; then
        say cgroup v1
        while read -r name _ _ enabled; do
            case $name in '#'*) ;; *) if [ "$enabled" = 1 ]; then say controllers "$name"; fi ;; esac
        done < /proc/cgroups
    fi
}

addresses() {
    # $SSH_CONNECTION: their address, their port, our address, our port.
    set -f; set -- $SSH_CONNECTION; set +f
    say ssh_address "$3"
    command -v ip >/dev/null 2>&1 || return 0
    ip -o -4 addr show scope global 2>/dev/null | while read -r _ interface _ address _; do
        mtu=; read -r mtu 2>/dev/null < "/sys/class/net/${interface%%@*}/mtu"
        say address "$interface $address $mtu"
    done
    ip -4 route get 1.1.1.1 2>/dev/null | while read -r line; do
        case $line in *' src '*) line=${line#* src }; say route_address "${line%% *}" ;; esac
    done
}

# Local address is HEX:PORT; state 0A listens. UDP has no such state.
listeners() {
    for table in tcp tcp6 udp udp6; do
        [ -r "/proc/net/$table" ] || continue
        while read -r _ local _ state _; do
            case $table-$state in tcp*-0A | udp*) ;; *) continue ;; esac
            case " $ports " in *" ${local##*:} "*) say listener "${table%6} ${local##*:}" ;; esac
        done < "/proc/net/$table"
    done
}

# What a process sees of the network, but for what comes and goes with pods; its own namespace may only be read by root.
interfaces() {
    while IFS=: read -r name _; do case $name in *veth*) ;; *) echo "$name" ;; esac; done 2>/dev/null < "$1/net/dev"
}

# Those of this network: a k3s in a container with one of its own is in nobody's way. The brackets keep grep from finding itself.
processes() {
    ours=$(interfaces /proc/self)
    ask grep -al '[k]3s' /proc/[0-9]*/cmdline | head -n 100 | while read -r file; do
        words=$(ask head -c 300 "$file" | tr '\0' ' ')
        set -f; set -- $words; set +f
        case ${1##*/} in k3s | k3s-server | k3s-agent) ;; *) continue ;; esac
        case $2 in
            server | agent) role=$2 ;;
            *) case ${1##*/} in k3s-*) role=${1##*/k3s-}; role=${role#k3s-} ;; *) continue ;; esac ;;
        esac
        theirs=$(interfaces "${file%/cmdline}")
        [ -z "$theirs" ] || [ "$theirs" = "$ours" ] || continue
        container=$(grep -aoE 'docker[-/][0-9a-f]{64}' "${file%/cmdline}/cgroup" 2>/dev/null | head -n 1)
        say k3s "$role ${container#docker?}"
    done
}

socket() {
    case $DOCKER_HOST in
        unix://*) candidates=${DOCKER_HOST#unix://} ;;
        *) candidates="/var/run/docker.sock ${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock" ;;
    esac
    for path in $candidates; do
        if [ -S "$path" ] && [ -w "$path" ]; then say socket "ready $path"; return; fi
    done
    for path in $candidates; do
        if [ -S "$path" ]; then say socket "denied $path"; return; fi
    done
    say socket "missing ${candidates%% *}"
}

board() {
    for file in /proc/device-tree/model /sys/class/dmi/id/product_name; do
        if [ -r "$file" ]; then say board "$(tr -d '\000-\037\177' < "$file" 2>/dev/null)"; break; fi
    done
    say cores "$(grep -c '^processor' /proc/cpuinfo)"
    while read -r name kib _; do
        if [ "$name" = KernelPageSize: ]; then say page_kib "$kib"; break; fi
    done 2>/dev/null < /proc/self/smaps
    first_line /sys/class/thermal/thermal_zone0/temp millidegrees
    if throttled=$(ask vcgencmd get_throttled); then say throttled "${throttled#throttled=}"; fi
}

# The fifth byte of a program is 1 where it is for 32 bits, and 2 for 64.
system() {
    while IFS== read -r name value; do
        value=${value%"$carriage_return"}; value=${value#[\"\']}; value=${value%[\"\']}
        case $name in ID) say os_id "$value" ;; VERSION_ID) say os_version "$value" ;; PRETTY_NAME) say os_name "$value" ;; esac
    done 2>/dev/null < /etc/os-release
    case $(od -An -tu1 -j4 -N1 /bin/sh 2>/dev/null) in *1) say bits 32 ;; *2) say bits 64 ;; esac
    say iptables "$(iptables --version 2>/dev/null)"
    if [ -e /sys/module/iptable_nat ] || [ -e /sys/module/iptable_filter ]; then say legacy_tables yes; fi
    setting inotify fs/inotify/max_user_instances
    for file in /boot/firmware/cmdline.txt /boot/armbianEnv.txt /boot/extlinux/extlinux.conf /boot/cmdline.txt /etc/default/grub; do
        if [ -f "$file" ]; then say boot_config "$file"; break; fi
    done
    for word in $(cat /proc/cmdline 2>/dev/null); do
        # What is behind is for init.
        case $word in --) break ;; cgroup_* | systemd.unified_cgroup_hierarchy=*) say kernel_argument "$word" ;; esac
    done
    if [ -d /etc/tmpfiles.d ]; then say tmpfiles yes; fi
    if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then say firewall ufw; fi
    if [ -d /run/systemd/system ]; then
        if ask systemctl -q is-active firewalld; then say firewall firewalld; fi
        say at_boot "$(ask systemctl is-enabled docker.service)"
        say synchronised "$(ask timedatectl show -p NTPSynchronized --value)"
    fi
}

# Loaded, part of the kernel, at hand, or missing; nothing where the kernel's modules cannot be read.
modules() {
    [ -d /lib/modules ] || say no_modules yes
    folder=/lib/modules/$(uname -r)
    for name in overlay br_netfilter vxlan nf_conntrack; do
        if [ -e "/sys/module/$name" ]; then say module "$name loaded"
        elif [ ! -r "$folder/modules.dep" ]; then continue
        elif grep -qs "/$name\.ko" "$folder/modules.builtin"; then say module "$name builtin"
        elif grep -q "/$name\.ko" "$folder/modules.dep"; then say module "$name available"
        else say module "$name missing"; fi
    done
}

# A swap file is on the device that its file system is on.
swaps() {
    while read -r name kind kib _; do
        case $kind in
            file) name=$(ask df -P "$name" | while read -r device _; do echo "$device"; done | tail -n 1) ;;
            partition) ;;
            *) continue ;;
        esac
        # Older systems call the device of their root so.
        if [ "$name" = /dev/root ]; then
            while read -r _ _ number _ mount _; do
                if [ "$mount" = / ]; then device=$(readlink "/sys/dev/block/$number"); name=/dev/${device##*/}; fi
            done < /proc/self/mountinfo
        fi
        # SD or MMC: a card, or what is soldered on.
        medium=; read -r medium 2>/dev/null < "/sys/class/block/${name##*/}/device/type" ||
            read -r medium 2>/dev/null < "/sys/class/block/${name##*/}/../device/type"
        say swap "$kib $name $medium"
    done 2>/dev/null < /proc/swaps
}

echo k3arm-machine-1
kernel; memory; limits; controllers; addresses; listeners; processes; socket; board; system; modules; swaps
echo end
