# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# The ways to bring version N of the payload to the fleet; each is called as way_NAME N and returns when every host has it.
ways=(k3arm k3arm-load k3arm-off k3arm-auto k3arm-zstd pull save-load skopeo)
way_text() {
    case $1 in
        k3arm) echo "k3arm image prewarm" ;;
        k3arm-load) echo "k3arm image prewarm --via load" ;;
        k3arm-off) echo "k3arm image prewarm --recompress off" ;;
        k3arm-auto) echo "k3arm image prewarm --recompress auto" ;;
        k3arm-zstd) echo "k3arm image prewarm --recompress zstd:19" ;;
        pull) echo "docker pull on every host" ;;
        save-load) echo "docker pull here, then save and load" ;;
        save-load-only) echo "docker save, ssh, docker load; the image is here already" ;;
        skopeo) echo "skopeo copy to every host" ;;
        direct) echo "the engines alone, links not shaped" ;;
    esac
}
# The option a k3arm must know for it.
way_option() { case $1 in k3arm-load) echo --via ;; k3arm-off | k3arm-auto | k3arm-zstd) echo --recompress ;; esac; }
# What the image is called afterwards.
way_reference() { case $1 in k3arm* | skopeo) echo "bench/payload:$2" ;; *) echo "$registry/bench/payload:$2" ;; esac; }

# run_k3arm VERSION OPTION…
run_k3arm() {
    local hosts=() host variables
    mapfile -t variables < <(lab_variables)
    for host in "${fleet[@]}"; do hosts+=(--host "$host"); done
    in_network env "${variables[@]}" time --output "$work/usage" --format '%M %U %S' "$binary" image prewarm "bench/payload:$1" "${hosts[@]}" "${@:2}"
}
way_k3arm() { run_k3arm "$1"; }
way_k3arm-load() { run_k3arm "$1" --via load; }
way_k3arm-off() { run_k3arm "$1" --recompress off; }
way_k3arm-auto() { run_k3arm "$1" --recompress auto; }
way_k3arm-zstd() { run_k3arm "$1" --recompress zstd:19; }

way_pull() { each_host pull_one "$1"; }
pull_one() { in_network ssh -n -F "$lab/ssh_config" "$2" docker pull --quiet "$registry/bench/payload:$1"; }

# The engines' share of a pull, without SSH.
way_direct() { each_host direct_one "$1"; }
direct_one() { host_run "$2" docker pull --quiet "$registry/bench/payload:$1"; }

# A user has an engine on his own machine. It gets the image through the uplink like everybody, and what that took is told apart, because
# people mean the transfer alone by this way. Between it and the hosts are only their own links.
way_save-load() {
    local begun
    begun=$(now)
    host_run "$laptop" docker pull --quiet "$registry/bench/payload:$1" || return
    echo $(($(now) - begun)) >"$work/phase"
    each_host save_load_one "$1"
}
save_load_one() { host_run "$laptop" docker save "$registry/bench/payload:$1" | in_network ssh -F "$lab/ssh_config" "$2" docker load; }

# Through each engine's own socket, forwarded.
way_skopeo() { each_host skopeo_one "$1"; }
skopeo_one() {
    local socket=$work/$2.sock code=1 tunnel
    rm -f "$socket"
    in_network ssh -nNT -F "$lab/ssh_config" -o ExitOnForwardFailure=yes -L "$socket:/run/docker.sock" "$2" &
    tunnel=$!
    if wait_for 20 test -S "$socket"; then
        code=0
        in_network "${skopeo[@]}" copy --quiet --src-tls-verify=false --dest-daemon-host "unix://$socket" "docker://$registry/bench/payload:$1" \
            "docker-daemon:bench/payload:$1" || code=1
    fi
    kill "$tunnel" 2>/dev/null || true
    return "$code"
}
