#!/usr/bin/env bash
# Factorises ratings with rows on demand (SSP) and with rows that come unasked (ESSP) at each staleness, and prints for each:
#
#   mean, variance   of the staleness of all reads: newest clock a row wholly holds minus the reader's clock, -1 at best
#   to RMSE          seconds until the test error is the worse of the two modes' last ones at this staleness, the median of
#                    --rounds runs, and the least and the greatest
#   ratio            the same by SSP's, run by run: median (least to greatest)
#   RMSE             test error in the end, median
#   pulled, pushed   rows asked for, rows that came unasked, over all workers; MB both ways
#
#   scripts/staleness.sh [--data FILE] [--staleness "0 1 2 4 8"] [--workers N] [--servers N] [--clocks N] [--epochs N]
#                        [--rounds N] [--stop-ms X] [--pause-ms X] [--seed N] [--results FOLDER]
#
# With --stop-ms, one worker at a time, drawn at random, is stopped for a time drawn from 0 to twice that, then all run for
# one drawn from 0 to twice --pause-ms. The two modes' runs alternate. Needs python3. About a minute. For figures that do not
# depend on the machine: cargo run --release -p keyrange-apps --example slow_network -- staleness
set -euo pipefail
cd "$(dirname "$0")/.."

data=${KEYRANGE_DATA:-../shared/data}/mf/ml-latest-small.ratings.csv.zst staleness="0 1 2 4 8" workers=2 servers=1 clocks=100
epochs=10 rounds=3 stop_ms=0 pause_ms=5 seed=1 results=""
while (($# > 0)); do
    case $1 in
        --data | --staleness | --workers | --servers | --clocks | --epochs | --rounds | --stop-ms | --pause-ms | --seed | --results)
            (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
            name=${1#--}; declare "${name//-/_}=$2"; shift 2 ;;
        *) echo "error: $1: expected one of --data --staleness --workers --servers --clocks --epochs --rounds --stop-ms --pause-ms --seed --results" >&2
           exit 2 ;;
    esac
done
[[ -f $data ]] || { echo "skipped: no $data; --data names another file"; exit 0; }

[[ -n ${KEYRANGE_PROGRAM:-} ]] || cargo build --quiet --release --bin keyrange
keyrange=${KEYRANGE_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/keyrange}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
results=${results:-$scratch/results}
mkdir -p "$results"

# disturb SEED COMMAND: runs it, and stops its workers now and then.
disturb() {
    python3 scripts/disturb.py any "$stop_ms" "$pause_ms" "$@"
}

for bound in $staleness; do
    for ((round = 1; round <= rounds; round++)); do
        for mode in SSP ESSP; do
            eager=(); [[ $mode == SSP ]] || eager=(--eager)
            disturb "$((seed + round))" "$keyrange" train matrix-factorization -q --data "$data" --servers "$servers" \
                --workers "$workers" --clocks "$clocks" --epochs "$epochs" --seed "$((seed + round))" \
                --staleness "$bound" "${eager[@]}" --report "$results/$bound-$mode-$round.json"
        done
    done
done

python3 - "$results" "$rounds" $staleness <<'PYTHON'
import json, statistics, sys
folder, rounds, *bounds = sys.argv[1:]
median = statistics.median

def seconds_to(run, goal):
    """Seconds until the test error is `goal`, between two epochs in proportion."""
    before = None
    for point in run["curve"]:
        if point["test_rmse"] <= goal:
            if before is None or before["test_rmse"] <= point["test_rmse"]:
                return point["seconds"]
            share = (before["test_rmse"] - goal) / (before["test_rmse"] - point["test_rmse"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return float("nan")

print(f"{'s':>3} {'mode':>5} {'mean':>7} {'variance':>8} {'to RMSE':>8} {'':>15} {'ratio':>6} {'':>14} {'RMSE':>7} {'pulled':>8} {'pushed':>8} {'MB':>7}")
for bound in bounds:
    runs = {m: [json.load(open(f"{folder}/{bound}-{m}-{r}.json")) for r in range(1, int(rounds) + 1)] for m in ("SSP", "ESSP")}
    goals = [max(run["curve"][-1]["test_rmse"] for run in pair) for pair in zip(*runs.values())]
    times = {m: [seconds_to(run, goal) for run, goal in zip(some, goals)] for m, some in runs.items()}
    for mode, some in runs.items():
        of = lambda field: median(run[field] for run in some)
        ratios = [time / ssp for time, ssp in zip(times[mode], times["SSP"])]
        spread = lambda values, digits: f"({min(values):.{digits}f} to {max(values):.{digits}f})"
        print(f"{bound:>3} {mode:>5} {of('staleness_mean'):>7.3f} {of('staleness_variance'):>8.3f} {median(times[mode]):>8.3f} "
              f"{spread(times[mode], 3):>15} {median(ratios):>6.2f} {spread(ratios, 2):>14} {of('test_rmse'):>7.4f} "
              f"{of('rows_pulled'):>8.0f} {of('rows_pushed'):>8.0f} {(of('bytes_sent') + of('bytes_received')) / 1e6:>7.1f}")
PYTHON
