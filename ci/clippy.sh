#!/usr/bin/env bash
# What: clippy and the compiler's lints on every target of every crate; a warning is an error.
# Why: missing docs, unproved unsafe blocks and likely mistakes end here and not in a review.
# Run time: about 2 minutes cold. The release profile, because the tests have built its macros and build scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo clippy --workspace --all-targets --release -- -D warnings
