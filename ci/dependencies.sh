#!/usr/bin/env bash
# What: (1) our crates depend on each other in one direction only: kernels and transport know nobody, the engine knows
#       both, everything else stands on the engine; (2) every crate we build with, tests and all platforms included,
#       is under a permissive licence and comes from a registry.
# Why: data and dependencies go one way, or the parts can no longer be tested and embedded alone; and one copyleft or
#      unlicensed crate would bind everybody who links the library. `cargo deny check` (deny.toml) says the same and
#      adds advisories, for those who have it; it takes longer to build than the rest of these checks.
# Run time: 2 s.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
fail() { echo "error: $*"; failed=1; }

# Which of our crates each of our crates may name.
declare -A may_use=(
    [keyrange-kernels]=''
    [keyrange-transport]=''
    [keyrange]='keyrange-kernels keyrange-transport'
    [keyrange-ffi]='keyrange keyrange-kernels keyrange-transport'
    [keyrange-apps]='keyrange keyrange-kernels keyrange-transport'
    [keyrange-cli]='keyrange-apps keyrange keyrange-kernels keyrange-transport'
    [keyrange-benches]='keyrange-apps keyrange keyrange-kernels keyrange-transport'
)

# tree ARGUMENTS...: one "name version [path]|licence" a line, for normal, build and test dependencies alike.
tree() {
    cargo tree --locked --target all --edges normal,build,dev --prefix none --no-dedupe --format '{p}|{l}' "$@" \
        | sed '/^$/d' | sort -u
}

check_directions() {
    local crate used
    for crate in $(tree --workspace --depth 0 | cut -d' ' -f1); do
        if [[ ! -v may_use[$crate] ]]; then
            fail "$crate is not in the list of ci/dependencies.sh: say there what it may depend on"
            continue
        fi
        for used in $(tree -p "$crate" --depth 1 | grep -E '^keyrange[- ]' | cut -d' ' -f1); do
            [[ $used == "$crate" || " ${may_use[$crate]} " == *" $used "* ]] \
                || fail "$crate depends on $used; it may depend on: ${may_use[$crate]:-none of our crates}"
        done
    done
}

# permitted EXPRESSION: whether an SPDX expression can be met with the licences below. Every licence becomes 1 or 0,
# AND and OR become & and |, and the shell computes it. bzip2-1.0.6 is the BSD-like text of bzip2.
permitted() {
    local formula
    formula=$(sed -E 's#/# OR #g; s/ WITH LLVM-exception//g
        s/\b(MIT|Apache-2\.0|BSD-2-Clause|BSD-3-Clause|0BSD|ISC|Zlib|Unicode-3\.0|Unlicense|CC0-1\.0|bzip2-1\.0\.6)([ )]|$)/1\2/g
        s/[A-Za-z][A-Za-z0-9.+-]*[0-9+][A-Za-z0-9.+-]*|[A-Z][a-z][A-Za-z0-9.+-]*/0/g
        s/\bAND\b/\&/g; s/\bOR\b/|/g' <<<"$1")
    [[ $formula =~ ^[01\ \&\|\(\)]+$ ]] && (((formula) == 1))
}

check_licences() {
    local package licence count=0
    while IFS='|' read -r package licence; do
        count=$((count + 1))
        permitted "$licence" || fail "${package%% (*}: licence '$licence' is not permitted"
    done < <(tree --workspace)
    ((count > 50)) || fail "only $count crates seen: cargo tree did not answer as expected"
    echo "$count crates, all licences looked at"
    ! grep -nE '^source = "git' Cargo.lock || fail "a crate comes from a git repository instead of a registry"
}

# A check that cannot fail is none.
permitted 'MIT OR Apache-2.0' && permitted '(MIT OR Apache-2.0) AND Unicode-3.0' && permitted 'MIT OR LGPL-2.1-or-later' \
    && ! permitted 'MPL-2.0' && ! permitted 'MIT AND GPL-3.0' && ! permitted '' && ! permitted 'Proprietary' \
    || fail "the licence test is wrong"

check_directions
check_licences
exit "$failed"
