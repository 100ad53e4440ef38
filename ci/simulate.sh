#!/usr/bin/env bash
# What: 100,000 seeded schedules of the cores under loss, duplication, reordering, delay, pauses, broken links and crashes,
#       without a violation of exactly-once, of what filters promise and of the staleness bound; then bugs planted on
#       purpose, which must be found.
# Why: the faults that matter come in combinations nobody writes down as a test. A seed replays what it found:
#       cargo run --release --example sim -- --seed N
# Run time: 1 to 2 minutes on two cores (SIM_SCHEDULES and SIM_FROM play others).
set -euo pipefail
cd "$(dirname "$0")/.."
sim() { cargo run --quiet --release --example sim -- "$@"; }

# A fifth of them are clocked tables; those are as long as the others.
schedules=${SIM_SCHEDULES:-100000}
sim --from "${SIM_FROM:-0}" --count $((schedules - schedules / 5))
sim --clocked --from "${SIM_FROM:-0}" --count $((schedules / 5))

for bug in --planted-bug --planted-bound "--clocked --planted-bug"; do
    status=0
    # shellcheck disable=SC2086 # options, one word each
    output=$(sim $bug --count 1000 2>&1) || status=$?
    if ((status != 1)) || ! grep -q VIOLATION <<<"$output"; then
        echo "the planted bug was not found (exit code $status): $output"
        exit 1
    fi
    echo "the planted bug was found:" && head -n 3 <<<"$output"
done
