#!/usr/bin/env python3
"""Runs a job and stops one of its worker processes at a time for a moment, as machines shared with others do.

    scripts/disturb.py any|one STOP_MS PAUSE_MS SEED COMMAND... --workers N ...

A worker is stopped for a time drawn from 0 to twice STOP_MS (0: none is), then all run for one drawn from 0 to twice
PAUSE_MS: a worker drawn anew each time, or always the same. The job is ended after two minutes; its exit code is ours.
"""
import os, pathlib, random, signal, subprocess, sys, time

slow, stop_s, pause_s, seed = sys.argv[1], float(sys.argv[2]) / 1e3, float(sys.argv[3]) / 1e3, int(sys.argv[4])
draw, count = random.Random(seed), int(sys.argv[sys.argv.index("--workers") + 1])
job = subprocess.Popen(sys.argv[5:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
until = time.monotonic() + 120


def workers():
    """The job's worker processes: children of the launcher whose command is `worker`."""
    found = []
    for task in pathlib.Path(f"/proc/{job.pid}/task").glob("*/children"):
        for pid in task.read_text().split():
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if len(words) > 1 and words[1] == b"worker":
                found.append(int(pid))
    return sorted(found)


def send(pid, what):
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


known = []
while stop_s > 0 and job.poll() is None and time.monotonic() < until:
    if len(known) < count:  # all of them, or a part would be drawn from only
        try:
            known = workers()
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.01)
        continue
    stopped = draw.choice(known) if slow == "any" else known[0]
    send(stopped, signal.SIGSTOP)
    time.sleep(draw.uniform(0, 2 * stop_s))
    send(stopped, signal.SIGCONT)
    time.sleep(max(draw.uniform(0, 2 * pause_s), 0.0005))
try:
    job.wait(max(until - time.monotonic(), 0))
except subprocess.TimeoutExpired:
    job.terminate()
sys.exit(job.wait())
