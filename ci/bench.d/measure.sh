# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# One measurement: time, bytes of the interfaces, memory and processor time of the controller, which is what runs in the cgroup `bench`.

# Milliseconds.
now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# counters FILE: of all the lab's links as the bridge sees them: rx is from the registry or host, tx towards it.
counters() { in_network ip -s -j link show >"$1"; }
# counted FIELD LINK: the difference between the two readings.
counted() {
    jq -n --slurpfile before "$work/counters.0" --slurpfile after "$work/counters.1" --arg link "$2" \
        "def of(\$reading): \$reading[0][] | select(.ifname == \$link).stats64.$1.bytes; of(\$after) - of(\$before)"
}

# cgroup_cpu NAME: processor time of a cgroup of the lab and those below it, in milliseconds.
cgroup_cpu() {
    local hierarchy path
    for hierarchy in "${hierarchies[@]}"; do
        path=$hierarchy/k3arm-lab/$name${1:+/$1}
        if [[ -e $path/cpuacct.usage ]]; then
            echo $(($(<"$path/cpuacct.usage") / 1000000)) && return
        elif [[ -e $path/cpu.stat ]] && grep -q usage_usec "$path/cpu.stat"; then
            awk '$1 == "usage_usec" { printf "%d\n", $2 / 1000 }' "$path/cpu.stat" && return
        fi
    done
    die "no cgroup of this machine counts processor time"
}
# The whole machine's, in milliseconds: all but idle and waiting.
machine_cpu() { awk -v hertz="$(getconf CLK_TCK)" '$1 == "cpu" { printf "%d\n", ($2 + $3 + $4 + $7 + $8) * 1000 / hertz }' /proc/stat; }

# Until it is killed: the most anonymous memory that the controller's processes had together, in bytes, in FILE.
memory_watch() {
    local statistics=$tracked/k3arm-lab/$name/bench/memory.stat key value peak=0 pause
    exec {pause}<> <(:)
    while true; do
        while read -r key value; do
            case $key in total_rss | anon) ((value <= peak)) || { peak=$value && echo "$peak" >"$1"; } ;; esac
        done <"$statistics"
        read -r -t 0.05 -u "$pause" || true
    done
}

# What else this machine does counts less meanwhile: the whole lab is one of its tasks otherwise. In the lab, the controller and the
# registry are machines of their own in real life, and must not wait for engines that unpack.
measure_alone() {
    cgroup_weigh '' "$1"
    cgroup_weigh "$name" "$1"
    cgroup_weigh "$name/bench" 16
    cgroup_weigh "$name/lab" 16
}

# measure COMMAND…: sets milliseconds, code and the processor times; counters, usage and log are in $work.
measure() {
    local watch begun
    rm -f "$work"/{usage,phase,log}
    echo 0 >"$work/peak"
    fleet_settle
    measure_alone 64
    memory_watch "$work/peak" &
    watch=$!
    counters "$work/counters.0"
    cpu_controller=$(cgroup_cpu bench) cpu_lab=$(cgroup_cpu '') cpu_machine=$(machine_cpu)
    begun=$(now) code=0
    within bench "$@" >"$work/log" 2>&1 || code=$?
    milliseconds=$(($(now) - begun))
    cpu_controller=$(($(cgroup_cpu bench) - cpu_controller)) cpu_lab=$(($(cgroup_cpu '') - cpu_lab))
    cpu_machine=$(($(machine_cpu) - cpu_machine))
    counters "$work/counters.1"
    measure_alone 1
    kill "$watch"
    wait "$watch" 2>/dev/null || true
}

# measured SCENARIO WAY RUN: the measurement as JSON.
measured() {
    local host largest=null own=null links=() backs=()
    for host in "${fleet[@]}"; do
        links+=("$(counted tx "$host")")
        backs+=("$(counted rx "$host")")
    done
    # Of GNU time, its last line: kilobytes, seconds, seconds.
    if [[ -s $work/usage ]]; then
        largest=$(tail -n 1 "$work/usage" | awk '{ print $1 * 1024 }')
        own=$(tail -n 1 "$work/usage" | awk '{ print ($2 + $3) * 1000 }')
    fi
    jq -nc --arg scenario "$1" --arg way "$2" --argjson run "$3" --argjson milliseconds "$milliseconds" --argjson uplink "$(counted rx registry)" \
        --argjson links "[$(IFS=, && echo "${links[*]}")]" --argjson backs "[$(IFS=, && echo "${backs[*]}")]" \
        --argjson largest "$largest" --argjson own "$own" --argjson anonymous "$(<"$work/peak")" --argjson controller "$cpu_controller" \
        --argjson lab "$cpu_lab" --argjson machine "$cpu_machine" --argjson phase "$(cat "$work/phase" 2>/dev/null || echo null)" '
        {kind: "measured", scenario: $scenario, way: $way, run: $run, milliseconds: $milliseconds, first_phase_milliseconds: $phase,
         uplink_bytes: $uplink, link_bytes: $links, link_back_bytes: $backs,
         largest_process_bytes: $largest, anonymous_bytes: $anonymous,
         controller_cpu_milliseconds: $controller, program_cpu_milliseconds: $own,
         hosts_cpu_milliseconds: ($lab - $controller), others_cpu_milliseconds: ([$machine - $lab, 0] | max)}'
}
