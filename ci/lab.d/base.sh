# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# Words to the user, requirements, and how the lab's processes are started.
labs=/var/lib/k3arm-lab
cache=${K3ARM_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/k3arm-lab}
begun=${EPOCHREALTIME/[.,]/}

say() {
    local now=$((${EPOCHREALTIME/[.,]/} - begun))
    printf 'lab %s %4d.%d s  %s\n' "${name:-}" $((now / 1000000)) $((now / 100000 % 10)) "$*" >&2
}
die() {
    echo "${program:-ci/lab}: $1" >&2
    exit "${2:-1}"
}
refuse() { die "$1" 2; }
# die_with LOG MESSAGE: and the end of the log that tells why.
die_with() {
    tail -n 15 "$1" >&2 || true
    die "$2"
}

# The nth of a comma-separated list, or its last one.
nth() {
    local list
    IFS=, read -ra list <<<"$1"
    echo "${list[$2]:-${list[-1]}}"
}

# wait_for SECONDS COMMAND…: until COMMAND succeeds.
wait_for() {
    local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    until "${@:2}"; do
        [[ ${EPOCHREALTIME/[.,]/} -lt $deadline ]] || return 1
        sleep 0.05
    done
}

# need COMMAND:PACKAGE…: installs Debian's packages for the commands that are missing.
need() {
    local missing=() pair
    for pair; do command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}"); done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    command -v apt-get >/dev/null || die "needs ${missing[*]}, and this machine has no apt-get to install them with"
    say "installing ${missing[*]}"
    install_packages "${missing[@]}"
}
install_packages() {
    local log install=(apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@")
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! "${install[@]}" </dev/null >"$log" 2>&1; then
        { apt-get -q -o DPkg::Lock::Timeout=300 update && "${install[@]}"; } </dev/null >"$log" 2>&1 ||
            die_with "$log" "cannot install $*"
    fi
    rm -f "$log"
}

# background CGROUP LOG COMMAND…: a process of the lab's; `down` finds it by its cgroup. Sets $spawned.
background() {
    local log=$2
    (
        cgroup_enter "$1"
        exec 8>&- 9>&- </dev/null >>"$log" 2>&1
        exec setsid "${@:3}"
    ) &
    spawned=$!
    disown "$spawned"
}
# within CGROUP COMMAND…: the same, waited for.
within() {
    (
        cgroup_enter "$1"
        exec 9>&-
        "${@:2}"
    )
}

# The process named in FILE, if it is still one of this lab's.
process() {
    local pid=''
    [[ -e $1 ]] && read -r pid <"$1" && [[ -n $pid ]] && grep -q "/k3arm-lab/$name/" "/proc/$pid/cgroup" 2>/dev/null && echo "$pid"
}
running() {
    process "$lab/network.pid" >/dev/null || die "no lab '$name' is up; ci/lab up --name $name"
}
