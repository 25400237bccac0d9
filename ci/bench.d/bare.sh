# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# What the links give to plain TCP.

# bare FILE…: milliseconds for the files' bytes over each host's link, all at once, and over the uplink if anything comes through it;
# the larger of the two, since they go side by side.
bare() {
    local links uplink=0
    [[ $# -gt 0 ]] || { echo 0 && return; }
    links=$(now)
    each_host bare_link "$@" || return
    links=$(($(now) - links))
    if [[ $unique != 0 ]]; then
        uplink=$(now)
        bare_over "$(host_process registry)" "$(process "$lab/network.pid")" "$(address_of controller)" "$@" || return
        uplink=$(($(now) - uplink))
    fi
    echo $((links > uplink ? links : uplink))
}
bare_link() {
    local host=${*: -1}
    bare_over "$(process "$lab/network.pid")" "$(host_process "$host")" "$(address_of "$host")" "${@:1:$#-1}"
}
# bare_over FROM TO ADDRESS FILE…: between the networks of two processes.
bare_over() {
    local said receiver code=0
    exec {said}< <(exec nsenter --net="/proc/$2/ns/net" "$here/bench.d/stream" receive 7777)
    receiver=$!
    { read -r -t 10 -u "$said" && in_network_of "$1" "$here/bench.d/stream" send "$3" 7777 "${@:4}" >/dev/null; } || code=1
    kill "$receiver" 2>/dev/null || true
    exec {said}<&-
    return "$code"
}
