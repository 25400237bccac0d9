# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# What is measured with: the program, the payload, and a lab of the scenario's hosts and one more, the user's own machine.

binary_make() {
    local root
    root=$(dirname "$here")
    binary=${K3ARM_BENCH_BINARY:-}
    if [[ -z $binary ]]; then
        command -v cargo >/dev/null || die "needs cargo (https://rustup.rs)"
        say "cargo build --release"
        (cd "$root" && cargo build --release --locked --bin k3arm) >"$work/build" 2>&1 || die_with "$work/build" "cargo build failed"
        binary=$(cd "$root" && cargo metadata --locked --no-deps --format-version 1 | jq -r .target_directory)/release/k3arm
    fi
    [[ -x $binary ]] || die "there is no program $binary"
}
# program_knows OPTION: of `image prewarm`.
program_knows() { "$binary" image prewarm --help | grep -e "$1" >/dev/null; }

payload_make() {
    "$here/bench.d/payload" >"$work/payload" || die "cannot make the payload"
    payload=$(tail -n 1 "$work/payload")
}
# payload_document DIGEST FILTER
payload_document() { jq -r "$2" "$payload/blobs/sha256/${1#sha256:}"; }
payload_index() { jq -r --arg version "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $version).digest' "$payload/index.json"; }
# payload_manifest VERSION ARCHITECTURE
payload_manifest() { payload_document "$(payload_index "$1")" ".manifests[] | select(.platform.architecture == \"$2\").digest"; }
# payload_blobs VERSION ARCHITECTURE: "SIZE DIGEST" of config and layers.
payload_blobs() { payload_document "$(payload_manifest "$@")" '.config, .layers[] | "\(.size) \(.digest)"'; }
# payload_ids VERSION ARCHITECTURE: what an engine may call it: the config's digest, or with containerd's store the index' or the manifest's.
payload_ids() {
    payload_index "$1"
    payload_manifest "$@"
    payload_document "$(payload_manifest "$@")" .config.digest
}
# payload_layers VERSION ARCHITECTURE: their diff IDs, as an engine prints them.
payload_layers() { payload_document "$(payload_document "$(payload_manifest "$@")" .config.digest)" '.rootfs.diff_ids | tojson'; }
# host_architecture HOST: machines are arm64, all others as this machine.
host_architecture() { if is_machine "$1"; then echo arm64; else echo amd64; fi; }

# fleet_up HOSTS: sets fleet, the names of the hosts, and laptop. Where two platforms are wanted, the last host is an arm64 machine.
fleet_up() {
    local version machines=()
    mapfile -t fleet < <(seq -f h%g 1 "$1")
    laptop=h$(($1 + 1))
    if [[ $before == platforms ]]; then
        machines=(--arm64 1)
        fleet[-1]=a1
    fi
    lab_is_up=yes
    "$here/lab" up --name "$name" --hosts $(($1 + 1)) "${machines[@]}" --engine "$engine" --store "$store" --insecure-registry >"$work/lab" 2>&1 ||
        die_with "$work/lab" "the lab does not come up"
    registry=$(address_of registry):5000
    skopeo_fetch
    for version in 1 2; do
        within lab in_network "${skopeo[@]}" copy --quiet --all --preserve-digests --dest-tls-verify=false "oci:$payload:$version" \
            "docker://$registry/bench/payload:$version" >"$work/publish" 2>&1 || die_with "$work/publish" "cannot publish the payload"
    done
}
fleet_down() {
    [[ -n $lab_is_up ]] || return 0
    if [[ -n $keep_lab && $scenario == "${chosen[-1]}" ]]; then
        say "the lab stays up: ci/lab exec --name $name -- bash; ci/lab down --name $name"
    else
        "$here/lab" down --name "$name" >"$work/lab" 2>&1 || die_with "$work/lab" "the lab does not go down"
    fi
    lab_is_up=''
}

# Debian's of today, beside the machine's own, which may be too old for the engines. Unpacked, not installed; sets skopeo, the command.
skopeo_fetch() {
    local root=$cache/skopeo-trixie libraries
    cache_lock "$root"
    if [[ ! -d $root ]]; then
        say "fetching skopeo"
        rm -rf "$root.partial"
        within lab unshare --mount mmdebstrap --mode=root --variant=extract --format=directory --include=skopeo \
            --aptopt='APT::Install-Recommends "false"' --aptopt="$(apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date) ' || true)" \
            trixie "$root.partial" "$(root_mirror)" </dev/null >"$work/skopeo" 2>&1 || die_with "$work/skopeo" "cannot fetch skopeo"
        mv "$root.partial" "$root"
    fi
    exec 8>&-
    libraries=$(dirname "$(find "$root/usr/lib" -name 'ld-linux*.so.*' -print -quit)")
    skopeo=("$(echo "$libraries"/ld-linux*.so.*)" --library-path "$libraries" "$root/usr/bin/skopeo" --insecure-policy)
}

# each_host COMMAND…: with the host's name behind it, for all at once; fails if one fails.
each_host() { each "${fleet[*]}" "$@"; }
each() {
    local host pids=() pid code=0
    for host in $1; do
        "${@:2}" "$host" &
        pids+=("$!")
    done
    for pid in "${pids[@]}"; do wait "$pid" || code=1; done
    return "$code"
}

# fleet_shape RATE UPLINK: "none" is no limit. The laptop's link never has one.
fleet_shape() {
    each_host fleet_shape_one "$1"
    fleet_shape_one "$2" registry
}
fleet_shape_one() { link_shape "$2" "$1" none "$(far_process "$2")"; }

# No image anywhere, no blob in k3arm's store.
fleet_clean() {
    each "${fleet[*]} $laptop" host_clean || die_with "$work/clean" "cannot remove the images of a host"
    rm -rf "${lab:?}"/k3arm
    mkdir "$lab/k3arm"
}
host_clean() {
    # shellcheck disable=SC2016 # the host's shell
    host_run "$1" sh -c 'set -e
        docker images --all --quiet --no-trunc | sort -u | xargs -r docker image rm --force
        [ -z "$(docker images --all --quiet)" ]' >>"$work/clean" 2>&1
}
# Nothing left to be written to the disk.
fleet_settle() { sync --file-system "$lab"; }

# host_holds VERSION WAY HOST: whether its engine holds the layers of that version by the name that the way gives it; and k3arm must have
# brought the registry's own image. The others may load it in another form.
host_holds() {
    local reference id layers architecture
    architecture=$(host_architecture "$3")
    reference=$(way_reference "$2" "$1")
    id=$(host_run "$3" docker image inspect --format '{{.Id}}' "$reference") || return
    layers=$(host_run "$3" docker image inspect --format '{{json .RootFS.Layers}}' "$reference") || return
    [[ $layers == "$(payload_layers "$1" "$architecture")" ]] || { echo "$3 holds other layers: $layers" && return 1; }
    [[ $2 != k3arm* ]] || payload_ids "$1" "$architecture" | grep -xF "$id" >/dev/null || { echo "$3 holds another image: $id" && return 1; }
}
