# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# The lab as a whole: up, down, status, exec.

lab_shape_line() {
    echo "hosts=$hosts engine=$engine store=$store memory=$memory rate=$rate delay=$delay uplink=$uplink_rate,$uplink_delay${arm64:+ arm64=$arm64}${armv7:+ armv7=$armv7}${insecure:+ insecure} k3s=$k3s${extra_images:+ images=${extra_images[*]}}"
}

lab_check() {
    local word
    [[ $hosts =~ ^[1-9][0-9]?$ && $hosts -le 50 ]] || refuse "--hosts wants 1 to 50, not '$hosts'"
    for word in $arm64 $armv7; do
        [[ $word =~ ^[1-9](:[0-9]+[MG])?$ ]] || refuse "--arm64 and --armv7 want a number from 1 to 9, and how much memory each has, as 1:512M"
    done
    for word in "${extra_images[@]}"; do [[ $word == *:*=* ]] || refuse "--image wants NAME:TAG=IMAGE, not '$word'"; done
    for word in ${engine//,/ }; do [[ $word =~ ^(bookworm|trixie|sid)$ ]] || refuse "--engine is bookworm, trixie or sid, not '$word'"; done
    for word in ${store//,/ }; do [[ $word =~ ^(classic|containerd)$ ]] || refuse "--store is classic or containerd, not '$word'"; done
    for word in ${memory//,/ }; do
        numfmt --from=iec "$word" >/dev/null 2>&1 || refuse "--memory wants a size as 512M or 1G, not '$word'"
    done
    for word in $(seq 0 $((hosts - 1))); do
        [[ $(nth "$engine" "$word")/$(nth "$store" "$word") != bookworm/containerd ]] || refuse "engine 20.10 has no containerd image store"
    done
}

# lab_lock SECONDS: fd 9 is the lab's lock, on its directory, which `down` removes.
lab_lock() {
    while true; do
        mkdir -p "$lab"
        exec 9<"$lab"
        flock -n 9 || { say "waiting for another ci/lab on '$name'" && flock -w "$1" 9; } || return 1
        [[ ! $lab -ef /dev/fd/9 ]] || return 0
    done
}

lab_up() {
    lab_check
    need ip:iproute2 nsenter:util-linux flock:util-linux sysctl:procps ssh:openssh-client ssh-keygen:openssh-client mmdebstrap:mmdebstrap
    [[ -z $k3s && ${#extra_images[@]} == 0 ]] || need skopeo:skopeo
    lab_lock 900 || die "somebody else works on lab '$name'"
    if [[ -e $lab/ready ]] && process "$lab/network.pid" >/dev/null; then
        lab_again
        return
    fi
    # What a crashed one left.
    lab_clear
    trap 'lab_failed $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    lab_lock 900
    echo $$ >"$lab/up.pid"
    lab_build
    lab_shape_line >"$lab/shape"
    rm "$lab/up.pid"
    touch "$lab/ready"
    trap - EXIT INT TERM
    say "up: $(host_names | wc -l) hosts, engine $engine; next: ci/lab status, ci/lab ssh h1, ci/lab exec -- COMMAND"
}

lab_build() {
    local host
    { seq -f h%g 1 "$hosts" && machine_names; } >"$lab/hosts.names"
    kernel_note
    cgroup_make lab
    roots_build
    machine_images_build
    registry_fetch
    network_up
    echo "${uplink_rate:-none} ${uplink_delay:-none}" >"$lab/shape.registry"
    ssh-keygen -q -t ed25519 -N '' -C "k3arm-lab-$name" -f "$lab/key" </dev/null
    for host in $(host_names); do host_make "$host"; done
    lab_files
    say "starting $(host_names | wc -l) hosts"
    for host in $(host_names); do host_boot "$host"; done
    registry_fill
    for host in $(host_names); do host_ready "$host"; done
}

# What the user's ssh and the tests read.
lab_files() {
    local host
    for host in $(host_names); do
        printf 'Host %s\n  HostName %s\n' "$host" "$(address_of "$host")" >>"$lab/ssh_config"
        echo "$(address_of "$host") $(cut -d' ' -f1,2 "$lab/hosts/$host/seed/ssh_host_ed25519_key.pub")" >>"$lab/known_hosts"
        echo "$host $(address_of "$host") $(host_value "$host" engine) $(host_value "$host" memory)" >>"$lab/inventory"
    done
    cat >>"$lab/ssh_config" <<E
Host *
  User pi
  IdentityFile $lab/key
  IdentitiesOnly yes
  UserKnownHostsFile $lab/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
E
    mkdir "$lab/k3arm"
}

# `up` on a lab that is up: what a test stopped comes back.
lab_again() {
    local host
    [[ $(lab_shape_line) == "$(<"$lab/shape")" ]] ||
        die "lab '$name' is up in another shape ($(<"$lab/shape")); ci/lab down --name $name first"
    for host in $(host_names); do
        if host_runs "$host"; then in_network ip link set "$host" up; else host_power-on "$host"; fi
    done
    if process "$lab/registry/pid" >/dev/null; then in_network ip link set registry up; else registry_start; fi
    say "is up already: ci/lab status"
}

lab_failed() {
    trap - EXIT INT TERM
    [[ $1 != 0 ]] || return 0
    say "up failed; taking down what it made"
    (lab_clear) || true
    exit "$1"
}

# Ends and removes all of a lab, in whatever state.
lab_clear() {
    cgroup_kill
    # The lock goes last, with the directory it is on.
    rm -rf "$lab"
    exec 9<&-
    kernel_restore
    rmdir "$labs" 2>/dev/null || true
    cache_sweep
}

# What a kubelet sets in the kernel that all hosts and the machine share: the first lab notes it, the last one puts it back.
kernel_note() {
    local keys=(kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes vm.overcommit_memory vm.panic_on_oom)
    [[ -e $labs/kernel ]] || { sysctl -e "${keys[@]}" >"$labs/kernel.$name" && mv "$labs/kernel.$name" "$labs/kernel"; }
}
kernel_restore() {
    [[ -e $labs/kernel && -z $(find "$labs" -mindepth 1 -type d -print -quit) ]] || return 0
    sysctl -qe -p "$labs/kernel" || true
    rm -f "$labs"/kernel*
}

lab_down() {
    local each
    [[ -n $all ]] || { lab_down_one && return; }
    for each in $(cd / && find "$labs" "${hierarchies[@]/%//k3arm-lab}" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' 2>/dev/null | sort -u); do
        "$0" down --name "$each"
    done
}
lab_down_one() {
    local up=''
    [[ -e $lab ]] || cgroup_exists || { say "is not up" && return; }
    ! grep -q "/k3arm-lab/$name/" /proc/self/cgroup || die "this runs inside lab '$name' (ci/lab exec); take it down from outside"
    # An `up` that is still at it.
    if [[ -e $lab/up.pid ]] && read -r up <"$lab/up.pid" && tr '\0' ' ' 2>/dev/null <"/proc/$up/cmdline" | grep -q 'lab up'; then
        kill -KILL "$up"
    fi
    cgroup_kill
    lab_lock 30 || die "somebody else works on lab '$name'"
    lab_clear
    say "down"
}

lab_variables() {
    cat <<E
K3ARM_LAB=$name
K3ARM_LAB_DIR=$lab
K3ARM_SSH_CONFIG=$lab/ssh_config
K3ARM_HOME=$lab/k3arm
K3ARM_REGISTRY_MIRROR=docker.io=http://$(address_of registry):5000
KUBECONFIG=$lab/kubeconfig
E
}
lab_env() {
    running
    lab_variables | sed 's/^/export /'
}
lab_exec() {
    local variables
    running
    [[ $# -gt 0 ]] || refuse "ci/lab exec -- COMMAND"
    mapfile -t variables < <(lab_variables)
    cgroup_enter lab
    exec nsenter --net="/proc/$(process "$lab/network.pid")/ns/net" -- env "${variables[@]}" "$@"
}

lab_status() {
    local host state link list=() row
    running
    [[ $output == json ]] || printf '%-6s %-12s %-9s %-11s %6s  %-8s %-5s %s\n' HOST ADDRESS ENGINE STORE MEMORY STATE LINK 'RATE DELAY'
    for host in $(host_names); do
        state=stopped link=down
        if host_runs "$host"; then
            state=running
            ! in_network ip -o link show "$host" | grep -q 'state UP' || link=up
        fi
        row=("$host" "$(host_value "$host" address)" "$(host_value "$host" engine)" "$(host_value "$host" store)"
            "$(host_value "$host" memory)" "$state" "$link" "$(<"$lab/shape.$host")")
        if [[ $output == json ]]; then
            # shellcheck disable=SC2059 # one format, used once
            list+=("$(printf '{"name":"%s","address":"%s","engine":"%s","store":"%s","memory":%d,"state":"%s","link":"%s","shape":"%s"}' "${row[@]}")")
        else
            printf '%-6s %-12s %-9s %-11s %6s  %-8s %-5s %s\n' "${row[@]:0:4}" "$(numfmt --to=iec "${row[4]}")" "${row[@]:5}"
        fi
    done
    [[ $output != json ]] || printf '{"name":"%s","directory":"%s","registry":"%s:5000","hosts":[%s]}\n' "$name" "$lab" \
        "$(address_of registry)" "$(IFS=, && echo "${list[*]}")"
}

lab_shape() {
    [[ $# -ge 2 ]] || refuse "ci/lab shape HOST|registry RATE|none [DELAY]"
    [[ $1 == registry ]] || known_host "$1"
    host_process "$1" >/dev/null || die "$1 is stopped"
    link_shape "$1" "$2" "${3:-none}" "$(far_process "$1")"
    echo "$2 ${3:-none}" >"$lab/shape.$1"
}

lab_link() {
    [[ $# == 2 && $2 =~ ^(up|down)$ ]] || refuse "ci/lab link HOST|registry up|down"
    [[ $1 == registry ]] || known_host "$1"
    host_process "$1" >/dev/null || die "$1 is stopped"
    in_network ip link set "$1" "$2"
}
