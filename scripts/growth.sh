#!/usr/bin/env bash
# Cost per key of a push and a pull as the table grows from 10^4 keys to 10^8, as servers grow from 1 to 8 threads, and as
# workers grow from 1 to 16 processes, over shared memory. Prints tables and draws growth.svg.
#
#   scripts/growth.sh [--max-keys N] [--rounds N] [--into FOLDER] [--under COMMAND]
#
# The reports of the runs, the tables (growth.txt) and the plot (growth.svg) go into FOLDER [default: target/growth];
# --under starts every run by COMMAND, for machines that are shared. About 4 minutes; 10^8 keys take 5 GB.
set -euo pipefail

max_keys=100000000 rounds=5 folder="" under=()
while (($# > 0)); do
    (($# > 1)) || { echo "error: $1: expected a value after it" >&2; exit 2; }
    case $1 in
        --max-keys) max_keys=$2 ;;
        --rounds) rounds=$2 ;;
        --into) folder=$(mkdir -p "$2" && cd "$2" && pwd) ;;
        --under) under=($2) ;;
        *) echo "error: $1: expected one of --max-keys --rounds --into --under" >&2; exit 2 ;;
    esac
    shift 2
done
[[ $max_keys =~ ^[0-9]+$ ]] || { echo "error: --max-keys: expected a whole number, got $max_keys" >&2; exit 2; }

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
keyrange=${KEYRANGE:-}
[[ -n $keyrange ]] || { cargo build --quiet --release --bin keyrange; keyrange=$target/release/keyrange; }
folder=${folder:-$(mkdir -p "$target/growth" && cd "$target/growth" && pwd)}
reports=()

# One run: keys, servers, workers.
run() {
    local report=$folder/growth-$1-keys-$2-servers-$3-workers.json log=$folder/growth.log
    timeout 300 ${under[@]+"${under[@]}"} "$keyrange" bench push-pull --cases growth --table-keys "$1" --servers "$2" \
        --workers "$3" --rounds "$rounds" --json "$report" </dev/null >"$log" 2>&1 \
        || { echo "error: $1 keys, $2 servers, $3 workers: $(tail -n 3 "$log")" >&2; exit 1; }
    rm "$log"
    reports+=("$report")
}

# What a key takes: index, value, and the copy of the values in plain memory that is the limit.
readonly bytes_per_key=50
available=$(($(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo) * 1024))
for keys in 10000 31623 100000 316228 1000000 3162278 10000000 31622777 100000000; do
    ((keys <= max_keys)) || break
    if ((keys * bytes_per_key > available)); then
        echo "skipped: $keys keys and more: about $((keys * bytes_per_key >> 20)) MiB wanted, $((available >> 20)) available"
        break
    fi
    run "$keys" 1 1
done
for servers in 2 4 8; do run 1000000 "$servers" 1; done
for workers in 2 4 8 16; do run 1000000 1 "$workers"; done
"$keyrange" bench growth "${reports[@]}" --svg "$folder/growth.svg" | tee "$folder/growth.txt"
echo "plot: $folder/growth.svg"
