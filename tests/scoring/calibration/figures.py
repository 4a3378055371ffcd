"""Figures of the rules of evidence: what the design expects, what a simulation of the shipped code finds, and by how much."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Case", "Estimate", "Table", "average", "exact", "middle", "share", "spread"]

SIGMAS = 3.0
"""How many simulation errors, of design and ours together, a figure may lie away."""
DESIGN_REPETITIONS = 1000
"""Repetitions behind a design figure that states no error of its own."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A simulated figure.

    Attributes:
        value: The figure; shares in percent.
        error: Its standard error, 0 for a figure that is computed exactly.
        once: Standard error of one repetition, from which that of the design figure follows.
    """

    value: float
    error: float
    once: float


def share(hits: ArrayLike) -> Estimate:
    """Return the percentage of hits."""
    found = np.asarray(hits, dtype=bool).ravel()
    # One hit more and one miss more: no error is zero because nothing was seen.
    p = (found.sum() + 1) / (len(found) + 2)
    once = 100 * math.sqrt(p * (1 - p))
    return Estimate(value=100 * float(found.mean()), error=once / math.sqrt(len(found)), once=once)


def average(values: ArrayLike) -> Estimate:
    """Return the mean."""
    found = np.asarray(values, dtype=np.float64).ravel()
    once = float(found.std(ddof=1))
    return Estimate(value=float(found.mean()), error=once / math.sqrt(len(found)), once=once)


def spread(values: ArrayLike, factor: float = 1.0) -> Estimate:
    """Return `factor` times the standard deviation."""
    found = np.asarray(values, dtype=np.float64).ravel()
    return _resampled(found, lambda rows: factor * rows.std(axis=-1, ddof=1))


def middle(values: ArrayLike, at: float = 0.5) -> Estimate:
    """Return a quantile."""
    found = np.asarray(values, dtype=np.float64).ravel()
    return _resampled(found, lambda rows: np.quantile(rows, at, axis=-1))


def exact(value: float) -> Estimate:
    """Return a figure that is computed, not simulated."""
    return Estimate(value=float(value), error=0.0, once=0.0)


def _resampled(found: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    draw = np.random.default_rng(0).integers(0, len(found), size=(100, len(found)))
    error = float(statistic(found[draw]).std(ddof=1))
    if error < 1e-12:  # a statistic of few possible values that is the same in every resample
        error = 0.0
    return Estimate(value=float(statistic(found)), error=error, once=error * math.sqrt(len(found)))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a table.

    Attributes:
        labels: What is simulated, one entry for each label column of the table.
        design: Design figure of each quantity as it was written down; "" where there is none, "<=" and ">=" for bounds.
        simulate: Returns our figure of each quantity, given a generator that is always the same for this row.
        repetitions: Repetitions behind the design figures.
    """

    labels: tuple[str, ...]
    design: Mapping[str, str]
    simulate: Callable[[np.random.Generator], Mapping[str, Estimate]]
    repetitions: int = DESIGN_REPETITIONS

    def fits(self, name: str, found: Estimate) -> bool:
        """Return whether a figure lies within simulation error of its design figure."""
        return self.distance(name, found) <= SIGMAS

    def distance(self, name: str, found: Estimate) -> float:
        """Return how many simulation errors a figure lies from its design figure, beyond the rounding of that one.

        0 for a bound that holds, infinity for an exact figure that is another.
        """
        design = self.design[name]
        bound, number = _parsed(design)
        off = found.value - number
        if (bound == "<=" and off < 0) or (bound == ">=" and off > 0):
            return 0.0
        beyond = max(abs(off) - 0.5 * 10.0 ** -_decimals(design) - 1e-9, 0.0)
        error = math.hypot(found.error, found.once / math.sqrt(self.repetitions))
        return beyond / error if error else (math.inf if beyond else 0.0)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of docs/evidence.md.

    Attributes:
        name: Its marker in the page.
        heads: Heads of the label columns.
        cases: Its rows, all with the same quantities.
    """

    name: str
    heads: tuple[str, ...]
    cases: tuple[Case, ...]

    def run(self, case: Case) -> Mapping[str, Estimate]:
        """Simulate one row."""
        found = case.simulate(np.random.default_rng(zlib.crc32("/".join((self.name, *case.labels)).encode())))
        assert list(found) == list(case.design)
        return found

    def head(self) -> list[str]:
        """Return the first two lines of the table in Markdown."""
        heads = (*self.heads, *self.cases[0].design)
        return [_line(heads), "|" + "---|" * len(heads)]

    def line(self, case: Case, found: Mapping[str, Estimate]) -> str:
        """Return the line of one row in Markdown."""
        cells = [_cell(case.design[name], found[name]) for name in case.design]
        return _line((*case.labels, *cells))


def _parsed(design: str) -> tuple[str, float]:
    match = re.fullmatch(r"(<=|>=)?\s*(-?[\d.]+)", design)
    assert match is not None, design
    return match[1] or "", float(match[2])


def _decimals(design: str) -> int:
    return len(design.partition(".")[2])


def _cell(design: str, found: Estimate) -> str:
    digits = _decimals(design) if design else 1
    if found.error:
        digits = max(digits, 1, -math.floor(math.log10(found.error)))
    ours = f"{found.value:.{digits}f}" + (f" ± {found.error:.{digits}f}" if found.error else "")
    return (f"{design} / " if design else "") + ours


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
