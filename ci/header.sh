#!/usr/bin/env bash
# What: engine/ffi/include/keyrange.h is what cbindgen makes of engine/ffi/src.   ci/header.sh --write   makes it anew.
# Why: a header that says something else than the library crashes other people's programs.
# Run time: 1 s, and a minute the first time, when cbindgen is built.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
version=0.29.4

export PATH=$target/tools/bin:$PATH
if [[ $(cbindgen --version 2>/dev/null) != "cbindgen $version" ]]; then
    CARGO_TARGET_DIR=$target/tools/build \
        cargo install cbindgen --version "$version" --locked --no-default-features --features clap --root "$target/tools"
    rm -rf "$target/tools/build"
fi

verify=--verify
[[ ${1:-} == --write ]] && verify=
cd engine/ffi
cbindgen --quiet --config cbindgen.toml --crate keyrange-ffi ${verify:+"$verify"} --output include/keyrange.h . || {
    echo "error: engine/ffi/include/keyrange.h is not what the source says: run ci/header.sh --write"
    exit 1
}
