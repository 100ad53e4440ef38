#!/usr/bin/env bash
# What: the ring's commit, credit and park protocols under loom, which tries every interleaving within its bound.
# Why: a missing release or a lost wake shows on a real machine once in a month, here at once.
# Run time: about 2 minutes, half of it building. A target directory of its own: `--cfg loom` rebuilds everything.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
CARGO_TARGET_DIR=$target/loom CARGO_PROFILE_RELEASE_LTO=off RUSTFLAGS="--cfg loom" \
    cargo test --release -p keyrange-transport --test loom_ring
