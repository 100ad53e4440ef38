#!/usr/bin/env bash
# What: the kernels' tests with KEYRANGE_ISA set to each instruction set this machine has, and one small training job
#       under each: the objective of every pass must be the same to the last bit. Then the kernels as other targets than
#       x86-64 compile them: without intrinsics, prefetch and shells.
# Why: a model must not change when a job moves to another node; and the override itself must have an effect, so a word
#      that is no instruction set is refused.
# Run time: 20 s, and 30 s to build the kernels once more.
set -euo pipefail
cd "$(dirname "$0")/.."

isas=(scalar)
if [[ $(uname -m) == x86_64 ]]; then
    for isa in avx2 avx512f; do
        if grep -qw "$isa" /proc/cpuinfo; then isas+=("${isa%f}"); else echo "skipped: this machine has no $isa"; fi
    done
fi

# With --workspace the features are those of the tests, so their binaries are used again.
tests=()
for file in kernels/tests/*.rs; do tests+=(--test "$(basename "$file" .rs)"); done
for isa in "${isas[@]}"; do
    echo "kernels with KEYRANGE_ISA=$isa"
    KEYRANGE_ISA=$isa cargo test --quiet --workspace --release "${tests[@]}"
done

echo "kernels without x86-64"
RUSTFLAGS="${RUSTFLAGS:-} --cfg keyrange_portable" cargo test --quiet --release -p keyrange-kernels \
    --target-dir "${CARGO_TARGET_DIR:-target}/portable"

keyrange() { cargo run --quiet --release --bin keyrange -- "$@"; }
if KEYRANGE_ISA=mmx keyrange completions bash >/dev/null 2>&1; then
    echo "error: KEYRANGE_ISA=mmx was accepted"
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for isa in "${isas[@]}"; do
    KEYRANGE_ISA=$isa keyrange train sparse-lr --generate --generate-rows 4000 --embedded --servers 2 --workers 2 \
        --report "$scratch/$isa.json" >"$scratch/$isa.log" 2>&1 || { cat "$scratch/$isa.log"; exit 1; }
    objectives=$(grep -oE '"objective": *[-0-9.eE+]+' "$scratch/$isa.json" | sed 's/.*: *//')
    echo "$isa: ${objectives##*$'\n'}"
    [[ $objectives == "${first:=$objectives}" ]] || { echo "error: the objectives depend on the instruction set"; exit 1; }
done
