#!/usr/bin/env python3
"""Times the peers, and Keyrange beside them, on sparse L1 logistic regression.

Lives here: the command line, the search for each peer's fastest setting, the interleaved timing,
the table and the JSON. Never here: the solvers and the data, see `sparse_lr_solvers.py`.
Read `main`, then `measure_case`, then `probe` and `time_rounds`.

What is compared: seconds, after loading, until the objective is within a relative excess of the
optimum. Every peer is cut off after its 1st, 2nd, 3rd ... outer iteration; the first cut-off good
enough counts, so a peer pays nothing for proving that it has arrived. Keyrange's `history` is read the same way.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version

PACKAGES = ("scikit-learn", "skglm", "celer", "numba", "numpy", "scipy")
KEYRANGE = "keyrange"
# A setting whose probe took more than this times its peer's best is not timed again.
NEAR = 1.25


class Failed(Exception):
    """The run cannot go on; the text says what was expected, what came, and what to do."""


@dataclass
class Case:
    """One data file with its penalty and, when known, its optimum."""

    path: str
    l1: float
    optimum: float | None
    gap: float | None = None  # relative duality gap of an optimum found here


@dataclass
class Timed:
    """One way to reach a target, with the seconds of every round."""

    peer: str
    setting: str
    excess: float
    seconds: list = field(default_factory=list)

    def median(self):
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)


def arguments():
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", action="append", required=True, metavar="X",
                        help="FILE L1 [OPTIMUM]: libsvm text (plain, .gz, .bz2, .xz, .zst); may be repeated")
    parser.add_argument("--excess", type=float, nargs="+", default=[1e-3, 1e-4, 1e-6],
                        help="relative excesses over the optimum to reach (default: %(default)s)")
    parser.add_argument("--peers", default="liblinear,skglm,celer",
                        help="comma-separated: liblinear, skglm, celer, saga (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="OpenMP, BLAS and numba threads")
    parser.add_argument("--probe-seconds", type=float, default=10.0,
                        help="time to search for each peer's settings (default: %(default)s)")
    parser.add_argument("--keyrange", metavar="CMD",
                        help="our program, with {data} {l1} {report} in the places of the arguments")
    parser.add_argument("--timeout", type=float, default=120.0,
                        help="seconds one run of our program may take (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    given = parser.parse_args()
    if given.repeat < 1 or given.threads < 1 or given.timeout <= 0 or given.probe_seconds <= 0:
        parser.error("--repeat, --threads, --timeout and --probe-seconds: expected positive values")
    if not all(0 < excess < 1 for excess in given.excess):
        parser.error(f"--excess: expected values between 0 and 1, got {given.excess}")
    if given.keyrange and not all(f"{{{name}}}" in given.keyrange for name in ("data", "l1", "report")):
        parser.error("--keyrange: expected {data}, {l1} and {report} in the command")
    given.excess = sorted(set(given.excess), reverse=True)
    given.case = [case_from(parser, words) for words in given.case]
    return given


def case_from(parser, words):
    """FILE L1 [OPTIMUM] as a `Case`."""
    try:
        numbers = [float(word) for word in words[1:]]
        if len(numbers) in (1, 2) and all(0 < number < float("inf") for number in numbers):
            return Case(words[0], numbers[0], numbers[1] if len(numbers) == 2 else None)
    except ValueError:
        pass
    return parser.error(f"--case: expected FILE L1 [OPTIMUM] with positive numbers, got {' '.join(words)}")


def run(variant, problem, l1, iterations):
    """One run: seconds and objective. The garbage collector stays out of the timed part."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    w = variant.solve(problem, l1, iterations)
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds, problem.objective(w, l1)


def excess_over(case, objective, who):
    """Relative excess; an objective clearly below the optimum means that two different problems are compared."""
    excess = objective / case.optimum - 1.0
    if excess < -1e-6:
        raise Failed(f"{case.path} l1={case.l1:g}: {who} reached {objective!r}, below the optimum "
                     f"{case.optimum!r}; expected the same problem: check OPTIMUM, labels and scaling")
    return excess


def probe(variants, problem, case, targets, budget_s):
    """For each target, (seconds, variant, iterations) of each of one peer's settings that reach it, and whether
    every setting had its turn within the budget.

    The runs happen in a child process: a solver cannot be interrupted, a child can, and what it sent until then counts.
    """
    found, complete = {target: [] for target in targets}, False
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    child = fork.Process(target=probe_child, args=(there, variants, problem, case, targets), daemon=True)
    child.start()
    there.close()
    end = time.monotonic() + budget_s
    try:
        while here.poll(max(0.0, end - time.monotonic())):
            got = here.recv()
            if isinstance(got, Failed):
                raise got
            target, seconds, index, iterations = got
            found[target].append((seconds, variants[index], iterations))
    except EOFError:
        child.join()
        complete = child.exitcode == 0  # it ended by itself, having tried everything
    finally:
        child.kill()
        child.join()
        here.close()
    return found, complete


