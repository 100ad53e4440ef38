#!/usr/bin/env bash
# What: the carriers on real verbs: boots Debian's kernel with Soft-RoCE (rdma_rxe) in a QEMU guest and runs there what
#       ci/rdma/*.job say: the carrier conformance suite, faults, a training job and perftest beside our own bench. Jobs named
#       pair_* run in two guests joined by a network: servers in one, workers in the other, lost packets, lost machines.
# Why: RDMA code that never ran is broken; no card is needed to run it, only a kernel that has verbs.
# Run time: 3 min with everything cached; the first run fetches 110 MB. Needs apt-get, dpkg and xz, and no root; where
#       they are missing it is skipped, and says so. Downloads stay under ${CARGO_TARGET_DIR:-target}/rdma-guest.
#   bash ci/rdma.sh                       every job
#   bash ci/rdma.sh smoke train           the named jobs
#   bash ci/rdma.sh pair                  the jobs of two guests
#   bash ci/rdma.sh -- 'COMMANDS'          commands of your own in the guest (our programs lie in its working directory)
#   bash ci/rdma.sh pair -- 'COMMANDS'     the same in both of two guests; $guest_side is 1 or 2
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
cache=$target/rdma-guest
source ci/rdma/packages.sh
source ci/rdma/guest.sh
source ci/rdma/pair.sh
source ci/rdma/layout.sh

skip() { echo "skipped: $*"; exit 0; }
[[ $(uname -m) == x86_64 ]] || skip "the guest is x86-64, this machine is $(uname -m)"
for program in apt-get apt-cache dpkg dpkg-deb xz; do
    command -v "$program" >/dev/null || skip "no $program, so no packages for the guest"
done

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

# The guest's programs: what it is, what it moves, what measures it.
unpack guest busybox-static kmod iproute2 ibverbs-providers ibverbs-utils perftest || skip "the guest's packages cannot be fetched"
unpack_kernel || skip "the guest's kernel cannot be fetched"
find_qemu || skip "no QEMU"
make_base
check_layout
choose_accelerator

# Our own programs, with the libraries of this host's C library where those are newer than the guest's.
readonly suites=(shm tcp verbs verbs_killed verbs_hostile verbs_faults faults)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

stage_programs() {
    cargo build --quiet --release --bin keyrange
    cp "$target/release/keyrange" "$stage/"
    local suite built
    local tests=()
    for suite in "${suites[@]}"; do tests+=(--test "$suite"); done
    # The last line of each artefact message names the program.
    built=$(cargo test --quiet --release -p keyrange-transport -p keyrange "${tests[@]}" --no-run --message-format=json)
    for suite in "${suites[@]}"; do
        cp "$(sed -n "s|.*\"name\":\"$suite\".*\"executable\":\"\([^\"]*\)\".*|\1|p" <<<"$built")" "$stage/test-$suite"
    done
    mkdir "$stage/lib"
    local ours theirs
    ours=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
    theirs=$("$cache"/guest/lib64/ld-linux-x86-64.so.2 --version | sed -n '1s/.*version \([0-9.]*[0-9]\).*/\1/p')
    if [[ $(printf '%s\n' "$ours" "$theirs" | sort -V | tail -n 1) != "$theirs" ]]; then
        ldd "$stage"/keyrange "$stage"/test-* | sed -n 's/.*=> \([^ ]*\).*/\1/p' | sort -u | xargs cp -Lt "$stage/lib"
    fi
}

stage_programs
cp ci/rdma/*.job "$stage/"
readonly alone=(smoke carrier faults train doctor perftest) pairs=(pair_train pair_faults)
case "$*" in
    '') jobs=("${alone[@]}" "${pairs[@]}") ;;
    pair) jobs=("${pairs[@]}") ;;
    '-- '*) jobs=(own) && shift && printf '%s\n' "$*" >"$stage/own.job" ;;
    'pair -- '*) jobs=(pair_own) && shift 2 && printf '%s\n' "$*" >"$stage/pair_own.job" ;;
    *) jobs=("$@") ;;
esac

failed=()
for job in "${jobs[@]}"; do
    [[ -e $stage/$job.job ]] || { echo "error: no job $job; there are: $(cd ci/rdma && echo *.job)"; exit 2; }
    cp "$stage/$job.job" "$stage/run"
    began=$SECONDS status=0
    echo "--- $job, on $accelerator"
    boots=boot
    [[ $job != pair_* ]] || boots=boot_pair
    "$boots" 240 "$stage" || status=$?
    echo "--- $job: exit code $status, $((SECONDS - began)) s"
    ((status == 0)) || failed+=("$job")
done
((${#failed[@]} == 0)) || { echo "error: failed in the guest: ${failed[*]}"; exit 1; }
