#!/usr/bin/env bash
# What a filter costs a job in time where bytes cost nothing: everything runs on this host, so nothing a filter saves comes
# back. Trains with the filter and twice without, in turns of random order, and prints for each case
#
#   s        seconds of training without the filter (median)
#   with     median over the turns of the seconds with it by the mean of the two without
#   control  the same of the one without by the other: what this machine can tell apart
#
# and the geometric means.
#
#   scripts/filter_cost.sh [--filter NAME] [--sizes "1x1 2x2"] [--carriers "shm tcp"] [--rounds N] [--data FILE] [--l1 X]
#                          [--seed N]
#
# Sizes are workers x servers. With more of them than cores, whoever waits for a filter takes the core of another. Cases are
# the published method in small blocks (thousands of short answers) and Newton steps (a few long ones), each with nothing
# else and beside the KKT filter and cached keys. Needs python3. About 15 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

filter=lz4 sizes="1x1 2x2" carriers="shm tcp" rounds=7 data=${KEYRANGE_DATA:-../shared/data}/lr/imdb.train.libsvm.zst l1=4 seed=1
while (($# > 0)); do
    case $1 in
        --filter | --sizes | --carriers | --rounds | --data | --l1 | --seed)
            (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
            name=${1#--}; declare "$name=$2"; shift 2 ;;
        *) echo "error: $1: expected one of --filter --sizes --carriers --rounds --data --l1 --seed" >&2; exit 2 ;;
    esac
done
[[ -f $data ]] || { echo "skipped: no $data; --data names another file"; exit 0; }

[[ -n ${KEYRANGE_PROGRAM:-} ]] || cargo build --quiet --release --bin keyrange
keyrange=${KEYRANGE_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/keyrange}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 - "$keyrange" "$scratch" "$data" "$l1" "$filter" "$rounds" "$seed" "$sizes" "$carriers" <<'PYTHON'
import json, math, random, statistics, subprocess, sys
program, scratch, data, l1, wanted, rounds, seed, sizes, carriers = sys.argv[1:]
draw = random.Random(int(seed))
STEPS = {"blocks": ["--diagonal-only", "--block-ratio", "1", "--max-passes", "60"], "newton": []}

def seconds(chain, options):
    report = f"{scratch}/report.json"
    command = [program, "train", "sparse-lr", "-q", "--data", data, "--l1", l1, "--cache", f"{scratch}/cache",
               "--report", report, "--filter", chain, *options]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {run.stderr.strip()}")
    return json.load(open(report))["seconds"]

def median_of_ratios(times, of, by):
    return statistics.median(turn[of] / statistics.mean(turn[one] for one in by) for turn in times)

print(f"{'size':5} {'carrier':7} {'steps':7} {'beside':14} {'s':>7} {'with':>6} {'control':>7}")
for size in sizes.split():
    workers, servers = size.split("x")
    found = []
    for carrier in carriers.split():
        for steps in STEPS:
            for beside in ("none", "kkt,key-cache"):
                chains = [beside, beside, wanted if beside == "none" else f"{beside},{wanted}"]
                options = [*STEPS[steps], "--carrier", carrier, "--workers", workers, "--servers", servers]
                times = []
                for _ in range(int(rounds) * (1 if steps == "blocks" else 3)):
                    turn = {}
                    for at in draw.sample(range(3), 3):
                        turn[at] = seconds(chains[at], options)
                    times.append(turn)
                base = statistics.median(turn[at] for turn in times for at in (0, 1))
                found.append((median_of_ratios(times, 2, (0, 1)), median_of_ratios(times, 1, (0,))))
                print(f"{size:5} {carrier:7} {steps:7} {beside:14} {base:7.3f} {found[-1][0]:6.3f} {found[-1][1]:7.3f}", flush=True)
    means = [math.exp(statistics.mean(map(math.log, column))) for column in zip(*found)]
    print(f"{size:5} {'geometric means':37} {means[0]:6.3f} {means[1]:7.3f}", flush=True)
PYTHON