def probe_child(pipe, variants, problem, case, targets):
    """Runs each setting for 1, 2, 3 ... iterations and sends the first count that reaches each target."""
    best = {target: float("inf") for target in targets}
    variants[0].solve(problem, case.l1, 1)  # first touch of the data is nobody's cost
    try:
        for index, variant in enumerate(variants):
            missing, last = list(targets), []
            for iterations in variant.iterations():
                seconds, objective = run(variant, problem, case.l1, iterations)
                excess = excess_over(case, objective, f"{variant.peer} ({variant.setting})")
                for target in [t for t in missing if excess <= t]:
                    pipe.send((target, seconds, index, iterations))
                    best[target] = min(best[target], seconds)
                    missing.remove(target)
                last = [*last[-3:], objective]
                stalled = len(last) == 4 and max(last) - min(last) <= 1e-12 * case.optimum
                if stalled or all(seconds > NEAR * best[target] for target in missing):
                    break
    except Failed as error:
        pipe.send(error)


def keep_near(found):
    """The probes within `NEAR` of the best one of each target, at most two."""
    return {target: sorted((p for p in probes if p[0] <= NEAR * min(probes, key=lambda q: q[0])[0]),
                           key=lambda p: p[0])[:2]
            for target, probes in found.items()}


def time_rounds(case, problem, kept, options):
    """Rounds over all kept settings (and our program), each once per round; Timed lists by target."""
    runs = {}  # (variant name, iterations) -> Timed
    reached = {target: [] for target in options.excess}
    for probes_by_target in kept:
        for target, probes in probes_by_target.items():
            for _, variant, iterations in probes:
                key = (variant, iterations)
                setting = f"{variant.setting} iterations={iterations}"
                runs.setdefault(key, Timed(variant.peer, setting, 0.0))
                reached[target].append(runs[key])
    ours = {target: Timed(KEYRANGE, "", 0.0) for target in options.excess}
    order = list(runs.items())
    for turn in range(options.repeat):
        shift = turn % max(1, len(order))
        for (variant, iterations), timed in order[shift:] + order[:shift]:
            seconds, objective = run(variant, problem, case.l1, iterations)
            timed.seconds.append(seconds)
            timed.excess = max(timed.excess, excess_over(case, objective, variant.peer))
        if options.keyrange:
            keyrange_round(case, options, ours)
    if options.keyrange:
        for target, timed in ours.items():
            if len(timed.seconds) == options.repeat:
                reached[target].append(timed)
    return reached


def keyrange_round(case, options, ours):
    """One run of our program; adds the seconds at which its history first meets each target."""
    history = [(entry["objective"], entry["seconds"]) for entry in keyrange_history(case, options)]
    for target, timed in ours.items():
        for passes, (objective, seconds) in enumerate(history, 1):
            excess = excess_over(case, objective, KEYRANGE)
            if excess <= target:
                timed.seconds.append(seconds)
                timed.excess = max(timed.excess, excess)
                timed.setting = f"passes={passes}"
                break


def keyrange_history(case, options):
    """Runs our program on the case in its own process group and returns the report's history."""
    with tempfile.TemporaryDirectory(prefix="keyrange-peers-") as folder:
        report = os.path.join(folder, "report.json")
        values = {"data": os.path.abspath(case.path), "l1": f"{case.l1:g}", "report": report}
        words = shlex.split(options.keyrange)
        for name, value in values.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        try:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       text=True, errors="replace", start_new_session=True)
        except OSError as error:
            raise Failed(f"--keyrange: expected a program to start; {error}") from error
        try:
            said, _ = process.communicate(timeout=options.timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"--keyrange: expected an end within {options.timeout:g} s (--timeout): "
                             f"{shlex.join(words)}") from error
            raise
        if process.returncode != 0:
            raise Failed(f"--keyrange: expected exit code 0, got {process.returncode} from "
                         f"{shlex.join(words)}\n{said[-2000:]}")
        try:
            with open(report, encoding="utf-8") as file:
                history = json.load(file)["history"]
            return [{name: float(entry[name]) for name in ("objective", "seconds")} for entry in history]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failed(f"--keyrange: expected a JSON report with history [{{objective, seconds}}] at "
                         f"{{report}}; {type(error).__name__}: {error}") from error


