# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# What k3s takes of a small machine: settings × runs, on emulated arm64 machines, which run pods, or on a host that is a namespace, which runs none.

# NAME MEMORY ROLE: of a machine. k3d is k3s as k3d starts it: its own defaults, as PID 1, no limit on its heap.
memory_settings=(tiny small standard full k3d agent)
memory_size() { case $1 in tiny | agent) echo 512M ;; small | k3d) echo 1G ;; *) echo 2G ;; esac }
memory_text() {
    case $1 in
        k3d) echo "k3s' defaults, as k3d starts it" ;;
        agent) echo "an agent, profile tiny" ;;
        *) echo "profile $1" ;;
    esac
}

memory_check() {
    local setting
    chosen=("${wanted_settings[@]}")
    [[ ${#chosen[@]} -gt 0 ]] || chosen=("${memory_settings[@]}")
    for setting in "${chosen[@]}"; do
        [[ " ${memory_settings[*]} " == *" $setting "* ]] || refuse "no setting '$setting'; there are: ${memory_settings[*]}"
    done
    [[ $place =~ ^(arm64|namespace)$ ]] || refuse "--place is arm64 or namespace, not '$place'"
    [[ $minutes =~ ^[1-9][0-9]?$ ]] || refuse "--minutes wants 1 to 99, not '$minutes'"
    [[ $churn =~ ^[0-9]{1,2}$ && ($churn == 0 || $place == arm64) ]] || refuse "--churn wants 0 to 99 minutes, and pods, which run on an arm64 machine only"
    [[ $prepare == false || $place == arm64 ]] || refuse "--prepare changes a machine, and the namespaces' is this one"
    [[ $runs =~ ^[1-9]$ ]] || refuse "--runs wants 1 to 9, not '$runs'"
    # The stand-in takes next to nothing, and its figures would say nothing.
    [[ -n $k3s ]] || refuse "ci/bench memory needs a real k3s: --k3s IMAGE, as of ci/lab up"
}

# memory_run SETTING: a lab of its own, so that no setting finds what another one left.
memory_run() {
    local setting=$1 run options=(--hosts 1)
    target=h1
    if [[ $place == arm64 ]]; then
        target=a1
        options+=(--arm64 "1:$(memory_size "$setting")")
    else
        options+=(--memory "$(memory_size "$setting")")
    fi
    [[ $setting != agent || $place == arm64 ]] || { say "an agent is measured on a machine only" && return; }
    lab_is_up=yes scenario=$setting
    for image in "${images_served[@]}"; do options+=(--image "$image"); done
    "$here/lab" up --name "$name" "${options[@]}" --engine "$engine" --k3s "$k3s" --insecure-registry >"$work/lab" 2>&1 || die_with "$work/lab" "the lab does not come up"
    registry=$(address_of registry):5000
    : >"$work/log"
    [[ $prepare == false ]] || memory_k3arm host prepare --host "$target" || die_with "$work/log" "the machine cannot be prepared"
    for run in $(seq "$runs"); do
        memory_once "$setting" "$run" || { failed=yes && say "$setting, run $run: failed: $(tail -n 3 "$work/log")"; }
    done
    fleet_down
}

memory_once() { memory_cluster "$1" && memory_watch_node "$1" "$2" && memory_delete "$1"; }

memory_k3arm() {
    local variables
    mapfile -t variables < <(lab_variables)
    in_network env "${variables[@]}" "$binary" "$@" >>"$work/log" 2>&1
}
memory_tag() { echo "${k3s##*:}"; }
memory_server() { if [[ $1 == agent ]]; then echo h1; else echo "$target"; fi; }
memory_container() { host_run "$target" docker ps --quiet --no-trunc --filter "name=$(if [[ $1 == k3d ]]; then echo bench-k3d; else echo k3arm-bench; fi)"; }

# memory_cluster SETTING: from images on the host to a Ready node; sets ready, in milliseconds.
memory_cluster() {
    local setting=$1 profile=$1 begun
    [[ $setting != agent ]] || profile=tiny
    : >"$work/log"
    if [[ $setting == k3d ]]; then
        host_run "$target" docker pull --quiet "$registry/rancher/k3s:$(memory_tag)" >>"$work/log" 2>&1 || return
        begun=$(now)
        memory_k3d || return
    else
        memory_file "$profile" "$setting" >"$work/bench.yaml"
        memory_k3arm image prewarm -f "$work/bench.yaml" || return
        begun=$(now)
        memory_k3arm cluster create -f "$work/bench.yaml" --timeout 20m || return
    fi
    memory_kubeconfig "$setting" || return
    # k3arm has waited for its nodes; the other one is waited for here, by the same sign.
    memory_wait 1200 memory_node_is_ready "$setting" || return
    ready=$(($(now) - begun))
    # The first ones are refused: the namespace gets its service account a moment later.
    memory_wait 300 memory_pod "$setting" || return
    [[ $place == namespace ]] || memory_wait 900 memory_pods_run "$setting"
    pods=$(memory_pods_running "$setting")
}
memory_file() {
    echo "apiVersion: k3arm.dev/v1alpha1
kind: Cluster
metadata: { name: bench }
k3s: { version: $(memory_tag | sed 's/-k3s/+k3s/'), profile: $1 }
hosts:"
    echo "  - { name: $(memory_server "$2"), ssh: $(memory_server "$2"), role: server }"
    [[ $2 != agent ]] || echo "  - { name: $target, ssh: $target, role: agent }"
}
# What k3d starts on its one host, but for its network and load balancer. The images that k3arm places are there for it, too.
memory_k3d() {
    local options=(--privileged --network host --restart unless-stopped --volume /lib/modules:/lib/modules:ro --volume bench-k3d:/var/lib/rancher/k3s)
    local mirrors="{mirrors: {docker.io: {endpoint: ['http://$registry']}}}" arguments=(--tls-san 0.0.0.0)
    [[ $place == arm64 ]] || arguments+=(--kubelet-arg=fail-cgroupv1=false)
    host_run "$target" sh -c "mkdir -p /var/tmp/bench-k3d && echo \"$mirrors\" >/var/tmp/bench-k3d/registries.yaml" || return
    host_run "$target" docker run --detach --name bench-k3d "${options[@]}" --volume /var/tmp/bench-k3d:/etc/rancher/k3s \
        "$registry/rancher/k3s:$(memory_tag)" server "${arguments[@]}" >>"$work/log" 2>&1
}

# The API as its administrator, from the lab's own place, with the certificate that k3s writes into its own file.
memory_kubeconfig() {
    local key
    memory_wait 600 memory_kubeconfig_read "$1" || return
    for key in certificate-authority-data client-certificate-data client-key-data; do
        sed -nE "s/^ *$key: *//p" "$work/kubeconfig" | base64 -d >"$work/$key" || return
    done
}
# memory_wait SECONDS COMMAND…: as wait_for, but a small machine is not asked twenty times a second.
memory_wait() { wait_for "$1" memory_later "${@:2}"; }
memory_later() { sleep 1 && "$@"; }
memory_kubeconfig_read() {
    local server
    server=$(memory_server "$1")
    # shellcheck disable=SC2016 # the host's shell
    host_run "$server" sh -c 'docker exec "$(docker ps --quiet --filter name=bench)" cat /etc/rancher/k3s/k3s.yaml' >"$work/kubeconfig" 2>/dev/null &&
        grep -q client-key-data "$work/kubeconfig"
}
memory_api() {
    in_network curl -sf --max-time 60 --cacert "$work/certificate-authority-data" --cert "$work/client-certificate-data" --key "$work/client-key-data" \
        "https://$(address_of "$(memory_server "$1")"):6443$2" "${@:3}"
}
memory_node_is_ready() {
    memory_api "$1" /api/v1/nodes | jq -e '.items | length > 0 and all(.status.conditions | any(.type == "Ready" and .status == "True"))' >/dev/null
}
# The node on the measured machine, and one small pod there.
memory_node() {
    memory_api "$1" /api/v1/nodes | jq -er --arg address "$(address_of "$target")" '.items[] | select(.status.addresses | any(.address == $address)).metadata.name'
}
memory_pod() {
    local node
    node=$(memory_node "$1") && memory_pod_of "$node" bench docker.io/rancher/mirrored-pause:3.10.2 null | memory_post "$1"
}
# memory_pod_of NODE NAME IMAGE LABELS
memory_pod_of() {
    jq -nc --arg node "$1" --arg name "$2" --arg image "$3" --argjson labels "$4" '{apiVersion: "v1", kind: "Pod", metadata: {$name, $labels},
        spec: {nodeName: $node, automountServiceAccountToken: false, containers: [{name: "it", $image, imagePullPolicy: "IfNotPresent"}]}}'
}
memory_post() { memory_api "$1" /api/v1/namespaces/default/pods -H 'Content-Type: application/json' --data-binary @- >/dev/null; }
memory_pods_running() {
    memory_api "$1" /api/v1/pods | jq -r '[.items[] | select(.status.phase == "Running") | .metadata.name | sub("-[a-z0-9]+-[a-z0-9]+$"; "")] | sort | join(" ")'
}
memory_pods_run() {
    local running
    running=$(memory_pods_running "$1")
    [[ $running == *bench* && ($running == *coredns* || $1 == agent) ]]
}

# memory_samples SETTING MINUTES: of the host itself, every five seconds: anonymous bytes of the node's container, KiB that the machine has left,
# microseconds of processor, sectors written.
memory_samples() {
    local container
    container=$(memory_container "$1") && [[ -n $container ]] || return
    # shellcheck disable=SC2016 # the host's shell
    host_run "$target" sh -c '
        # The container has one group on cgroup v2, and one in each hierarchy on v1.
        group="" accounting=""
        for found in $(find /sys/fs/cgroup -maxdepth 5 -type d -name "*$1*" 2>/dev/null); do
            [ -n "$group" ] || [ ! -e "$found/memory.stat" ] || group=$found
            [ -n "$accounting" ] || [ ! -e "$found/cpuacct.usage" ] || accounting=$found
        done
        accounting=${accounting:-$group}
        end=$(($(date +%s) + $2 * 60))
        while [ "$(date +%s)" -lt "$end" ]; do
            anonymous=$(sed -nE "s/^(anon|total_rss) //p" "$group/memory.stat" | head -n 1)
            available=$(sed -nE "s/^MemAvailable: *([0-9]+).*/\1/p" /proc/meminfo)
            if [ -e "$accounting/cpuacct.usage" ]; then cpu=$(sed "s/...$//" "$accounting/cpuacct.usage")
            else cpu=$(sed -n "s/^usage_usec //p" "$accounting/cpu.stat"); fi
            sectors=0
            while read -r _ _ device _ _ _ _ _ _ written _; do [ "$device" != vda ] || sectors=$written; done </proc/diskstats
            # A container that starts anew has no group for a moment.
            [ -z "$anonymous" ] || [ -z "$cpu" ] || echo "$anonymous $available $cpu $sectors"
            sleep 5
        done' sh "$container" "$2"
}

memory_watch_node() {
    say "$1, run $2: Ready after $((ready / 1000)) s; ${pods:-no pods}; watching for $minutes minutes"
    memory_samples "$1" "$minutes" >"$work/samples" || return
    [[ -s $work/samples ]] || return
    : >"$work/churn"
    [[ $churn == 0 ]] || memory_churn "$1" "$2" || return
    jq -Rnc --arg setting "$1" --argjson run "$2" --argjson prepared "$prepare" --argjson ready "$ready" --arg pods "$pods" --arg place "$place" --argjson minutes "$minutes" \
        --slurpfile churn "$work/churn" '
        def median: sort | .[length / 2 | floor];
        [inputs | split(" ") | map(tonumber)] as $samples
        | {setting: $setting, run: $run, $prepared, ready_milliseconds: $ready, pods: $pods, samples: ($samples | length),
           anonymous_median: ($samples | map(.[0]) | median), anonymous_peak: ($samples | map(.[0]) | max),
           left_median: (if $place == "arm64" then ($samples | map(.[1] * 1024) | median) else null end),
           left_least: (if $place == "arm64" then ($samples | map(.[1] * 1024) | min) else null end),
           cpu_percent: (($samples[-1][2] - $samples[0][2]) / (($samples | length) - 1) / 5 / 10000),
           written_per_minute: (if $place == "arm64" then ($samples[-1][3] - $samples[0][3]) * 512 / $minutes else null end),
           churn: $churn[0]}' \
        "$work/samples" >>"$work/results"
}

memory_delete() {
    if [[ $1 == k3d ]]; then
        host_run "$target" sh -c 'docker rm --force --volumes bench-k3d && docker volume rm bench-k3d && rm -r /var/tmp/bench-k3d' >>"$work/log" 2>&1
    else
        memory_k3arm cluster delete bench
    fi
}

memory_report() {
    local setting
    for setting in "${memory_settings[@]}"; do
        jq -nc --arg setting "$setting" --arg text "$(memory_text "$setting")" --arg size "$(memory_size "$setting")" '{($setting): {text: $text, size: $size}}'
    done >"$work/texts"
    jq -s --slurpfile texts <(jq -s add "$work/texts") --arg output "$output" -r -f "$here/bench.d/memory.jq" "$work/results"
}
