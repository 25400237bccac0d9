# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# Every process of a lab is in /k3arm-lab/NAME of each cgroup hierarchy: hosts in /hN, the rest in /lab. So a host has its memory
# limit, and `down` finds what a killed `up` left, whatever became of its parents.

# Sets hierarchies (their mount points) and tracked (the one with the memory controller).
cgroup_find() {
    mapfile -t hierarchies < <(awk '$3 == "cgroup" { print $2 }' /proc/mounts)
    tracked=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
    if [[ -z $tracked ]]; then
        tracked=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
        hierarchies=("$tracked")
    fi
    [[ -n $tracked ]] || die "no memory cgroup is mounted on this machine"
}

# cgroup_make NAME [BYTES]: k3arm-lab/$name/NAME in every hierarchy, with a memory limit.
cgroup_make() {
    local hierarchy path part controller
    for hierarchy in "${hierarchies[@]}"; do
        path=$hierarchy
        for part in k3arm-lab "$name" "$1"; do
            if [[ -e $path/cgroup.subtree_control ]]; then
                for controller in $(<"$path/cgroup.controllers"); do echo "+$controller" >"$path/cgroup.subtree_control" || true; done
            fi
            mkdir -p "$path/$part"
            if [[ -e $path/$part/cpuset.cpus && ! -e $path/cgroup.subtree_control ]]; then
                cat "$path/cpuset.cpus" >"$path/$part/cpuset.cpus"
                cat "$path/cpuset.mems" >"$path/$part/cpuset.mems"
            fi
            path=$path/$part
        done
    done
    [[ -n ${2:-} ]] || return 0
    path=$tracked/k3arm-lab/$name/$1
    if [[ -e $path/memory.max ]]; then echo "$2" >"$path/memory.max"; else echo "$2" >"$path/memory.limit_in_bytes"; fi
}

# cgroup_enter NAME [PID]: moves a process, this one if none is named. On v2 a host's processes live in a leaf (images/host/init).
cgroup_enter() {
    local hierarchy path
    for hierarchy in "${hierarchies[@]}"; do
        path=$hierarchy/k3arm-lab/$name/$1
        [[ ! -d $path/init ]] || path=$path/init
        echo "${2:-$BASHPID}" >"$path/cgroup.procs"
    done
}

# cgroup_weigh PATH TIMES: processor time for k3arm-lab/PATH against its neighbours, where one task, or cgroup, counts once by default.
cgroup_weigh() {
    local hierarchy path
    for hierarchy in "${hierarchies[@]}"; do
        path=$hierarchy/k3arm-lab${1:+/$1}
        if [[ -e $path/cpu.shares ]]; then echo $(($2 * 1024)) >"$path/cpu.shares"; fi
        if [[ -e $path/cpu.weight ]]; then echo $(($2 * 100)) >"$path/cpu.weight"; fi
    done
}

cgroup_exists() {
    local hierarchy
    for hierarchy in "${hierarchies[@]}"; do [[ ! -d $hierarchy/k3arm-lab/$name ]] || return 0; done
    return 1
}
cgroup_processes() { find "$tracked/k3arm-lab/$name${1:+/$1}" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }

# cgroup_kill [NAME]: ends all its processes and removes it.
cgroup_kill() {
    local path=k3arm-lab/$name${1:+/$1} hierarchy
    wait_for 20 cgroup_emptied "${1:-}" || die "processes do not end: $(cgroup_processes "${1:-}" | tr '\n' ' ')"
    for hierarchy in "${hierarchies[@]}"; do
        # A cgroup stays busy for a moment after its last process.
        wait_for 5 cgroup_removed "$hierarchy/$path" || die "cannot remove $hierarchy/$path"
        [[ -n ${1:-} ]] || rmdir "$hierarchy/k3arm-lab" 2>/dev/null || true
    done
}
cgroup_emptied() {
    local pids
    pids=$(cgroup_processes "$1")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086 # a word each
    kill -KILL $pids 2>/dev/null
    return 1
}
cgroup_removed() { [[ ! -d $1 ]] || find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; }
