"""The peers' solvers behind one call, the data they read, and the objective they are judged by.

Lives here: reading libsvm text, the objective in float64, one `Variant` per peer and setting.
Never here: timing policy, the command line, output; see `sparse_lr.py`.
Importing this module loads numpy, so the caller sets the thread counts in the environment first.

The problem is   sum_i log(1 + exp(-y_i w.x_i)) + l1 ||w||_1,   y in {-1, +1}, no intercept.
Each library scales it in its own way; the factors are written beside each call.
"""

import bz2
import gzip
import io
import lzma
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Callable, Iterable

import numpy as np
import scipy.sparse as sp
import zstandard
from celer import celer_path
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression
from skglm.datafits import Logistic
from skglm.penalties import L1
from skglm.solvers import AndersonCD, ProxNewton

# Runs are cut off by their iteration count on purpose, so "did not converge" is what we asked for.
warnings.filterwarnings("ignore", message=".*converge", category=UserWarning)
warnings.filterwarnings("ignore", message=".*max_iter", category=UserWarning)

# Far below any excess asked for: the iteration count alone ends a run. Not zero, so that a solver
# that stands at the optimum may say so.
NEVER = 1e-13


class BadInput(Exception):
    """The data or a setting cannot be used; the text says what was expected and what came."""


@dataclass(frozen=True)
class Problem:
    """One training set in the layouts the solvers want, all built before any clock starts."""

    csr: sp.csr_matrix
    csc: dict  # numpy dtype -> csc_matrix
    y: dict  # numpy dtype -> labels in {-1, +1}

    @property
    def shape(self):
        """Rows, columns that hold at least one value, nonzeros."""
        return (*self.csr.shape, self.csr.nnz)

    def objective(self, w, l1):
        """The objective at `w`, in float64 whatever the solver computed in."""
        w = np.asarray(w, dtype=np.float64).ravel()
        margins = self.y[np.float64] * (self.csr @ w)
        return float(np.logaddexp(0.0, -margins).sum() + l1 * np.abs(w).sum())


@dataclass(frozen=True)
class Variant:
    """One peer with one choice of its settings; `solve(problem, l1, iterations)` returns weights."""

    peer: str
    setting: str
    solve: Callable
    iterations: Callable[[], Iterable[int]] = partial(count, 1)


def problem_from(csr, labels):
    """Builds a `Problem`; empty columns are dropped, labels {0, 1} become {-1, +1}."""
    found = set(np.unique(labels))
    if found != {-1.0, 1.0} and found != {0.0, 1.0}:
        raise BadInput(f"expected labels -1/1 or 0/1, both present; got {sorted(found)[:5]}")
    used, columns = np.unique(csr.indices, return_inverse=True)
    csr = sp.csr_matrix(
        (csr.data.astype(np.float64), columns.astype(np.int32), csr.indptr.astype(np.int32)),
        shape=(csr.shape[0], len(used)),
    )
    csr.sum_duplicates()
    y = np.where(labels > 0, 1.0, -1.0)
    csc = csr.tocsc()
    return Problem(
        csr,
        {np.float64: csc, np.float32: csc.astype(np.float32)},
        {np.float64: y, np.float32: y.astype(np.float32)},
    )


def load(path):
    """Reads one libsvm file, plain or .gz, .bz2, .xz, .zst by its name."""
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": zstandard.open}
    opener = next((f for end, f in openers.items() if path.endswith(end)), open)
    try:
        with io.BufferedReader(opener(path, "rb")) as file:
            csr, labels = load_svmlight_file(file, zero_based=True)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError) as error:
        what = str(error) or type(error).__name__
        raise BadInput(f"{path}: expected libsvm text (label index:value ...); {what}") from error
    if csr.nnz == 0:
        raise BadInput(f"{path}: expected at least one value; the file holds none")
    try:
        return problem_from(csr, labels)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def tiny_problem():
    """A few rows, used to compile the just-in-time solvers before the clock starts."""
    random = np.random.default_rng(7)
    csr = sp.random(60, 30, density=0.3, format="csr", rng=random)
    return problem_from(csr, np.where(random.random(60) < 0.5, -1.0, 1.0))


