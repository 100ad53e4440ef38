#!/usr/bin/env bash
# What filters save, and that they cost nothing of the result. Two tables:
#
#   objectives  every set and weight of reference.json, every delay, all filters: excess of the objective over the optimum,
#               relatively (at most 1e-4); features the KKT filter set aside after the third pass
#   traffic     the largest sparse set, its feature ids hashed to u64, no delay: MB from workers and from servers with no filter,
#               with each filter beside what it needs, and with all; how many times less than without; and by how much the
#               final objective differs, relatively
#
#   scripts/filters.sh [--data FOLDER] [--sets "a9a imdb"] [--delays "0 1 4 8 16"] [--filter LIST] [--options "..."]
#                      [--traffic-options "..."] [--only objectives|traffic] [--results FOLDER]
#
# The traffic is of the published method (--diagonal-only) in blocks of one nonzero of each example: Newton steps are made of
# sums over the workers without keys, of which filters save little. Exit code 1 if an objective is missed or a job fails.
# Needs python3. About 3 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${KEYRANGE_DATA:-../shared/data} sets="" delays="0 1 4 8 16" filter=all options="" only="" results=""
traffic_options="--diagonal-only --block-ratio 1"
while (($# > 0)); do
    case $1 in
        --data | --sets | --delays | --filter | --options | --traffic-options | --only | --results)
            (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
            name=${1#--}; declare "${name//-/_}=$2"; shift 2 ;;
        *) echo "error: $1: expected one of --data --sets --delays --filter --options --traffic-options --only --results" >&2
           exit 2 ;;
    esac
done
[[ -f $data/reference.json ]] || { echo "skipped: no reference.json in $data; --data names another folder"; exit 0; }

[[ -n ${KEYRANGE_PROGRAM:-} ]] || cargo build --quiet --release --bin keyrange
keyrange=${KEYRANGE_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/keyrange}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
results=${results:-$scratch/results}
mkdir -p "$results"

# job REPORT TRAIN L1 FILTER OPTION...: trains; the report is the result.
job() {
    local report=$1 train=$2 l1=$3 filter=$4
    shift 4
    timeout 120 "$keyrange" train sparse-lr -q --data "$data/$train" --l1 "$l1" --filter "$filter" --cache "$scratch/cache" \
        --report "$report" "$@" </dev/null >"$scratch/log" 2>&1 ||
        { echo "FAILED: $train $l1 $filter $*: $(tail -n 1 "$scratch/log")"; return 1; }
}

objectives() {
    python3 - "$data/reference.json" "$sets" >"$scratch/problems" <<'PYTHON'
import json, sys
known = json.load(open(sys.argv[1]))["sparse_lr"]["sets"]
for name in sys.argv[2].split() or known:
    for at in known[name]["optima"]:
        print(name, at["l1"], at["objective"], known[name]["train"])
PYTHON
    local failed=0
    printf '%-9s %6s %5s %10s %6s %8s %9s\n' set l1 delay excess passes s set-aside
    while read -r name l1 optimum train; do
        for delay in $delays; do
            # shellcheck disable=SC2086 # several options
            job "$results/$name-$l1-$delay.json" "$train" "$l1" "$filter" --delay "$delay" $options || { failed=1; continue; }
            python3 - "$results/$name-$l1-$delay.json" "$name" "$l1" "$delay" "$optimum" <<'PYTHON' || failed=1
import json, sys
file, name, l1, delay, optimum = sys.argv[1:]
run = json.load(open(file))
excess = run["objective"] / float(optimum) - 1
history = run["history"]
third = history[min(3, len(history) - 1)]
aside = 1 - third["active"] / run["features"]
missed = not -1e-8 < excess <= 1e-4
print(f"{name:9} {l1:>6} {delay:>5} {excess:10.1e} {run['passes']:6} {run['seconds']:8.3f} {aside:9.1%}{'  MISSED' * missed}", flush=True)
sys.exit(missed)
PYTHON
        done
    done <"$scratch/problems"
    return "$failed"
}

traffic() {
    local names=(none key-cache kkt kkt,key-cache kkt,key-cache,zeros kkt,key-cache,lz4 kkt,key-cache,zeros,lz4
        kkt,key-cache,significant:0.01 kkt,key-cache,push/fixed:2,pull/fixed:3 kkt,key-cache,f16 kkt,key-cache,skip:0.5
        kkt,key-cache,zeros,push/fixed:2,pull/fixed:3,lz4 all) files=() failed=0
    for name in "${names[@]}"; do
        # shellcheck disable=SC2086 # several options
        job "$results/traffic-${name//\//-}.json" lr/imdb.train.libsvm.zst 4 "$name" $traffic_options || failed=1
        files+=("$results/traffic-${name//\//-}.json")
    done
    python3 - "${names[@]}" -- "${files[@]}" <<'PYTHON'
import json, os, sys
at = sys.argv.index("--")
names, files = sys.argv[1:at], sys.argv[at + 1:]
runs = {name: json.load(open(file)) for name, file in zip(names, files) if os.path.exists(file)}
none = runs["none"]
print(f"{'filters':56} {'workers MB':>10} {'times':>6} {'servers MB':>10} {'times':>6} {'passes':>6} {'differs':>8}")
for name, run in runs.items():
    up, down = run["bytes_pushed"], run["bytes_pulled"]
    print(f"{name:56} {up / 1e6:10.2f} {none['bytes_pushed'] / up:6.1f} {down / 1e6:10.2f} {none['bytes_pulled'] / down:6.1f}"
          f" {run['passes']:6} {run['objective'] / none['objective'] - 1:8.0e}")
PYTHON
    return "$failed"
}

failed=0
[[ $only == traffic ]] || objectives || failed=1
[[ $only == objectives ]] || traffic || failed=1
((failed)) && echo "some figures are missed" || echo "all figures are met"
exit "$failed"
