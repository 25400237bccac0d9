# shellcheck shell=bash disable=SC2154 # variables of ci/release
# What goes with the programs: documents that they write themselves, the list of what is in them, Debian packages.

# documents PROGRAM
documents() {
    local shell made=$out/documents
    rm -rf "$made"
    mkdir -p "$made/completions"
    "$1" man "$made/man1" >/dev/null
    for shell in bash zsh fish; do "$1" completion "$shell" >"$made/completions/k3arm.$shell"; done
    archive "$out/k3arm-man.tar.gz" "$made" man1
    archive "$out/k3arm-completions.tar.gz" "$made" completions
}

# archive FILE FOLDER NAME: the same files give the same bytes.
archive() {
    tar --directory "$2" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --create "$3" | gzip -n -9 >"$1"
}

# CycloneDX, of what is linked into any of the programs: no build scripts, no procedural macros, no tools of the tests.
sbom() {
    local name linked
    linked=$(for name in "${processors[@]}"; do
        cargo tree --locked --target "$(triple_of "$name")" --edges normal,no-proc-macro --prefix none --format '{p}'
    done | awk '{ print $1 "@" substr($2, 2) }' | sort -u | jq -R . | jq -s .)
    cargo metadata --locked --format-version 1 | jq --argjson linked "$linked" --arg version "$version" --arg time "$(date -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)" '{
        bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
        metadata: { timestamp: $time, component: { type: "application", name: "k3arm", version: $version, purl: "pkg:cargo/k3arm@\($version)" } },
        components: [.packages[] | select(.name != "k3arm") | select("\(.name)@\(.version)" | IN($linked[]))
            | { type: "library", name, version, purl: "pkg:cargo/\(.name)@\(.version)",
                licenses: (if .license then [{ expression: (.license | gsub("/"; " OR ")) }] else [] end) }] | sort_by(.purl)
    }' >"$out/k3arm.cdx.json"
    say "$(jq '.components | length' "$out/k3arm.cdx.json") crates are in the programs"
}

# package NAME: k3arm_VERSION_ARCHITECTURE.deb
package() {
    local architecture tree shell folder
    architecture=$(debian_of "$1")
    tree=$(mktemp -d)
    # It is the root of the system that the package is installed on.
    chmod 755 "$tree"
    install -D -m 755 "$out/k3arm-$1" "$tree/usr/bin/k3arm"
    mkdir -p "$tree/usr/share/man/man1" "$tree/DEBIAN"
    cp "$out/documents/man1/"*.1 "$tree/usr/share/man/man1/"
    gzip -n -9 "$tree/usr/share/man/man1/"*.1
    for shell in bash:bash-completion/completions/k3arm zsh:zsh/vendor-completions/_k3arm fish:fish/vendor_completions.d/k3arm.fish; do
        install -D -m 644 "$out/documents/completions/k3arm.${shell%%:*}" "$tree/usr/share/${shell#*:}"
    done
    folder=$tree/usr/share/doc/k3arm
    install -D -m 644 LICENSE "$folder/copyright"
    gzip -n -9 <CHANGELOG.md >"$folder/changelog.gz"
    cat >"$tree/DEBIAN/control" <<E
Package: k3arm
Version: $version
Architecture: $architecture
Maintainer: the k3arm authors <k3arm@localhost>
Section: admin
Priority: optional
Recommends: openssh-client
Installed-Size: $(du -k --apparent-size -s "$tree/usr" | cut -f1)
Description: k3s clusters in containers on ARM machines, over SSH
 Resolves multi-arch k3s images, brings them to Raspberry Pi and other Docker
 hosts over SSH, and makes Kubernetes clusters there. Nothing is installed on
 the hosts.
E
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$tree" "$out/k3arm_${version}_$architecture.deb" >/dev/null
    rm -rf "$tree"
    say "k3arm_${version}_$architecture.deb"
}