def certified_optimum(problem, l1):
    """An optimum where none was given, and its relative duality gap (float64 prox-Newton of celer)."""
    y = problem.y[np.float64]
    _, w, gaps = celer_path(
        problem.csc[np.float64], y, "logreg", alphas=[l1], max_iter=100, tol=1e-10, p0=100, use_PN=True
    )
    objective = problem.objective(w, l1)
    return objective, float(gaps[0]) / objective


def _sklearn(problem, l1, iterations, solver):
    # minimises ||w||_1 + C * sum of losses
    model = LogisticRegression(
        l1_ratio=1.0, C=1.0 / l1, solver=solver, fit_intercept=False,
        tol=NEVER, max_iter=iterations, random_state=0,
    )
    return model.fit(problem.csr, problem.y[np.float64]).coef_


def _celer(problem, l1, iterations, newton, p0, prune, dtype):
    # same scaling as ours; the gap it stops at is tol * n * log 2
    _, w, _ = celer_path(
        problem.csc[dtype], problem.y[dtype], "logreg", alphas=np.array([l1], dtype=dtype),
        max_iter=iterations, tol=NEVER, p0=p0, prune=prune, use_PN=newton,
    )
    return w


def _skglm_newton(problem, l1, iterations, p0, max_pn_iter):
    solver = ProxNewton(
        p0=p0, max_iter=iterations, max_pn_iter=max_pn_iter, tol=NEVER, fit_intercept=False
    )
    return _skglm(problem, l1, solver)


def _skglm_cd(problem, l1, iterations, p0):
    return _skglm(problem, l1, AndersonCD(p0=p0, max_iter=iterations, tol=NEVER, fit_intercept=False))


def _skglm(problem, l1, solver):
    # the loss is a mean over the n rows, hence alpha = l1 / n
    penalty = L1(l1 / problem.csr.shape[0])
    return solver.solve(problem.csc[np.float64], problem.y[np.float64], Logistic(), penalty)[0]


def _spaced():
    k = 1
    while True:
        yield k
        k += max(1, k // 4)


def _skglm_variants():
    # p0 is the first working set, max_pn_iter bounds the Newton steps on each working set (default 1000).
    # No float32: skglm 0.5 cannot compile its logistic loss for it.
    for p0, steps in (
        (100, 1000), (10, 1000), (100, 1), (10, 1), (100, 3), (10, 3), (30, 1000), (300, 1000), (30, 1), (300, 1)
    ):
        solve = partial(_skglm_newton, p0=p0, max_pn_iter=steps)
        yield Variant("skglm", f"newton p0={p0} max_pn_iter={steps}", solve)
    for p0 in (100, 10):
        yield Variant("skglm", f"cd p0={p0}", partial(_skglm_cd, p0=p0))


def _celer_variants():
    # prune=1 grows the working set from the support, prune=0 (the default) doubles it; float32 mostly wins.
    # prune=0 is tried in float64 prox-Newton only: elsewhere its inner tolerance may lie out of reach.
    for newton, p0, prune, dtype in (
        (True, 100, 1, np.float32), (True, 10, 1, np.float32), (True, 300, 1, np.float32),
        (False, 100, 1, np.float32), (False, 10, 1, np.float32), (True, 100, 1, np.float64),
        (False, 100, 1, np.float64), (True, 100, 0, np.float64),
    ):
        name = f"{'newton' if newton else 'cd'} p0={p0} prune={prune} {dtype.__name__}"
        yield Variant("celer", name, partial(_celer, newton=newton, p0=p0, prune=prune, dtype=dtype))


def variants(peers):
    """All settings tried for the named peers, likely winners first; unknown names are refused."""
    made = {
        "liblinear": [Variant("liblinear", "newton", partial(_sklearn, solver="liblinear"))],
        "skglm": list(_skglm_variants()),
        "celer": list(_celer_variants()),
        "saga": [Variant("saga", "saga", partial(_sklearn, solver="saga"), _spaced)],
    }
    unknown = [peer for peer in peers if peer not in made]
    if unknown:
        raise BadInput(f"--peers: expected some of {','.join(made)}; got {','.join(unknown)}")
    return [variant for peer in peers for variant in made[peer]]
