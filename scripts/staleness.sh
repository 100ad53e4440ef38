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
#                        [--rounds N] [--latency-us X] [--bytes-per-s N] [--stop-ms X] [--pause-ms X] [--seed N]
#                        [--results FOLDER]
#
# With --latency-us or --bytes-per-s, servers and workers are on two hosts, network namespaces joined by scripts/slow_link.py,
# whose packets arrive so much later and leave at so many bytes per second each way. Needs root, iproute2 and /dev/net/tun.
# With --stop-ms, one worker at a time, drawn at random, is stopped for a time drawn from 0 to twice that, then all run for
# one drawn from 0 to twice --pause-ms. The two modes' runs alternate. Needs python3. About a minute. For figures that do not
# depend on the machine: cargo run --release -p keyrange-apps --example slow_network -- staleness
set -euo pipefail
cd "$(dirname "$0")/.."

data=${KEYRANGE_DATA:-../shared/data}/mf/ml-latest-small.ratings.csv.zst staleness="0 1 2 4 8" workers=2 servers=1 clocks=100
epochs=10 rounds=3 latency_us=0 bytes_per_s=0 stop_ms=0 pause_ms=5 seed=1 results=""
while (($# > 0)); do
    case $1 in
        --data | --staleness | --workers | --servers | --clocks | --epochs | --rounds | --latency-us | --bytes-per-s | \
            --stop-ms | --pause-ms | --seed | --results)
            (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
            name=${1#--}; declare "${name//-/_}=$2"; shift 2 ;;
        *) echo "error: $1: expected one of --data --staleness --workers --servers --clocks --epochs --rounds --latency-us" \
               "--bytes-per-s --stop-ms --pause-ms --seed --results" >&2
           exit 2 ;;
    esac
done
[[ -f $data ]] || { echo "skipped: no $data; --data names another file"; exit 0; }

hosts=1
[[ $latency_us == 0 && $bytes_per_s == 0 ]] || hosts=2
((hosts == 1)) || [[ $stop_ms == 0 ]] || {
    echo "error: expected --latency-us and --bytes-per-s, or --stop-ms, got both" >&2
    exit 2
}

[[ -n ${KEYRANGE_PROGRAM:-} ]] || cargo build --quiet --release --bin keyrange
keyrange=${KEYRANGE_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/keyrange}
scratch=$(mktemp -d)
readonly near=kr-servers-$$ far=kr-workers-$$ address=10.213.8.1
link=
cleanup() {
    [[ -z $link ]] || kill "$link" 2>/dev/null || true
    local host
    for host in "$near" "$far"; do
        [[ -e /run/netns/$host ]] || continue
        ip netns pids "$host" | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
        ip netns delete "$host" || true
    done
    rm -rf "$scratch"
}
trap cleanup EXIT
results=${results:-$scratch/results}
mkdir -p "$results"

# Two hosts and the cable between them.
join_hosts() {
    ip netns add "$near" && ip netns add "$far"
    ip -n "$near" link set lo up
    python3 scripts/slow_link.py "$near" "$address/24" "$far" 10.213.8.2/24 "$latency_us" "$bytes_per_s" >"$scratch/link" &
    link=$!
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ ! -s $scratch/link ]] || return 0
        sleep 0.05
    done
    echo "error: the devices of scripts/slow_link.py did not come up within 5 s" >&2
    return 1
}

# on HOST NODE ARGUMENTS...: a node on one of the hosts, ended by force after two minutes. Nodes look for the manager themselves.
on() {
    local log=$scratch/$BASHPID.log
    ip netns exec "$1" timeout --kill-after=2 120 "$keyrange" "${@:2}" >"$log" 2>&1 </dev/null || {
        echo "error: $2 on $1 has failed:" >&2
        cat "$log" >&2
        return 1
    }
}

# job SEED ARGUMENTS...: a job of the given kind, whole.
job() {
    local options=(--servers "$servers" --workers "$workers" --seed "$1" "${@:2}") rank status=0
    if ((hosts == 1)); then
        python3 scripts/disturb.py any "$stop_ms" "$pause_ms" "$1" "$keyrange" train matrix-factorization -q "${options[@]}"
        return
    fi
    on "$near" manager matrix-factorization -q --listen "tcp:$address:7070" "${options[@]}" &
    local pids=($!)
    on "$near" server --manager "tcp:$address:7070" --listen "tcp:$address:0" --threads "$servers" &
    pids+=($!)
    for ((rank = 0; rank < workers; rank++)); do
        on "$far" worker --manager "tcp:$address:7070" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    return "$status"
}

((hosts == 1)) || join_hosts
export KEYRANGE_SECRET="the secret of these jobs"
for bound in $staleness; do
    for ((round = 1; round <= rounds; round++)); do
        for mode in SSP ESSP; do
            eager=(); [[ $mode == SSP ]] || eager=(--eager)
            job "$((seed + round))" --data "$data" --clocks "$clocks" --epochs "$epochs" --staleness "$bound" "${eager[@]}" \
                --report "$results/$bound-$mode-$round.json"
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
