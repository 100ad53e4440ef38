#!/usr/bin/env python3
"""Writes seeded click-like libsvm data: binary power-law features, labels from a sparse logistic model."""

import argparse
import sys

import numpy as np


def rows_of(random, options, truth):
    """Yields one line per row; feature f is drawn with a density falling as f to the given exponent."""
    power = 1.0 - options.exponent
    top = float(options.features) ** power
    for _ in range(options.rows):
        # inverse of the truncated Pareto distribution function; repeated draws fall together
        draws = (1.0 + random.random(options.per_row) * (top - 1.0)) ** (1.0 / power)
        ids = np.unique(np.minimum(draws.astype(np.int64), options.features))
        margin = truth[ids].sum() + options.bias
        label = 1 if random.random() < 1.0 / (1.0 + np.exp(-margin)) else -1
        yield f"{label} " + " ".join(f"{i}:1" for i in ids.tolist()) + "\n"


def main():
    """Exit code 0, or 2 with a message."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--per-row", type=int, default=25, help="draws per row; repeated ones count once")
    parser.add_argument("--exponent", type=float, default=1.1, help="of the power law, not 1")
    parser.add_argument("--bias", type=float, default=-1.0, help="added to every margin")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if min(options.rows, options.features, options.per_row) < 1 or options.exponent in (0.0, 1.0):
        parser.error("expected positive counts and an exponent other than 0 and 1")
    random = np.random.default_rng(options.seed)
    # a tenth of the features matter
    truth = random.normal(size=options.features + 1) * (random.random(options.features + 1) < 0.1)
    try:
        with open(options.file, "w", encoding="ascii") as file:
            file.writelines(rows_of(random, options, truth))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
