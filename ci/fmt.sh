#!/usr/bin/env bash
# What: every Rust file, the fuzz targets included, is formatted as rustfmt.toml says.
# Why: a difference then shows what changed and nothing else.
# Run time: 2 s.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all -- --check
rustfmt --check --edition 2024 ci/fuzz/fuzz_targets/*.rs
