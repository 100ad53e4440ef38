#!/usr/bin/env bash
# Cost of a push and a pull per key as the table grows from 10^4 keys to 10^8, or as far as memory allows: one server
# thread and one worker over shared memory; each table is as large as the random key list that is pushed to it and
# pulled from it again and again. A table, and bars of the cost of a push on a scale from 0.
#
#   scripts/growth.sh [--max-keys N] [--rounds N] [--json FOLDER]
#
# --json keeps the reports of the runs. About 3 minutes up to 10^7 keys; 10^8 need about 12 GB. Needs python3 to read JSON.
set -euo pipefail

max_keys=100000000 rounds=5 folder=""
while (($# > 0)); do
    (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
    case $1 in
        --max-keys) max_keys=$2 ;;
        --rounds) rounds=$2 ;;
        --json) folder=$(mkdir -p "$2" && cd "$2" && pwd) ;;
        *) echo "error: $1: expected one of --max-keys --rounds --json" >&2; exit 2 ;;
    esac
    shift 2
done
[[ $max_keys =~ ^[0-9]+$ ]] || { echo "error: --max-keys: expected a whole number, got $max_keys" >&2; exit 2; }

cd "$(dirname "$0")/.."
cargo build --quiet --release --bin keyrange
keyrange=${CARGO_TARGET_DIR:-target}/release/keyrange
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=${folder:-$scratch}

# Keys, values and slots on both sides, the index while it grows, and the plain memory that is the limit.
readonly bytes_per_key=120
available=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) * 1024))
for keys in 10000 31623 100000 316228 1000000 3162278 10000000 31622777 100000000; do
    ((keys <= max_keys)) || break
    if ((keys * bytes_per_key > available)); then
        echo "skipped: $keys keys and more: about $((keys * bytes_per_key >> 20)) MiB wanted, $((available >> 20)) available"
        break
    fi
    timeout 300 "$keyrange" bench push-pull --cases lists --list-keys "$keys" --rounds "$rounds" \
        --json "$folder/growth-$keys.json" </dev/null >"$scratch/log" 2>&1 \
        || { echo "error: the run with $keys keys failed: $(tail -n 3 "$scratch/log")" >&2; exit 1; }
done

python3 - "$folder" <<'PYTHON'
import glob, json, re, sys
runs = []
for file in glob.glob(sys.argv[1] + "/growth-*.json"):
    rates = json.load(open(file))["figures"]["rates"]
    push, pull = (next(rate for rate in rates if rate["request"].startswith(word)) for word in ("push", "pull"))
    runs.append((int(re.search(r"growth-(\d+)", file).group(1)), push, pull))
runs.sort(key=lambda run: run[0])
cost = lambda rate: 1e9 / rate["per_second"]
if not runs:
    sys.exit("error: no run, so no table")
most = max(cost(push) for _, push, _ in runs)
print(f"{'keys':>10} {'push':>10} {'pull':>10} {'plain add':>10} {'server CPU':>10}  ns per key")
for keys, push, pull in runs:
    limit = 1e9 / push["limit_per_second"]
    bar = "#" * max(1, round(40 * cost(push) / most))
    print(f"{keys:>10} {cost(push):>10.2f} {cost(pull):>10.2f} {limit:>10.2f} {push['server_cpu_ns']:>10.2f}  {bar}")
PYTHON
