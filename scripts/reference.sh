#!/usr/bin/env bash
# Trains on every set and every weight of reference.json, at several sizes, carriers and delays, and prints one table:
# how far the objective ends above the optimum, passes, seconds, and how far AUC and log-loss on the test set are from
# the reference. Exit code 1 if an objective is more than 1e-4 above its optimum (or the --limit), or a job fails.
#
#   scripts/reference.sh [--data FOLDER] [--sets "a9a imdb"] [--sizes "1x1 2x2"] [--carriers "shm tcp embedded"]
#                        [--delays "0 4"] [--tolerance X] [--limit X]
#
# FOLDER holds reference.json and its data; default: $KEYRANGE_DATA, or shared/data beside the project. All together
# take about 10 minutes on two cores. Needs python3 to read JSON. The log-loss of ipinyou is not determined by its optimum
# (seven features occur in every training row, but not in every test row), so expect a difference there.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${KEYRANGE_DATA:-../shared/data} sets="" sizes="1x1 2x2 3x4" carriers="shm tcp embedded" delays="0 4"
tolerance=1e-4 limit=1e-4
while (($# > 0)); do
    (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
    case $1 in
        --data) data=$2 ;;
        --sets) sets=$2 ;;
        --sizes) sizes=$2 ;;
        --carriers) carriers=$2 ;;
        --delays) delays=$2 ;;
        --tolerance) tolerance=$2 ;;
        --limit) limit=$2 ;;
        *) echo "error: $1: expected one of --data --sets --sizes --carriers --delays --tolerance --limit" >&2; exit 2 ;;
    esac
    shift 2
done
[[ -f $data/reference.json ]] || { echo "skipped: no reference.json in $data; --data names another folder"; exit 0; }

cargo build --quiet --release --bin keyrange
keyrange=${CARGO_TARGET_DIR:-target}/release/keyrange
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One line for each problem: set, l1, optimum, AUC, log-loss, training file, test file.
python3 - "$data/reference.json" "$sets" >"$scratch/problems" <<'PYTHON'
import json, sys
known, wanted = json.load(open(sys.argv[1]))["sparse_lr"]["sets"], sys.argv[2].split()
for name in wanted:
    if name not in known:
        sys.exit(f"error: --sets: expected some of {', '.join(known)}, got {name}")
for name in wanted or known:
    found = known[name]
    for at in found["optima"]:
        test = at.get("test", {})
        print(name, at["l1"], at["objective"], test.get("auc", "-"), test.get("logloss", "-"), found["train"], found["test"])
PYTHON

# row PROBLEM...: one line of the table from the report; fails if the excess is above the limit.
row() {
    python3 - "$scratch/report.json" "$limit" "$@" <<'PYTHON'
import json, sys
report, limit = json.load(open(sys.argv[1])), float(sys.argv[2])
name, l1, optimum, auc, logloss, config = sys.argv[3:]
excess = report["objective"] / float(optimum) - 1
apart = lambda field, known: "-" if known == "-" else f"{abs(report['test'][field] - float(known)):.1e}"
print(f"{name:9} {l1:>6} {config:22} {excess:10.1e} {report['passes']:6} {report['seconds']:9.3f}"
      f" {apart('auc', auc):>9} {apart('logloss', logloss):>9}{'  TOO HIGH' if excess > limit else ''}")
sys.exit(excess > limit)
PYTHON
}

failed=0
printf '%-9s %6s %-22s %10s %6s %9s %9s %9s\n' set l1 'servers x workers' excess passes seconds AUC log-loss
while read -r name l1 optimum auc logloss train test; do
    for size in $sizes; do
        for carrier in $carriers; do
            how=(--carrier "$carrier")
            [[ $carrier != embedded ]] || how=(--embedded)
            for delay in $delays; do
                config="$size $carrier delay $delay"
                if timeout 300 "$keyrange" train sparse-lr -q --data "$data/$train" --test "$data/$test" --l1 "$l1" \
                    --cache "$scratch/cache" --servers "${size%x*}" --workers "${size#*x}" --delay "$delay" \
                    --tolerance "$tolerance" --report "$scratch/report.json" "${how[@]}" </dev/null >"$scratch/log" 2>&1; then
                    row "$name" "$l1" "$optimum" "$auc" "$logloss" "$config" || failed=1
                else
                    printf '%-9s %6s %-22s FAILED: %s\n' "$name" "$l1" "$config" "$(tail -n 1 "$scratch/log")"
                    failed=1
                fi
            done
        done
    done
done <"$scratch/problems"
exit "$failed"
