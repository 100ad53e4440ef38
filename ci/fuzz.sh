#!/usr/bin/env bash
# What: every fuzz target of ci/fuzz for FUZZ_SECONDS (60): hostile frames, handshakes and ring memory, with
#       AddressSanitizer, debug assertions and overflow checks.
# Why: everything a peer can send must end in a typed error; these inputs are the ones no test thought of.
# Run time: 1 minute a target, two at a time, and 3 minutes of building. An input that fails is kept in
#       ci/fuzz/artifacts, and cargo-fuzz prints the command that replays it.
# Needs a nightly toolchain (libFuzzer); without one it is skipped, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
seconds=${FUZZ_SECONDS:-60}

if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    echo "skipped: no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1 && [[ ! -x $target/tools/bin/cargo-fuzz ]]; then
    CARGO_TARGET_DIR=$target/tools/build cargo install cargo-fuzz --locked --root "$target/tools"
    rm -rf "$target/tools/build"
fi
export PATH=$PATH:$target/tools/bin

fuzz() { cargo +nightly fuzz "$1" --fuzz-dir ci/fuzz --target-dir "$target/fuzz" "${@:2}"; }

fuzz build
mapfile -t names < <(cargo +nightly fuzz list --fuzz-dir ci/fuzz)
((${#names[@]} > 0)) || { echo "error: ci/fuzz has no targets"; exit 1; }

# run NAME: fuzzes it, shows the end of its log, and the whole of it when it failed.
run() {
    local log=$target/fuzz/$1.log
    if fuzz run "$1" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 >"$log" 2>&1 </dev/null; then
        echo "$1: $(grep -E '^Done|DONE' "$log" | tail -n 1)"
    else
        echo "error: fuzz target $1 failed:"
        grep -vE '^#[0-9]+' "$log" | tail -n 120
        return 1
    fi
}

failed=0
for ((at = 0; at < ${#names[@]}; at += 2)); do
    pids=()
    for name in "${names[@]:at:2}"; do
        run "$name" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
done
exit "$failed"
