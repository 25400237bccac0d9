# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# "The internet": Debian's docker-registry in a namespace of its own, behind a link that can be shaped and counted. Its storage is an
# overlay over a cached one that was filled once.
registry_program=$cache/docker-registry/usr/bin/docker-registry

# Unpacked, not installed: the machine gets no service.
registry_fetch() {
    [[ ! -x $registry_program ]] || return 0
    cache_lock "$cache/docker-registry"
    if [[ ! -x $registry_program ]]; then
        say "fetching docker-registry"
        within lab registry_download >"$lab/registry.log" 2>&1 || die_with "$lab/registry.log" "cannot download docker-registry"
        mv "$cache/docker-registry.partial" "$cache/docker-registry"
    fi
    exec 8>&-
}
registry_download() {
    local partial=$cache/docker-registry.partial
    rm -rf "$partial"
    mkdir "$partial"
    cd "$partial" || return
    apt-get -q download docker-registry || { apt-get -q -o DPkg::Lock::Timeout=300 update && apt-get -q download docker-registry; } || return
    dpkg -x docker-registry_*.deb . && rm ./*.deb
}

# registry_up STORAGE over|in: with the lab's changes over the cached STORAGE, or in STORAGE itself to fill it.
registry_up() {
    local directory=$lab/registry mount
    mkdir -p "$directory"/{upper,work,storage}
    case $2 in
        over) mount=(-t overlay -o "lowerdir=$1,upperdir=$directory/upper,workdir=$directory/work" overlay "$directory/storage") ;;
        in) mount=(--bind "$1" "$directory/storage") ;;
    esac
    cat >"$directory/config.yml" <<E
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $directory/storage, maxthreads: 100}, delete: {enabled: true}}
http: {addr: ":5000", secret: lab}
E
    echo "$1" >"$directory/base"
    touch "$directory/access.log"
    background lab "$directory/registry.log" env -i PATH="$PATH" unshare --net --mount --propagation private \
        bash -c "mount ${mount[*]@Q} && exec '$registry_program' serve '$directory/config.yml' >>'$directory/access.log'"
    wait_for 5 own_network "$spawned" || die_with "$directory/registry.log" "the registry does not start"
    echo "$spawned" >"$directory/pid"
    link_up registry "$spawned"
    wait_for 20 registry_answers || die_with "$directory/registry.log" "the registry does not answer"
}
registry_answers() { in_network bash -c "exec 3<>/dev/tcp/$(address_of registry)/5000" 2>/dev/null; }
registry_down() {
    kill -KILL "$(process "$lab/registry/pid")"
    relay_down registry
    wait_for 5 link_gone registry || in_network ip link delete registry
    rm -f "$lab/registry/pid"
}

# The plug, pulled. What it has sent is counted over all of its processes.
registry_stop() {
    process "$lab/registry/pid" >/dev/null || return 0
    # Nothing more is sent once it has been counted.
    in_network ip link set registry down
    registry_log --bytes >"$lab/registry/sent.now"
    mv "$lab/registry/sent.now" "$lab/registry/sent"
    registry_down
}
registry_start() { process "$lab/registry/pid" >/dev/null || registry_up "$(<"$lab/registry/base")" over; }
lab_registry() {
    case ${1:-} in stop | start) "registry_$1" ;; *) refuse "ci/lab registry stop|start" ;; esac
}

# What it serves: the images of images/build, put in once for each version of them, and a real k3s over them if one is named.
registry_fill() {
    local built filled image log=$lab/publish.log
    if [[ ! -x $images/build || ! -x $images/publish ]]; then
        say "WARNING: no images/build, so the registry has NONE OF THE TEST IMAGES"
        mkdir -p "$cache/registry-empty"
        registry_up "$cache/registry-empty" over
    else
        say "test images"
        within lab "$images/build" </dev/null >"$log" || die "images/build failed"
        built=$(tail -n 1 "$log")
        filled=$cache/registry-$(basename "$built")
        cache_lock "$filled"
        if [[ ! -d $filled ]]; then
            say "publishing them to a registry"
            rm -rf "$filled.partial"
            mkdir "$filled.partial"
            registry_up "$filled.partial" in
            within lab in_network "$images/publish" "$built" "http://$(address_of registry):5000" >"$log" 2>&1 ||
                die_with "$log" "images/publish failed"
            registry_down
            mv "$filled.partial" "$filled"
        fi
        exec 8>&-
        registry_up "$filled" over
    fi
    [[ -z $k3s ]] || registry_k3s
    for image in "${extra_images[@]}"; do registry_serve "${image#*=}" "${image%%=*}"; done
    registry_log --clear
}

# A named k3s image takes the stand-in's place. Only the machine reaches its source, only the lab the registry: so by way of a
# directory, which keeps every byte.
registry_k3s() {
    local tag=${k3s##*:}
    [[ $k3s == *:* && $tag != */* ]] || die "--k3s wants an image with a tag, not '$k3s'"
    registry_serve "$k3s" "rancher/k3s:$tag"
}
# registry_serve SOURCE NAME
registry_serve() {
    local source=$1 log=$lab/serve.log
    case $source in
        oci:* | oci-archive:* | docker-archive:* | docker://* | dir:* | docker-daemon:* | containers-storage:*) ;;
        *) source=docker://$source ;;
    esac
    say "serving $1 as $2"
    mkdir "$lab/serve"
    within lab skopeo copy --all --preserve-digests "$source" "dir:$lab/serve" >"$log" 2>&1 || die_with "$log" "cannot read $1"
    within lab in_network skopeo copy --all --preserve-digests --dest-tls-verify=false "dir:$lab/serve" \
        "docker://$(address_of registry):5000/$2" >"$log" 2>&1 || die_with "$log" "cannot serve $1"
    rm -rf "$lab/serve"
}

registry_log() {
    local log=$lab/registry/access.log before=0
    case ${1:-} in
        '') cat "$log" ;;
        --path) echo "$log" ;;
        --clear) : >"$log" ;;
        --blobs) sed -nE 's#.*"GET [^"]*/blobs/(sha256:[0-9a-f]{64})[^"]*" 20[06] .*#\1#p' "$log" | sort | uniq -c | awk '{ print $1, $2 }' ;;
        --bytes)
            [[ ! -e $lab/registry/sent ]] || before=$(<"$lab/registry/sent")
            in_network_of "$(process "$lab/registry/pid")" ip -s link show eth0 |
                awk -v before="$before" 'sent { printf "%.0f\n", before + $1; exit } /TX:/ { sent = 1 }'
            ;;
    esac
}
