#!/usr/bin/env bash
# Trains while one worker at a time is stopped for a moment and continued, and prints for each delay how long the workers
# waited and how long the job took to the same objective:
#
#   passes, s   passes and seconds until the objective is within --target of the best one any of the runs came to
#   s/pass      seconds of a pass
#   idle        part of the workers' time of training that they waited (to the end of the run)
#   speed-up    seconds of delay 0 by seconds of this delay
#
#   scripts/stragglers.sh [--data FILE] [--l1 X] [--copies N] [--delays "0 1 2 4 8 16"] [--workers N] [--slow any|one]
#                         [--stop-ms X] [--pause-ms X] [--target X] [--passes N] [--rounds N] [--seed N] [--results FOLDER]
#
# A worker is stopped for a time drawn from 0 to twice --stop-ms, then all run for one drawn from 0 to twice --pause-ms: a
# worker drawn anew each time, as on machines shared with others, or always the same (--slow one), which nothing but less
# work for that worker can make up for wholly. A delay hides stops that are not much longer than the blocks under way take,
# so the data is read --copies times (with as many times --l1 the same problem), as a large set would be; 0 for --stop-ms
# shows what a delay costs by itself. Of --rounds runs each the one with the median time counts. Only the published method is
# run (--diagonal-only): Newton steps are made of sums over the workers, which wait for everybody whatever the delay. Needs
# python3. About two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${KEYRANGE_DATA:-../shared/data}/lr/imdb.train.libsvm.zst l1=4 copies=8 delays="0 1 2 4 8 16" workers=4
slow=any stop_ms=3 pause_ms=1.5 target=1e-2 passes=12 rounds=3 seed=1 results=""
while (($# > 0)); do
    case $1 in
        --data | --l1 | --copies | --delays | --workers | --slow | --stop-ms | --pause-ms | --target | --passes | --rounds | --seed | --results)
            (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
            name=${1#--}; declare "${name//-/_}=$2"; shift 2 ;;
        *) echo "error: $1: expected one of --data --l1 --copies --delays --workers --slow --stop-ms --pause-ms --target --passes --rounds --seed --results" >&2
           exit 2 ;;
    esac
done
[[ $slow == any || $slow == one ]] || { echo "error: --slow $slow: expected any or one" >&2; exit 2; }
[[ -f $data ]] || { echo "skipped: no $data; --data names another file"; exit 0; }

[[ -n ${KEYRANGE_PROGRAM:-} ]] || cargo build --quiet --release --bin keyrange
keyrange=${KEYRANGE_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/keyrange}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
results=${results:-$scratch/results}
mkdir -p "$results"

all=() l1_all=$(python3 -c "print($l1 * $copies)")
for ((copy = 0; copy < copies; copy++)); do all+=("$data"); done
for delay in $delays; do
    for ((round = 1; round <= rounds; round++)); do
        python3 scripts/disturb.py "$slow" "$stop_ms" "$pause_ms" "$((seed + round))" \
            "$keyrange" train sparse-lr -q --data "${all[@]}" --l1 "$l1_all" --cache "$scratch/cache" --servers 1 \
            --workers "$workers" --delay "$delay" --diagonal-only --max-passes "$passes" --tolerance 1e-12 \
            --report "$results/$delay-$round.json"
    done
done

python3 - "$results" "$target" "$rounds" $delays <<'PYTHON'
import json, statistics, sys
folder, target, rounds, *delays = sys.argv[1:]
runs = {d: [json.load(open(f"{folder}/{d}-{r}.json")) for r in range(1, int(rounds) + 1)] for d in delays}
best = min(run["objective"] for some in runs.values() for run in some)
goal = best * (1 + float(target))
reached = lambda run: next((p for p in run["history"] if p["objective"] <= goal), None)
print(f"goal: objective {goal:.6g}, {target} above the best of all runs")
print(f"{'delay':>5} {'passes':>6} {'s':>8} {'s/pass':>8} {'idle':>7} {'speed-up':>9}")
base = None
for delay in delays:
    ends = [reached(run) for run in runs[delay]]
    idle = statistics.median(run["idle_share"] for run in runs[delay])
    per_pass = statistics.median(run["seconds"] / run["passes"] for run in runs[delay])
    if None in ends:
        print(f"{delay:>5} {'-':>6} {'-':>8} {per_pass:>8.4f} {idle:>7.1%}   did not get there: more --passes")
        continue
    end = sorted(ends, key=lambda end: end["seconds"])[len(ends) // 2]
    base = base or end["seconds"]
    print(f"{delay:>5} {end['pass'] + 1:>6} {end['seconds']:>8.3f} {per_pass:>8.4f} {idle:>7.1%} {base / end['seconds']:>9.2f}")
PYTHON
