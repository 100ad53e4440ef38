# Sourced by ci/rdma.sh: the guest's file system and its processor.

# rxe asks for crc32_generic at run time, which no dependency says; the rest is for the jobs' networks.
readonly modules='crc32_generic rdma_rxe ib_uverbs ib_umad rdma_ucm dummy veth virtio_pci virtio_net sch_netem'

# The part of the guest that does not change: packages, modules, init. Made once for each state of its sources.
make_base() {
    local state root=$cache/base module path
    state=$(cat "$cache/guest.packages" "$cache/kernel.done" ci/rdma/init ci/rdma/guest.sh | sha256sum)
    [[ $(cat "$cache/base.state" 2>/dev/null) != "$state" ]] || return 0
    rm -rf "$root"
    cp -a "$cache/guest" "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,job}
    local release
    release=$(basename "$cache"/kernel/lib/modules/*)
    # depmod wants the whole tree; the guest gets the modules that these need.
    unpacked guest depmod /bin/kmod -b "$cache/kernel" "$release"
    for module in $modules; do
        unpacked guest modprobe /bin/kmod --show-depends -d "$cache/kernel" -S "$release" "$module"
    done | sed -n "s:^insmod $cache/kernel/\([^ ]*\).*:\1:p" | sort -u | while read -r path; do
        (cd "$cache/kernel" && cp --parents "$path" "$root")
    done
    cp "$cache/kernel/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/"
    unpacked guest depmod /bin/kmod -b "$root" "$release"
    echo "$modules" >"$root/etc/guest-modules"
    cp ci/rdma/init "$root/init"
    pack "$root" >"$cache/base.cpio"
    rm -rf "$root"
    echo "$state" >"$cache/base.state"
}

# pack FOLDER: the folder as an archive that the kernel unpacks at boot, everything owned by root.
pack() {
    (cd "$1" && find . -print | "$cache/guest/bin/busybox" cpio --quiet -o -H newc -R 0:0)
}

# The host's QEMU, or one of our own unpacked beside it.
find_qemu() {
    qemu=(qemu-system-x86_64)
    command -v qemu-system-x86_64 >/dev/null && return 0
    unpack qemu qemu-system-x86 || return 1
    export QEMU_MODULE_DIR=$cache/qemu/usr/lib/x86_64-linux-gnu/qemu
    local root=$cache/qemu
    local libraries=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu
    qemu=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$root/usr/bin/qemu-system-x86_64")
    qemu+=(-L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
}

# Hardware where it works, else emulation. There are machines whose /dev/kvm opens but runs a guest slower than emulation
# or not at all, so it has to boot one first, once for each boot of the host.
choose_accelerator() {
    local emulation='tcg,thread=multi' probe key
    key="$(</proc/sys/kernel/random/boot_id) $(<"$cache/base.state")"
    accelerator=$emulation
    [[ -w /dev/kvm ]] || return 0
    if [[ $(head -n 1 "$cache/accelerator" 2>/dev/null) == "$key" ]]; then
        accelerator=$(tail -n 1 "$cache/accelerator")
        return 0
    fi
    probe=$(mktemp -d)
    echo 'exit 0' >"$probe/run"
    accelerator=kvm
    boot 15 "$probe" >/dev/null 2>&1 || accelerator=$emulation
    rm -rf "$probe"
    printf '%s\n%s\n' "$key" "$accelerator" >"$cache/accelerator"
}

# boot SECONDS FOLDER: runs the guest with FOLDER as /job until its script /job/run has ended; the guest's exit code is
# this function's. 124: the time was up; 125: the guest failed to come up or died without a word.
boot() {
    local status=0
    make_initrd "$2"
    run_guest "$1" "$(nproc)" '' || status=$?
    explain_status "$1" "$status"
}

# Everything the guests boot from: the base and FOLDER as /job.
make_initrd() {
    local overlay
    overlay=$(mktemp -d)
    mkdir "$overlay/job"
    cp -a "$1"/. "$overlay/job/"
    # mktemp makes folders for one user; in the guest there may be others.
    chmod 755 "$overlay" "$overlay/job"
    { cat "$cache/base.cpio"; pack "$overlay"; } >"$cache/initrd.cpio"
    rm -rf "$overlay"
}

# run_guest SECONDS PROCESSORS KERNEL-OPTION QEMU-OPTIONS...: boots one guest; returns QEMU's exit code, or 124.
run_guest() {
    timeout --foreground "$1" "${qemu[@]}" -accel "$accelerator" -cpu max -M q35 -smp "$2" -m 2048 -nodefaults -display none -vga none \
        -no-reboot -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
        -kernel "$cache/kernel/vmlinux" -initrd "$cache/initrd.cpio" \
        -append "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off $3" "${@:4}" </dev/null | sed -u 's|\r$||' || return "${PIPESTATUS[0]}"
}

# explain_status SECONDS STATUS: the guest's exit code, made of what run_guest returned (see init). QEMU itself fails with 1.
explain_status() {
    (($2 != 124)) || { echo "error: the guest did not end within $1 s"; return 124; }
    (($2 > 1 && $2 % 2 == 1)) || { echo "error: the guest ended without a result (qemu's exit code $2)"; return 125; }
    return $(($2 / 2 - 1))
}
