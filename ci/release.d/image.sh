# shellcheck shell=bash disable=SC2154 # variables of ci/release
# An OCI image of three platforms with nothing in it but the program. It has no ssh client: it is for `local` with the engine's socket
# mounted, for `image resolve` and `image bundle`.

image() {
    local name manifests=() folder=$out/image
    rm -rf "$folder"
    mkdir -p "$folder/blobs/sha256"
    for name in "${processors[@]}"; do manifests+=("$(image_manifest "$name")"); done
    image_blob application/vnd.oci.image.index.v1+json "{\"org.opencontainers.image.ref.name\":\"$version\"}" < <(
        jq -nc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: $ARGS.positional}' --jsonargs "${manifests[@]}") |
        jq -c '{schemaVersion: 2, manifests: [.]}' >"$folder/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$folder/oci-layout"
    say "image of ${#manifests[@]} platforms"
}

# image_blob MEDIA-TYPE [ANNOTATIONS]: keeps what it reads; prints its descriptor.
image_blob() {
    local file digest
    file=$(mktemp -p "$out")
    cat >"$file"
    digest=$(sha256sum "$file" | cut -d' ' -f1)
    jq -nc --arg type "$1" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$file")" --argjson annotations "${2:-null}" \
        '{mediaType: $type, digest: $digest, size: $size} + if $annotations then {annotations: $annotations} else {} end'
    chmod 644 "$file"
    mv "$file" "$out/image/blobs/sha256/$digest"
}

# image_manifest NAME: the platform's manifest, as the index names it.
image_manifest() {
    local tree layer diff config platform
    case $1 in
        x86_64) platform='{"architecture":"amd64","os":"linux"}' ;;
        aarch64) platform='{"architecture":"arm64","os":"linux"}' ;;
        armv7) platform='{"architecture":"arm","os":"linux","variant":"v7"}' ;;
    esac
    tree=$(mktemp -d)
    mkdir -m 1777 "$tree/tmp"
    install -m 755 "$out/k3arm-$1" "$tree/k3arm"
    tar --directory "$tree" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --create k3arm tmp >"$tree.tar"
    diff=sha256:$(sha256sum "$tree.tar" | cut -d' ' -f1)
    layer=$(gzip -n -9 <"$tree.tar" | image_blob application/vnd.oci.image.layer.v1.tar+gzip)
    rm -rf "$tree" "$tree.tar"
    config=$(jq -nc --argjson platform "$platform" --arg diff "$diff" --arg time "$(date -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)" \
        '$platform + {created: $time, config: {Entrypoint: ["/k3arm"], Env: ["HOME=/tmp"]}, rootfs: {type: "layers", diff_ids: [$diff]}}' |
        image_blob application/vnd.oci.image.config.v1+json)
    jq -nc --argjson config "$config" --argjson layer "$layer" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' |
        image_blob application/vnd.oci.image.manifest.v1+json | jq -c --argjson platform "$platform" '. + {platform: $platform}'
}
