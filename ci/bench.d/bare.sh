# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# What the links give to plain TCP.

# bare FILE…: milliseconds for the files' bytes over each host's link, all at once, and over the uplink if anything comes through it;
# the largest, since all goes side by side.
bare() {
    if [[ $# -gt 0 ]]; then
        each_host bare_link "$@" || return
        [[ $unique == 0 ]] ||
            bare_over "$(host_process registry)" "$(process "$lab/network.pid")" "$(address_of controller)" "$@" || return
    else
        echo 0
    fi | awk '$1 > most { most = $1 } END { printf "%d\n", most * 1000 }'
}
bare_link() {
    local host=${*: -1}
    # Its link is as everybody's; nothing of the bench's runs there.
    ! is_machine "$host" || return 0
    bare_over "$(process "$lab/network.pid")" "$(host_process "$host")" "$(address_of "$host")" "${@:1:$#-1}"
}
# bare_over FROM TO ADDRESS FILE…: between the networks of two processes; prints seconds.
bare_over() {
    local said receiver code=0
    exec {said}< <(exec nsenter --net="/proc/$2/ns/net" "$here/bench.d/stream" receive 7777)
    receiver=$!
    { read -r -t 10 -u "$said" && within bench in_network_of "$1" "$here/bench.d/stream" send "$3" 7777 "${@:4}"; } || code=1
    kill "$receiver" 2>/dev/null || true
    exec {said}<&-
    return "$code"
}
