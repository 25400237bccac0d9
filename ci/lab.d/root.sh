# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# Debian roots of the hosts, one a suite, built once and kept in the cache; a host's changes go to an overlay of its own.

# The machine's own mirror, if it is a Debian.
root_mirror() {
    local found
    # shellcheck disable=SC2016 # apt's variables
    found=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 2>/dev/null | awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }')
    echo "${K3ARM_LAB_MIRROR:-${found:-http://deb.debian.org/debian}}"
}
# The cached root's place: named by what goes into it.
root_path() { echo "$cache/root-$1-$(cat "$images/host/packages" "$images/host/build" | sha256sum | cut -c1-12)"; }

# All the suites of this lab, those that are missing side by side.
roots_build() {
    local suite builders=() builder
    mkdir -p "$cache"
    for suite in $(tr ',' '\n' <<<"$engine" | sort -u); do
        [[ ! -d $(root_path "$suite") ]] || continue
        within lab root_build "$suite" &
        builders+=("$!")
    done
    for builder in "${builders[@]}"; do wait "$builder" || exit 1; done
}

# root_build SUITE: into a temporary directory, renamed when it is whole; one builder at a time.
root_build() {
    local suite=$1 root log=$lab/root-$1.log
    root=$(root_path "$suite")
    cache_lock "$root"
    [[ ! -d $root ]] || return 0
    say "building the $suite root (half a minute when alone; kept in $cache)"
    if ! root_make "$suite" "$root.partial" "$log" && grep -q NO_PUBKEY "$log"; then
        say "Debian's keys on this machine are too old for $suite; updating debian-archive-keyring"
        install_packages debian-archive-keyring
        root_make "$suite" "$root.partial" "$log" || true
    fi
    [[ -d $root.partial/home/guest ]] || die_with "$log" "cannot build the $suite root"
    mv "$root.partial" "$root"
    say "$suite root built"
}
root_make() {
    rm -rf "$2"
    unshare --mount --pid --fork --kill-child "$images/host/build" "$1" "$2" "$(root_mirror)" </dev/null >"$3" 2>&1
}

# cache_lock PATH: fd 8 is the right to make PATH (as PATH.partial, then renamed).
cache_lock() {
    exec 8>"$1.lock"
    flock -n 8 || { say "waiting for another lab that makes $(basename "$1")" && flock 8; }
}
# What killed builders left.
cache_sweep() {
    local partial
    for partial in "$cache"/*.partial; do
        [[ -d $partial ]] || continue
        (exec 8>"${partial%.partial}.lock" && flock -n 8 && rm -rf "$partial") || true
    done
}