def measure_case(case, problem, options, solvers):
    """All targets of one case as JSON-ready values."""
    if case.optimum is None:
        case.optimum, case.gap = solvers.certified_optimum(problem, case.l1)
        if case.gap > min(options.excess) / 10:
            raise Failed(f"{case.path} l1={case.l1:g}: expected an optimum known to {min(options.excess) / 10:g}, "
                         f"the best found here has a relative gap of {case.gap:.1e}; give OPTIMUM or a looser --excess")
    kept, cut_short = [], []
    for peer in dict.fromkeys(options.peers):
        found, complete = probe(solvers.variants([peer]), problem, case, options.excess, options.probe_seconds)
        kept.append(keep_near(found))
        cut_short += [] if complete else [peer]
    rows, features, nonzeros = problem.shape
    return {
        "data": case.path, "rows": rows, "features": features, "nonzeros": nonzeros, "l1": case.l1,
        "optimum": case.optimum, "optimum_relative_gap": case.gap, "search_cut_short": cut_short,
        "targets": [target_report(target, timed)
                    for target, timed in time_rounds(case, problem, kept, options).items()],
    }


def target_report(target, timed):
    """The fastest setting of each peer for one target, and our ratio to the best of them."""
    best = {}
    for one in timed:
        if one.peer not in best or one.median() < best[one.peer].median():
            best[one.peer] = one
    entries = {
        peer: {"seconds": one.median(), "seconds_min": min(one.seconds), "seconds_max": max(one.seconds),
               "relative_excess": one.excess, "setting": one.setting}
        for peer, one in best.items()
    }
    peers = [peer for peer in entries if peer != KEYRANGE]
    fastest = min(peers, key=lambda peer: entries[peer]["seconds"], default=None)
    ratio = None
    if fastest and KEYRANGE in entries:
        ratio = entries[KEYRANGE]["seconds"] / entries[fastest]["seconds"]
    return {"excess": target, "solvers": entries, "best_peer": fastest, "keyrange_to_best_peer": ratio}


def print_case(case, options):
    """The human table of one case."""
    print(f"\n{case['data']}  {case['rows']} rows, {case['features']} features, {case['nonzeros']} nonzeros, "
          f"l1 = {case['l1']:g}, optimum {case['optimum']:.10g}")
    if case["search_cut_short"]:
        print(f"  not every setting was tried within --probe-seconds: {', '.join(case['search_cut_short'])}")
    print(f"  {'excess':>8}  {'solver':<10} {'seconds':>9} {'min':>9} {'max':>9} {'reached':>9}  setting")
    asked = [*dict.fromkeys(options.peers), *([KEYRANGE] if options.keyrange else [])]
    for target in case["targets"]:
        for peer in asked:
            one = target["solvers"].get(peer)
            if one is None:
                print(f"  {target['excess']:>8.0e}  {peer:<10} {'not reached':>9}")
                continue
            mark = "  <- best peer" if peer == target["best_peer"] else ""
            print(f"  {target['excess']:>8.0e}  {peer:<10} {one['seconds']:>9.4f} {one['seconds_min']:>9.4f} "
                  f"{one['seconds_max']:>9.4f} {one['relative_excess']:>9.1e}  {one['setting']}{mark}")
        if target["keyrange_to_best_peer"] is not None:
            print(f"  {target['excess']:>8.0e}  keyrange / {target['best_peer']} = "
                  f"{target['keyrange_to_best_peer']:.2f}")
    sys.stdout.flush()


def machine(options):
    """Where and with what the figures were taken."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass  # not Linux: the plain name will do
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cpu": model, "cores": os.cpu_count(),
        "threads": options.threads, "rounds": options.repeat, "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES}, "keyrange": options.keyrange,
    }


def set_threads(threads):
    """Thread counts of every pool the packages use; they read them once, when they are imported."""
    for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)


def measure(options):
    """Everything asked for; prints as it goes and returns the whole report."""
    set_threads(options.threads)
    try:
        import sparse_lr_solvers as solvers
    except ImportError as error:
        raise Failed(f"{error}; install the packages: pip install -r requirements.txt") from error
    options.peers = options.peers.split(",")
    report = {"machine": machine(options), "cases": []}
    versions = ", ".join(f"{name} {number}" for name, number in report["machine"]["packages"].items())
    print(f"{report['machine']['cpu']}, {os.cpu_count()} cores, {options.threads} thread(s); {versions}")
    try:
        tiny = solvers.tiny_problem()
        for variant in solvers.variants(options.peers):
            variant.solve(tiny, 1.0, 2)
        loaded = (None, None)
        for case in options.case:
            if loaded[0] != case.path:
                loaded = (case.path, solvers.load(case.path))
            report["cases"].append(measure_case(case, loaded[1], options, solvers))
            print_case(report["cases"][-1], options)
    except solvers.BadInput as error:
        raise Failed(str(error)) from error
    return report


def main():
    """Exit code 0, or 2 with one message."""
    options = arguments()
    try:
        report = measure(options)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=1)
                file.write("\n")
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
