# Sourced by ci/rdma.sh: Debian's packages, unpacked beside the host's own system, never installed into it.
#
# A package root of our own (its lists, an empty status file, one source) makes apt resolve and download whole closures
# without root, and the same packages whatever distribution the host is. Everything is kept under $cache: a second run
# downloads nothing. The functions return 1 when something cannot be had (their callers then skip, so `set -e` is off in them).

readonly debian=bookworm mirror=${RDMA_GUEST_MIRROR:-http://deb.debian.org/debian}
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt PROGRAM ARGUMENTS...: apt-get or apt-cache on our package root.
apt() {
    "$1" -q -q -o Dir::State="$cache/apt" -o Dir::State::status="$cache/apt/status" -o Dir::Cache="$cache/apt" \
        -o Dir::Etc::sourcelist="$cache/apt/sources.list" -o Dir::Etc::sourceparts=- -o Debug::NoLocking=true \
        -o APT::Architecture=amd64 -o APT::Sandbox::User= -o Acquire::Retries=3 "${@:2}"
}

# Fills the package root's lists, once.
refresh_lists() {
    [[ ! -e $cache/apt/refreshed ]] || return 0
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial"
    : >"$cache/apt/status"
    local signed=$keyring
    if [[ ! -e $signed ]]; then
        # Not a Debian: its keys come from the host's own archive, which vouches for them.
        (cd "$cache" && apt-get -q -q download debian-archive-keyring && dpkg -x debian-archive-keyring_*.deb keyring) || return 1
        signed=$cache/keyring$keyring
    fi
    echo "deb [arch=amd64 signed-by=$signed] $mirror $debian main" >"$cache/apt/sources.list"
    apt apt-get update || return 1
    touch "$cache/apt/refreshed"
}

# unpack FOLDER PACKAGE...: the packages and all they depend on, unpacked into $cache/FOLDER, once for each list of names.
unpack() {
    local folder=$cache/$1 deb
    shift
    [[ $(cat "$folder.packages" 2>/dev/null) != "$*" ]] || return 0
    refresh_lists || return 1
    echo "fetching $*"
    rm -rf "$folder" "$cache"/apt/archives/*.deb
    mkdir -p "$folder"
    apt apt-get --yes --no-install-recommends --download-only install "$@" </dev/null || return 1
    for deb in "$cache"/apt/archives/*.deb; do dpkg -x "$deb" "$folder" || return 1; done
    rm -f "$cache"/apt/archives/*.deb
    rm -rf "$folder"/usr/share/{doc,man,locale,info,lintian}
    echo "$*" >"$folder.packages"
}

# Debian's kernel as an ELF file, so that no emulated second goes into decompressing it, and its modules.
unpack_kernel() {
    [[ ! -e $cache/kernel.done ]] || return 0
    refresh_lists || return 1
    local image
    image=$(apt apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
    echo "fetching $image"
    rm -rf "$cache/kernel"
    mkdir -p "$cache/kernel"
    (cd "$cache/kernel" && apt apt-get download "$image") || return 1
    dpkg-deb --fsys-tarfile "$cache"/kernel/*.deb | tar -x -C "$cache/kernel" --wildcards './boot/vmlinuz-*' './lib/modules/*'
    rm "$cache"/kernel/*.deb
    # The bzImage carries the kernel as an xz stream, whose magic is found in it once.
    local bzimage offset
    bzimage=$(echo "$cache"/kernel/boot/vmlinuz-*)
    offset=$(LC_ALL=C grep -abom 1 "$(printf '\xfd7zXZ')" "$bzimage" | head -n 1 | cut -d: -f1)
    { tail -c "+$((offset + 1))" "$bzimage" | xz -dc 2>/dev/null || true; } >"$cache/kernel/vmlinux"
    [[ $(head -c 4 "$cache/kernel/vmlinux" | tail -c 3) == ELF ]] || { echo "error: no kernel in $bzimage"; return 1; }
    touch "$cache/kernel.done"
}

# unpacked FOLDER NAME PROGRAM ARGUMENTS...: runs an unpacked program, called NAME, with the loader and libraries that came
# with it.
unpacked() {
    local root=$cache/$1
    "$root"/lib64/ld-linux-x86-64.so.2 --argv0 "$2" --library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" \
        "$root$3" "${@:4}"
}
