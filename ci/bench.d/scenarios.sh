# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# What is measured: how many hosts, which links, what they have before, what they are brought.

# Name, hosts, their links, the uplink, what is there before, ways; text.
#   empty         nothing, neither on hosts nor here    version-1    version 1, brought the same way; version 2 is wanted
#   same          version 1, which is wanted            recompressed   here the blobs and their recompressed layers, on hosts nothing
#   platforms     as empty, and one host is of another platform
scenarios="
cold             4  100mbit 100mbit empty        k3arm,k3arm-load,pull,save-load,skopeo; no host has anything
cold-1           1  100mbit 100mbit empty        k3arm,k3arm-load,pull,save-load,skopeo; the same with one host
cold-16          16 100mbit 100mbit empty        k3arm,k3arm-load,pull,save-load,skopeo; the same with 16
slow-uplink      4  100mbit 50mbit  empty        k3arm,k3arm-load,pull,save-load,skopeo; the internet is slower than the hosts' links
one-layer        4  100mbit 100mbit version-1    k3arm,k3arm-load,pull,save-load,skopeo; one layer has changed of an image that all have
nothing          16 100mbit 100mbit same         k3arm,k3arm-load,pull,save-load,skopeo; all have it
recompressed-20  4  20mbit  100mbit recompressed k3arm-off,k3arm-auto,k3arm-zstd,pull; layers recompressed before, links of 20 Mbit/s
recompressed-100 4  100mbit 100mbit recompressed k3arm-off,k3arm-auto,k3arm-zstd,pull; layers recompressed before, links of 100 Mbit/s
mixed            4  100mbit 100mbit platforms    k3arm,pull; hosts of two platforms: the last one is an emulated arm64 machine"

