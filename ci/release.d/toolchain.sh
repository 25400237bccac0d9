# shellcheck shell=bash disable=SC2154 # variables of ci/release
# shellcheck disable=SC2054 # cargo takes a list with a comma
# How a static program for another processor is compiled: cargo and rustc, a standard library for musl, and zig as C compiler and linker.
zig=0.17.1 zigbuild=0.24.1
release_cache=${XDG_CACHE_HOME:-$HOME/.cache}/k3arm-release
standard=()

toolchain_prepare() {
    local name
    command -v cargo >/dev/null || die "needs cargo (https://rustup.rs)"
    need file:file jq:jq
    python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
    for name in "${processors[@]}"; do
        [[ -d $(rustc --print target-libdir --target "$(triple_of "$name")") ]] || standard=(-Zbuild-std=std,panic_abort)
    done
    if [[ ${#standard[@]} -gt 0 ]]; then
        export RUSTC_BOOTSTRAP=1
        if [[ ! -d $(rustc --print sysroot)/lib/rustlib/src/rust/library ]]; then
            [[ -e /usr/share/doc/rust-web-src && -x /usr/bin/rustc ]] || install_packages rustc-web libstd-rust-web-dev rust-web-src
            export RUSTC=/usr/bin/rustc
        fi
    fi
    if [[ ! -x $release_cache/zig-$zig-$zigbuild/bin/cargo-zigbuild ]]; then
        say "fetching zig $zig"
        python3 -m venv "$release_cache/zig-$zig-$zigbuild"
        "$release_cache/zig-$zig-$zigbuild/bin/pip" install -q --disable-pip-version-check "ziglang==$zig" "cargo-zigbuild==$zigbuild"
    fi
    PATH=$release_cache/zig-$zig-$zigbuild/bin:$PATH
}

# toolchain_build NAME FILE: nothing of this machine's paths is in it.
toolchain_build() {
    local triple target=$root/target/release-static flags
    triple=$(triple_of "$1")
    flags=(-Ctarget-feature=+crt-static "--remap-path-prefix=$root=/k3arm" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
        "--remap-path-prefix=$("${RUSTC:-rustc}" --print sysroot)=/rust")
    [[ ${#standard[@]} == 0 ]] || flags+=(-Clink-self-contained=no)
    RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$target CFLAGS="-ffile-prefix-map=$root=/k3arm -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
        CARGO_INCREMENTAL=0 cargo-zigbuild zigbuild --quiet --release --locked --bin k3arm --target "$triple" "${standard[@]}" || return
    install -m 755 "$target/$triple/release/k3arm" "$2"
}
