#!/usr/bin/env bash
# What: the documentation of every library builds without a warning.
# Why: a broken link or code fence is a defect of the text people read first.
# Run time: about 20 s after clippy. Libraries only: the program is called like the engine's library, `--help` is its text.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --release
