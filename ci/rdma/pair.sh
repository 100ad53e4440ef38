# Sourced by ci/rdma.sh: two guests joined by a virtual network, whose frames QEMU carries in datagrams.

# After one guest was switched off, the other one's job has this long to end.
readonly alone_seconds_max=10

# boot_pair SECONDS FOLDER: both guests run /job/run, which finds its side, 1 or 2, in $guest_side. Where one prints "switch off
# guest N", guest N is switched off: QEMU ends at once and the guest hears nothing. Then the other has a few seconds to end. A
# guest that fails takes the other with it.
# Returns the exit code of a guest that failed, 0 if none did; that of a guest switched off is of no interest.
boot_pair() {
    local net status=0 side
    net=$(mktemp -d)
    make_initrd "$2"
    # One stream of both guests' lines: it ends when both have ended.
    { run_side 1 "$1" & run_side 2 "$1" & wait; } | switch_off_on_demand || status=$?
    for side in 1 2; do
        [[ ! -e $net/off.$side ]] || continue
        explain_status "$1" "$(<"$net/status.$side")" || { status=$?; echo "guest $side: exit code $status"; }
    done
    rm -rf "$net"
    return "$status"
}

# run_side SIDE SECONDS: one of the two guests, with one processor: more would share the same two of the host, and a packet's
# round trip would take 26 ms instead of half a millisecond.
run_side() {
    local code=0
    run_guest "$2" 1 "guest_side=$1" -pidfile "$net/pid.$1" \
        -netdev "dgram,id=net,local.type=unix,local.path=$net/$1,remote.type=unix,remote.path=$net/$((3 - $1))" \
        -device "virtio-net-pci,netdev=net,mac=52:54:00:09:01:0$1,romfile=" | sed -u "s/^/guest $1: /" || code=${PIPESTATUS[0]}
    echo "$code" >"$net/status.$1"
    [[ -e $net/off.$1 ]] || explain_status "$2" "$code" >/dev/null || echo "guest $1 failed: switch off guest $((3 - $1))"
}

# Hands the guests' lines on, and does what they ask. From a switch-off on, each line tells its time.
switch_off_on_demand() {
    local line side off='' seconds
    while IFS= read -r line; do
        if [[ -n $off ]]; then
            seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $off }")
            line="$line  [after $seconds s]"
        fi
        printf '%s\n' "$line"
        [[ $line =~ 'switch off guest '([12]) ]] || continue
        side=${BASH_REMATCH[1]}
        touch "$net/off.$side"
        kill "$(<"$net/pid.$side")" || true
        off=$EPOCHREALTIME
    done
    [[ -n $off ]] || return 0
    seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $off }")
    echo "the job ended $seconds s after guest $side was switched off, at most $alone_seconds_max are allowed"
    awk "BEGIN { exit !($seconds <= $alone_seconds_max) }"
}
