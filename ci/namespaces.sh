#!/usr/bin/env bash
# What: two hosts on one: the manager and a server in one network namespace, two workers in another, over TCP with a
#       secret. A worker with a wrong secret is refused, says so, and harms nobody. The job trains to its end although a
#       worker and the server are stopped (SIGSTOP) for ten seconds meanwhile. In a second job the cable between the
#       two is cut: every node ends within seconds and names who is lost. At last clocked tables over a slow cable.
# Why: addresses, listening and trust differ between hosts; on loopback a mistake there does not show. And TCP by itself
#      hardly tells a host that has vanished from one whose process does not read.
# Run time: 30 s. Needs root and iproute2; without them it is skipped, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { echo "skipped: $*"; exit 0; }
((EUID == 0)) || skip "not root, so no network namespaces"
command -v ip >/dev/null || skip "no iproute2 (the program ip)"

cargo build --quiet --release --bin keyrange
keyrange=${CARGO_TARGET_DIR:-$PWD/target}/release/keyrange

readonly near=kr-near-$$ far=kr-far-$$ manager_ip=10.213.7.1 worker_ip=10.213.7.2 port=7070
scratch=$(mktemp -d)
pids=()
cleanup() {
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    ip netns delete "$near" 2>/dev/null || true
    ip netns delete "$far" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT

ip netns add "$near" 2>"$scratch/netns" || skip "this machine grants no network namespaces: $(<"$scratch/netns")"
ip netns add "$far"
ip -n "$near" link add link0 type veth peer name link0 netns "$far"
ip -n "$near" address add "$manager_ip/24" dev link0
ip -n "$far" address add "$worker_ip/24" dev link0
for namespace in "$near" "$far"; do
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set link0 up
done

printf 'the secret of this job' >"$scratch/secret"
printf 'another secret' >"$scratch/wrong"

# start NAMESPACE LOG ARGUMENTS...: a node in the background, ended by force after a minute. `ip netns exec` and
# `timeout` run the program in their own place or forward signals, so that ending the last pid ends the node.
start() {
    ip netns exec "$1" timeout --kill-after=2 60 "$keyrange" "${@:3}" >"$scratch/$2" 2>&1 </dev/null &
    pids+=($!)
}
show() { tail -n 30 "$scratch"/*.log; }
fail() { show; echo "error: $*"; exit 1; }

# start_job ROWS ARGUMENTS...: manager and server, ready for the workers.
start_job() {
    pids=()
    start "$near" manager.log manager sparse-lr --generate --generate-rows "$1" --servers 1 --workers 2 --join-deadline 30s \
        --listen "tcp:$manager_ip:$port" --secret-file "$scratch/secret" "${@:2}"
    start "$near" server.log server --manager "tcp:$manager_ip:$port" --listen "tcp:$manager_ip:0" --secret-file "$scratch/secret"
}
start_workers() {
    local rank
    for rank in 0 1; do
        start "$far" "worker-$rank.log" worker --manager "tcp:$manager_ip:$port" --secret-file "$scratch/secret"
    done
}
# Until the manager shows the first pass over the data.
until_trains() {
    local tries
    for ((tries = 0; tries < 400; tries++)); do
        ! grep -qE '^ +[0-9]+ +[0-9]+\.[0-9]+ ' "$scratch/manager.log" || return 0
        sleep 0.05
    done
    fail "the job has not begun to train within 20 s"
}

start_job 60000 --report "$scratch/report.json"

# The stranger comes while the job waits for its workers.
status=0
ip netns exec "$far" timeout 30 "$keyrange" worker --manager "tcp:$manager_ip:$port" --secret-file "$scratch/wrong" \
    --join-deadline 15s >"$scratch/stranger.log" 2>&1 </dev/null || status=$?
if ((status == 0 || status >= 124)) || ! grep -qi secret "$scratch/stranger.log"; then
    fail "a wrong secret must be refused with a message that names it (exit code $status)"
fi
echo "a wrong secret is refused: $(tail -n 1 "$scratch/stranger.log")"

start_workers
until_trains
# The programs run below `timeout`; the last of them is a worker, the second is the server.
stopped=("$(pgrep -P "${pids[1]}")" "$(pgrep -P "${pids[3]}")")
kill -STOP "${stopped[@]}"
sleep 10
kill -CONT "${stopped[@]}"
for pid in "${pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    ((status == 0)) || fail "a node of the job ended with exit code $status"
done
pids=()
grep -q '"objective"' "$scratch/report.json" && grep -Eq '"carrier": *"tcp"' "$scratch/report.json" \
    || { cat "$scratch/report.json"; fail "the report lacks an objective or the carrier tcp"; }
echo "trained between two namespaces: $(grep -oE '"(objective|carrier|passes|seconds)": *[^,]*' "$scratch/report.json" | tail -n 3 | paste -sd' ')"

start_job 60000
start_workers
until_trains
ip -n "$near" link set link0 down
cut=$SECONDS
for place in "${!pids[@]}"; do
    status=0
    wait "${pids[place]}" || status=$?
    ((status == 1)) || fail "node $place of a job whose network was cut ended with exit code $status, expected 1"
done
pids=()
((SECONDS - cut <= 12)) || fail "the nodes took $((SECONDS - cut)) s to see that the network was cut"
for log in manager server; do
    grep -qE 'worker [01] .*its host has not answered' "$scratch/$log.log" || fail "the $log does not name a lost worker"
done
for log in worker-0 worker-1; do
    grep -qE '(manager|server 0) .*its host has not answered' "$scratch/$log.log" || fail "$log does not name who is lost"
done
echo "a cut network is noticed by all within $((SECONDS - cut)) s: $(tail -n 1 "$scratch/manager.log")"

# A cable made by hand, as scripts/staleness.sh lays it: rows asked for and rows that come unasked, both to the end.
if [[ ! -c /dev/net/tun ]] || ! command -v python3 >/dev/null; then
    echo "skipped: clocked tables over a slow cable need /dev/net/tun and python3"
    exit 0
fi
for ((k = 0; k < 3000; k++)); do
    echo "$((k * k % 61)),$((k * 7919 % 127)),$((1 + k % 5))"
done >"$scratch/ratings.csv"
KEYRANGE_PROGRAM=$keyrange scripts/staleness.sh --latency-us 500 --bytes-per-s 50000000 --data "$scratch/ratings.csv" \
    --staleness 1 --clocks 20 --epochs 2 --rounds 1 >"$scratch/staleness" || fail "clocked tables failed over a slow cable"
awk '$2 == "SSP" { ssp = ($(NF - 2) > 0 && $(NF - 1) == 0) } $2 == "ESSP" { essp = $(NF - 1) > 0 } END { exit !(ssp && essp) }' \
    "$scratch/staleness" || { cat "$scratch/staleness"; fail "expected rows asked for (SSP) and rows unasked (ESSP)"; }
echo "clocked tables over a slow cable: rows asked for, rows unasked"
