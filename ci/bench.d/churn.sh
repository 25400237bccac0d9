# shellcheck shell=bash disable=SC2154 # variables of the other parts
# A workload that changes, on a cluster that memory.sh has made.

# memory_churn SETTING RUN: for $churn minutes pods come, serve and go, and everything is read as kubectl reads it; then what that cost.
# The pods are one that does nothing and two CoreDNS, which is a program that people run.
memory_churn() {
    local node killed restarts killed_before restarts_before sampler end made=0 lost=0 reads=0 refused=0 slowest=0 took
    node=$(memory_node "$1") || return
    killed_before=$(memory_killed) || return
    restarts_before=$(memory_restarts "$1") || return
    say "$1, run $2: a changing workload for $churn minutes"
    memory_samples "$1" "$churn" >"$work/churn.samples" &
    sampler=$!
    end=$(($(date +%s) + churn * 60))
    while [[ $(date +%s) -lt $end ]]; do
        took=$(now)
        for pod in idle dns1 dns2; do memory_churn_pod "$node" "$pod" | memory_post "$1" && made=$((made + 1)) || refused=$((refused + 1)); done
        memory_wait 180 memory_churn_runs "$1" || lost=$((lost + 1))
        took=$(($(now) - took))
        [[ $took -le $slowest ]] || slowest=$took
        for path in /api /apis /openapi/v3 /api/v1/nodes /api/v1/pods /apis/apps/v1/deployments /api/v1/events /api/v1/namespaces/default/pods/dns1/log; do
            memory_api "$1" "$path" -H 'Accept: application/json;as=Table;v=v1;g=meta.k8s.io, application/json' >/dev/null && reads=$((reads + 1)) || refused=$((refused + 1))
        done
        memory_api "$1" '/api/v1/namespaces/default/pods?labelSelector=churn&gracePeriodSeconds=1' -X DELETE >/dev/null || refused=$((refused + 1))
        memory_wait 180 memory_churn_gone "$1" || lost=$((lost + 1))
    done
    wait "$sampler" || return
    memory_wait 300 memory_node_is_ready "$1" || return
    killed=$(memory_killed) || return
    restarts=$(memory_restarts "$1") || return
    killed=$((killed - killed_before)) restarts=$((restarts - restarts_before))
    jq -Rnc --argjson minutes "$churn" --argjson made "$made" --argjson lost "$lost" --argjson reads "$reads" --argjson refused "$refused" \
        --argjson slowest "$slowest" --argjson killed "$killed" --argjson restarts "$restarts" '
        [inputs | split(" ") | map(tonumber)] as $samples
        | {minutes: $minutes, pods: $made, rounds_lost: $lost, reads: $reads, refused: $refused, slowest_start_milliseconds: $slowest,
           killed_by_kernel: $killed, restarts: $restarts, anonymous_peak: ($samples | map(.[0]) | max),
           left_least: ($samples | map(.[1] * 1024) | min)}' "$work/churn.samples" >"$work/churn" || return
    say "$1, run $2: $(<"$work/churn")"
}
memory_churn_pod() {
    local image=mirrored-coredns-coredns:1.14.6
    [[ $2 != idle ]] || image=mirrored-pause:3.10.2
    memory_pod_of "$1" "$2" "docker.io/rancher/$image" '{"churn": "yes"}'
}
memory_churn_pods() { memory_api "$1" '/api/v1/namespaces/default/pods?labelSelector=churn'; }
memory_churn_runs() { memory_churn_pods "$1" | jq -e '.items | length == 3 and all(.status.phase == "Running")' >/dev/null; }
memory_churn_gone() { memory_churn_pods "$1" | jq -e '.items == []' >/dev/null; }
# What the kernel has killed for want of memory since the machine's start, in any group.
memory_killed() { host_run "$target" sed -n 's/^oom_kill //p' /proc/vmstat; }
# Of containers of pods that stay, and of the node's own.
memory_restarts() {
    local own
    own=$(host_run "$target" docker inspect --format '{{.RestartCount}}' "$(memory_container "$1")") || return
    memory_api "$1" /api/v1/pods | jq -e --argjson own "$own" '[.items[].status.containerStatuses[]?.restartCount] | add + $own'
}
