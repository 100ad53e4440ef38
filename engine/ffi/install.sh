#!/bin/sh
# Installs the C interface: header, shared and static library, pkg-config and CMake files.
#   install.sh [--prefix /usr/local] [--destdir DIR] [--from FOLDER]
# --destdir is put before every path (for packages); --from is a folder with libraries built before, else they are built.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=/usr/local destdir='' from=''
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=$2 ;;
        --destdir) destdir=$2 ;;
        --from) from=$2 ;;
        *) echo "install.sh: unknown option $1; expected --prefix, --destdir or --from" >&2; exit 2 ;;
    esac
    shift 2 || { echo "install.sh: $1 needs a value" >&2; exit 2; }
done
if [ -z "$from" ]; then
    (cd "$here" && cargo build --release -p keyrange-ffi)
    from=${CARGO_TARGET_DIR:-$here/../../target}/release
fi
# newest PATTERN: of several builds in a folder of cargo's, the last.
newest() { ls -t "$from"/$1 2>/dev/null | head -n 1; }
shared=$(newest 'libkeyrange_ffi*.so')
static=$(newest 'libkeyrange_ffi*.a')
if [ -z "$shared" ] || [ -z "$static" ]; then
    echo "install.sh: expected libkeyrange_ffi.so and .a in $from: run cargo build --release -p keyrange-ffi" >&2
    exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml" | head -n 1)
lib=$destdir$prefix/lib
include=$destdir$prefix/include

install -d "$include/ps/internal" "$include/dmlc" "$lib/pkgconfig" "$lib/cmake/Keyrange"
install -m 644 "$here/include/"keyrange*.h* "$include/"
for folder in dmlc ps ps/internal; do install -m 644 "$here/include/$folder/"*.h "$include/$folder/"; done
install -m 755 "$shared" "$lib/libkeyrange.so.$version"
install -m 644 "$static" "$lib/libkeyrange.a"
ln -sf "libkeyrange.so.$version" "$lib/libkeyrange.so.1"
ln -sf libkeyrange.so.1 "$lib/libkeyrange.so"
for file in keyrange.pc KeyrangeConfig.cmake KeyrangeConfigVersion.cmake; do
    case $file in
        *.pc) to=$lib/pkgconfig/$file ;;
        *) to=$lib/cmake/Keyrange/$file ;;
    esac
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" "$here/packaging/$file.in" >"$to"
    chmod 644 "$to"
done
echo "installed keyrange $version under $destdir$prefix"
