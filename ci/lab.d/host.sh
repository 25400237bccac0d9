# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# One host: made, started, stopped, entered.
# Namespace hosts, then machines.
host_names() { cat "$lab/hosts.names"; }
known_host() { [[ -d $lab/hosts/$1 ]] || die "lab '$name' has no host '$1', only: $(host_names | tr '\n' ' ')"; }
host_process() { if [[ $1 == registry ]]; then process "$lab/registry/pid"; else process "$lab/hosts/$1/pid"; fi; }
host_value() { cat "$lab/hosts/$1/$2"; }
host_runs() { host_process "$1" >/dev/null; }

# host_make HOST: its directory, with what `images/host/seed` puts into the root at the first start.
host_make() {
    local host=$1 number directory=$lab/hosts/$1 suite kind
    case $host in h*) number=$((${host#h} - 1)) ;; *) machine_make "$host" && return ;; esac
    suite=$(nth "$engine" "$number")
    kind=$(nth "$store" "$number")
    mkdir -p "$directory"/{upper,work,root,docker,seed}
    root_path "$suite" >"$directory/lower"
    echo "$suite" >"$directory/engine"
    echo "$kind" >"$directory/store"
    numfmt --from=iec "$(nth "$memory" "$number")" >"$directory/memory"
    address_of "$host" >"$directory/address"
    echo "${rate:-none} ${delay:-none}" >"$lab/shape.$host"
    host_seed "$host" "$kind"
    # CAP_SYS_RESOURCE is bit 24.
    if [[ $suite == bookworm ]] && ! ((0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 24 & 1)); then
        cp "$images/host/runc" "$directory/seed/runc"
    fi
}
# host_seed HOST STORE
host_seed() {
    local host=$1 directory=$lab/hosts/$1
    ssh-keygen -q -t ed25519 -N '' -C "root@$host" -f "$directory/seed/ssh_host_ed25519_key" </dev/null
    cp "$lab/key.pub" "$directory/seed/authorized_keys"
    printf 'nameserver %s.1\n' "$subnet" >"$directory/seed/resolv.conf"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$host" >"$directory/seed/hosts"
    host_daemon "$2" >"$directory/seed/daemon.json"
}

# host_daemon STORE: the engine's settings; without any the file does not exist.
host_daemon() {
    local settings=()
    [[ $1 != containerd ]] || settings+=('"features": {"containerd-snapshotter": true}')
    [[ -z $insecure ]] || settings+=("\"insecure-registries\": [\"$(address_of registry):5000\"]")
    [[ ${#settings[@]} == 0 ]] || echo "{$(IFS=, && echo "${settings[*]}")}"
}

# Boots it; host_ready waits.
host_boot() {
    local host=$1 directory=$lab/hosts/$1
    ! is_machine "$host" || { machine_boot "$host" && return; }
    cgroup_make "$host" "$(host_value "$host" memory)"
    rm -f "$directory/pid"
    background "$host" "$directory/console.log" env -i PATH="$PATH" \
        unshare --net --mount --pid --uts --ipc --cgroup --fork --propagation private \
        "$images/host/enter" "$host" "$(host_value "$host" lower)" "$directory" "$(host_value "$host" memory)"
    wait_for 5 host_first_process "$host" "$spawned" || die_with "$directory/console.log" "$host does not start"
    # Only what runs in the host counts as its own.
    cgroup_enter lab "$spawned"
    link_up "$host" "$(<"$directory/pid")"
}
host_first_process() {
    local pid
    pid=$(cat "/proc/$2/task/$2/children" 2>/dev/null) && pid=${pid// /} && [[ -n $pid ]] && own_network "$pid" || return 1
    echo "$pid" >"$lab/hosts/$1/pid"
}
host_ready() {
    wait_for "$(is_machine "$1" && echo 180 || echo 60)" host_answers "$1" || {
        tail -n 10 "$lab/hosts/$1"/{qemu,console}.log "$lab/hosts/$1"/upper/var/log/{lab-init,sshd,dockerd}.log >&2 2>/dev/null || true
        die "$1 does not come up"
    }
}
host_answers() {
    local pid
    pid=$(host_process "$1") && { is_machine "$1" || nsenter -t "$pid" --mount test -S /run/docker.sock 2>/dev/null; } &&
        in_network ssh -F "$lab/ssh_config" -o ConnectTimeout=2 -o LogLevel=QUIET "$1" docker version </dev/null >/dev/null 2>&1
}

host_power-on() {
    ! host_runs "$1" || { say "$1 is running" && return; }
    # A machine's kernel is given them, this time only.
    [[ $# == 1 ]] || is_machine "$1" || refuse "$1 has no kernel of its own"
    ! is_machine "$1" || echo "${*:2}" >"$lab/hosts/$1/arguments"
    host_boot "$1"
    host_ready "$1"
    say "$1 started"
}
# The plug, pulled.
host_power-cut() {
    host_runs "$1" || { say "$1 is stopped" && return; }
    cgroup_kill "$1"
    rm -f "$lab/hosts/$1/pid"
    relay_down "$1"
    ! is_machine "$1" || { machine_unlink "$1" && return; }
    # The cable goes with the host's namespace, a moment later.
    wait_for 5 link_gone "$1" || in_network ip link delete "$1"
}

host_engine() {
    host_runs "$1" || die "$1 is stopped"
    case ${2:-} in
        stop)
            host_run "$1" touch /run/lab/engine.off
            host_run "$1" pkill -TERM -x dockerd || true
            wait_for 30 host_engine_gone "$1" || die "$1's dockerd does not end"
            ;;
        start)
            host_run "$1" rm -f /run/lab/engine.off
            host_run "$1" kill -HUP 1
            wait_for 60 host_engine_answers "$1" || die "$1's dockerd does not start: $(host_run "$1" tail -n 5 /var/log/dockerd.log)"
            ;;
        *) refuse "ci/lab engine HOST stop|start" ;;
    esac
}
host_engine_gone() { ! host_run "$1" pgrep -x dockerd >/dev/null; }
host_engine_answers() { host_run "$1" docker version >/dev/null 2>&1; }

# In all of the host's namespaces and its cgroup.
host_run() {
    if is_machine "$1"; then
        machine_run "$@"
        return
    fi
    (
        pid=$(host_process "$1")
        cgroup_enter "$1"
        exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup \
            env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" "${@:2}"
    )
}
host_root() {
    host_runs "$1" || die "$1 is stopped"
    if [[ $# == 1 ]]; then host_run "$1" bash -l; else host_run "$@"; fi
}
# One word is a command line for the host's shell; several arrive as they are.
host_ssh() {
    local command=("${@:2}")
    [[ ${#command[@]} -lt 2 ]] || command=("${command[@]@Q}")
    exec nsenter --net="/proc/$(process "$lab/network.pid")/ns/net" -- ssh -F "$lab/ssh_config" "$1" "${command[@]}"
}
