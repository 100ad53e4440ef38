#!/usr/bin/env python3
"""A network cable between two network namespaces that takes its time.

    scripts/slow_link.py NAMESPACE ADDRESS NAMESPACE ADDRESS LATENCY_US BYTES_PER_S

Each namespace gets a device `link0` with its ADDRESS (like 10.0.0.1/24). Packets leave a side one after
the other, at BYTES_PER_S (0: at once), and arrive LATENCY_US later; what would wait for more than a second of sending is dropped, and
TCP sends it again. Prints a line when the devices are up, then carries packets until it is ended. For kernels without netem.
Needs root and /dev/net/tun. A processor carries about 50,000 packets a second this way, of up to 9000 bytes each.
"""
import collections, fcntl, os, select, struct, subprocess, sys, time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MTU_BYTES = 9000


def open_end(namespace, address):
    """A TUN device in `namespace`: what is sent there is read from the descriptor, what is written arrives there."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    os_setns(there)
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"link0", IFF_TUN | IFF_NO_PI))
    for words in (f"address add {address} dev link0", f"link set link0 mtu {MTU_BYTES} txqueuelen 10000 up"):
        subprocess.run(["ip", *words.split()], check=True)
    os_setns(home)
    return end


def os_setns(descriptor):
    """os.setns, also before Python 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Direction:
    """Packets on their way from one end to the other."""

    def __init__(self, source, sink, latency_s, bytes_per_s):
        self.source, self.sink, self.latency_s, self.bytes_per_s = source, sink, latency_s, bytes_per_s
        self.under_way = collections.deque()  # (when it arrives, packet)
        self.free_at = 0.0  # when the last packet has left

    def take(self):
        """Takes what the source has sent."""
        for _ in range(64):
            try:
                packet = os.read(self.source, MTU_BYTES)
            except BlockingIOError:
                return
            now = time.monotonic()
            leaves = max(now, self.free_at)
            if self.bytes_per_s > 0:
                leaves += len(packet) / self.bytes_per_s
            if leaves < now + 1:
                self.free_at = leaves
                self.under_way.append((leaves + self.latency_s, packet))

    def deliver(self):
        """Hands over what has arrived; seconds until the next arrives, None without one."""
        while self.under_way:
            wait_s = self.under_way[0][0] - time.monotonic()
            if wait_s > 0:
                return wait_s
            try:
                os.write(self.sink, self.under_way[0][1])
            except BlockingIOError:
                return 0.0001
            self.under_way.popleft()
        return None


def main(near, near_address, far, far_address, latency_us, bytes_per_s):
    ends = open_end(near, near_address), open_end(far, far_address)
    latency_s, bytes_per_s = float(latency_us) / 1e6, float(bytes_per_s)
    both = [Direction(*ends, latency_s, bytes_per_s), Direction(*ends[::-1], latency_s, bytes_per_s)]
    print("up", flush=True)
    while True:
        waits = [wait_s for direction in both if (wait_s := direction.deliver()) is not None]
        select.select(ends, [], [], min(waits, default=None))
        for direction in both:
            direction.take()


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
