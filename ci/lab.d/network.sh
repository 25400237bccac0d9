# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# The lab's network: a bridge with the controller's address in a namespace that a sleeping process holds; nothing leads out of it.
subnet=10.66.0
address_of() {
    case $1 in
        controller) echo $subnet.1 ;;
        registry) echo $subnet.2 ;;
        h*) echo $subnet.$((10 + ${1#h})) ;;
        a*) echo $subnet.$((100 + ${1#a})) ;;
        v*) echo $subnet.$((150 + ${1#v})) ;;
    esac
}

in_network() { nsenter --net="/proc/$(process "$lab/network.pid")/ns/net" -- "$@"; }
in_network_of() { nsenter --net="/proc/$1/ns/net" -- "${@:2}"; }
own_network() { [[ -e /proc/$1/ns/net && ! /proc/$1/ns/net -ef /proc/self/ns/net ]]; }

network_up() {
    # shellcheck disable=SC2016 # for the inner shell
    background lab "$lab/network.log" unshare --net bash -c 'exec -a "k3arm-lab $0" sleep infinity' "$name"
    wait_for 5 own_network "$spawned" || die_with "$lab/network.log" "cannot make a network namespace"
    echo "$spawned" >"$lab/network.pid"
    in_network ip -batch - <<E
link set lo up
link add br0 address 06:6b:33:00:00:01 type bridge
address add $subnet.1/24 dev br0
link set br0 up
E
    # A gateway that leads nowhere says so at once.
    in_network sysctl -qw net.ipv4.ip_forward=1
}

# link_up NAME PID: a cable from the bridge to eth0 in the namespace of process PID.
link_up() {
    local last rate delay
    last=$(address_of "$1")
    last=${last##*.}
    in_network ip -batch - <<E
link add $1 index $((100 + last)) address $(printf 06:6b:33:00:00:%02x "$last") type veth peer name eth0 address $(printf 02:6b:33:00:00:%02x "$last") netns $2
link set $1 master br0 up
E
    in_network_of "$2" ip -batch - <<E
link set lo up
address add $subnet.$last/24 dev eth0
link set eth0 up
route add default via $subnet.1
E
    read -r rate delay <"$lab/shape.$1"
    link_shape "$1" "$rate" "$delay" "$2"
}
link_gone() { ! in_network ip link show "$1" >/dev/null 2>&1; }

# link_shape NAME RATE DELAY [PID]: both directions; "none" is no limit. The far end is eth0 in the namespace of process PID, or else a
# machine's, in the lab's own.
link_shape() {
    local device run far=eth0
    [[ -n ${4:-} ]] || far=up-$1
    for device in "$1" "$far"; do
        run=(in_network tc qdisc)
        [[ $device != eth0 ]] || run=(in_network_of "$4" tc qdisc)
        "${run[@]}" delete dev "$device" root 2>/dev/null || true
        [[ $2 == none ]] || "${run[@]}" add dev "$device" root handle 1: tbf rate "$2" burst 256k latency 50ms
        if [[ $3 != none ]] && has_netem; then
            if [[ $2 == none ]]; then
                "${run[@]}" add dev "$device" root netem delay "$3" limit 10000
            else
                "${run[@]}" add dev "$device" parent 1:1 netem delay "$3" limit 10000
            fi
        fi
    done
    relay_down "$1"
    if [[ $3 != none ]] && ! has_netem; then relay_up "$1" "$3"; fi
}
has_netem() { in_network tc qdisc add dev lo root netem delay 1ms 2>/dev/null && in_network tc qdisc delete dev lo root; }

# Without netem a process of ours is the delay: NAME leaves br0 for a bridge of its own, and the two are joined by lab.d/delay.
relay_up() {
    background lab "$lab/delay.$1.log" nsenter --net="/proc/$(process "$lab/network.pid")/ns/net" -- "$here/lab.d/delay" "$2" "in-$1" "out-$1"
    echo "$spawned" >"$lab/delay.$1"
    wait_for 5 relay_ready "$1" || die_with "$lab/delay.$1.log" "cannot delay the link of $1"
    in_network ip -batch - <<E
link add of-$1 type bridge
link set in-$1 master of-$1 up
link set out-$1 master br0 up
link set $1 master of-$1
link set of-$1 up
E
}
relay_ready() { in_network ip link show "out-$1" >/dev/null 2>&1; }
relay_down() {
    local pid
    pid=$(process "$lab/delay.$1") || return 0
    in_network ip link set "$1" master br0 2>/dev/null || true
    in_network ip link delete "of-$1"
    kill "$pid"
    rm "$lab/delay.$1"
}