scenario_line() { awk -v name="$1" '$1 == name' <<<"$scenarios"; }
scenarios_list() {
    local way
    printf '%-18s%-7s%-9s%-9s%s\n' SCENARIO HOSTS LINKS UPLINK ''
    awk 'NF { text = $0; sub(/^[^;]*; /, "", text); printf "%-18s%-7s%-9s%-9s%s\n", $1, $2, $3, $4, text }' <<<"$scenarios"
    printf '\nWAY\n'
    for way in "${ways[@]}"; do printf '%-18s%s\n' "$way" "$(way_text "$way")"; done
}
scenarios_check() {
    local word
    for word in "${wanted_scenarios[@]}"; do [[ -n $(scenario_line "$word") ]] || refuse "no scenario '$word'; see ci/bench prewarm --list"; done
    for word in "${wanted_ways[@]}"; do [[ " ${ways[*]} " == *" $word "* ]] || refuse "no way '$word'; see ci/bench prewarm --list"; done
    for word in "$wanted_rate" "$wanted_uplink"; do
        [[ $word =~ ^$|^none$|^[0-9.]+[kmg]?bit$ ]] || refuse "a rate is like 100mbit, or none; not '$word'"
    done
    [[ $wanted_hosts =~ ^$|^[1-9][0-9]?$ && ${wanted_hosts:-1} -le 49 ]] || refuse "--hosts wants 1 to 49, not '$wanted_hosts'"
    [[ $runs =~ ^[1-9][0-9]?$ ]] || refuse "--runs wants 1 to 99, not '$runs'"
    [[ $output == table || $output == json ]] || refuse "-o is table or json, not '$output'"
    mapfile -t chosen < <(awk 'NF { print $1 }' <<<"$scenarios")
    [[ ${#wanted_scenarios[@]} == 0 ]] || chosen=("${wanted_scenarios[@]}")
}

# bits RATE: a second; 0 is no limit.
bits() {
    local number=${1%bit}
    if [[ $1 == none ]]; then echo 0; else numfmt --from=si "${number^^}"; fi
}

# skip SCENARIO WAY WHY: loudly, and in the report.
skip() {
    printf '!! SKIPPED: %s%s: %s\n' "$1" "${2:+, $2}" "$3" >&2
    jq -nc --arg scenario "$1" --arg way "$2" --arg why "$3" '{kind: "skipped", scenario: $scenario, way: $way, why: $why}' >>"$work/results"
}

# scenario_ways LIST: sets mine, those that are wanted and that this k3arm can.
scenario_ways() {
    local way option
    mine=()
    for way in ${1//,/ }; do
        [[ ${#wanted_ways[@]} == 0 || " ${wanted_ways[*]} " == *" $way "* ]] || continue
        option=$(way_option "$way")
        if [[ -n $option ]] && ! program_knows "$option"; then
            skip "$scenario" "$way" "this k3arm has no option $option"
        else
            mine+=("$way")
        fi
    done
}

scenario_run() {
    local scenario=$1 hosts rate uplink before list version=1 unique missing lacking mine run way
    read -r _ hosts rate uplink before list < <(scenario_line "$scenario" | sed 's/;.*//')
    hosts=${wanted_hosts:-$hosts} rate=${wanted_rate:-$rate} uplink=${wanted_uplink:-$uplink}
    scenario_ways "$list"
    [[ ${#mine[@]} -gt 0 ]] || return 0
    [[ $before != version-1 ]] || version=2
    say "$scenario: $hosts hosts"
    fleet_up "$hosts"
    scenario_expect
    for run in $(seq "$runs"); do
        scenario_way direct none none || die_with "$work/log" "the engines cannot pull"
        scenario_bare
        for way in "${mine[@]}"; do scenario_way "$way" "$rate" "$uplink" || scenario_failed "$way"; done
    done
    fleet_down
}

# Sets lacking and missing, the blobs that hosts of this machine's architecture lack and their bytes, and unique, those of them that come through the uplink.
scenario_expect() {
    local size digest
    lacking=() missing=0
    while read -r size digest; do
        case $before in
            same) continue ;;
            version-1) ! payload_blobs 1 amd64 | grep "$digest" >/dev/null || continue ;;
        esac
        lacking+=("$payload/blobs/sha256/${digest#sha256:}")
        missing=$((missing + size))
    done < <(payload_blobs "$version" amd64)
    unique=$missing
    case $before in
        recompressed) unique=0 ;;
        platforms) unique=$({ payload_blobs "$version" amd64 && payload_blobs "$version" arm64; } | sort -u | awk '{ sum += $1 } END { printf "%d", sum }') ;;
    esac
    jq -nc --arg scenario "$scenario" --argjson hosts "$hosts" --arg rate "$rate" --arg uplink "$uplink" --argjson rate_bits "$(bits "$rate")" \
        --argjson uplink_bits "$(bits "$uplink")" --argjson missing "$missing" --argjson unique "$unique" --arg engine "$engine" --arg store "$store" \
        '{kind: "scenario", scenario: $scenario, hosts: $hosts, rate: $rate, uplink_rate: $uplink, rate_bits: $rate_bits, uplink_bits: $uplink_bits,
          missing_bytes: $missing, unique_bytes: $unique, engine: $engine, store: $store}' >>"$work/results"
}

scenario_bare() {
    local milliseconds
    fleet_shape "$rate" "$uplink"
    measure_alone 64
    milliseconds=$(bare "${lacking[@]}") || die "no bytes get over the bare links"
    measure_alone 1
    say "$scenario: bare TCP, $missing bytes: $milliseconds ms"
    jq -nc --arg scenario "$scenario" --argjson milliseconds "$milliseconds" '{kind: "bare", scenario: $scenario, milliseconds: $milliseconds}' >>"$work/results"
}

# scenario_way WAY RATE UPLINK: the state before, then the measurement.
scenario_way() {
    fleet_shape none none
    fleet_clean
    cgroup_make bench
    scenario_before "$1" >"$work/log" 2>&1 || return
    fleet_shape "$2" "$3"
    measure "way_$1" "$version"
    [[ $code == 0 ]] || return "$code"
    each_host host_holds "$version" "$1" >>"$work/log" 2>&1 || return
    measured "$scenario" "$1" "$run" >>"$work/results"
    say "$scenario: $1: $milliseconds ms; processor: controller $cpu_controller ms, hosts $((cpu_lab - cpu_controller)) ms, others $((cpu_machine - cpu_lab)) ms"
}
scenario_before() {
    case $before in
        version-1 | same) within bench "way_$1" 1 ;;
        recompressed) [[ $1 != k3arm-* ]] || scenario_recompress "${fleet[0]}" ;;
    esac
}
# Once, through one host, which forgets it then; later ways start from a copy.
scenario_recompress() {
    local fleet=("$1") way kept=$lab/recompressed
    if [[ ! -d $kept ]]; then
        for way in k3arm-off k3arm-zstd; do within bench "way_$way" 1 && host_clean "$1" || return; done
        mv "$lab/k3arm" "$kept"
    fi
    rm -rf "$lab/k3arm" && cp -a "$kept" "$lab/k3arm"
}

# What another way cannot do is told; what k3arm cannot do is a failure.
scenario_failed() {
    local why
    tail -n 15 "$work/log" >&2
    why=$(grep -vE '^\s*$' "$work/log" | tail -n 1 | cut -c1-300)
    case $1 in
        k3arm*) failed=yes && skip "$scenario" "$1" "FAILED: $why" ;;
        *) skip "$scenario" "$1" "it cannot: $why" ;;
    esac
}
