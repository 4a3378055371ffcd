"""Controls: does the attack work where nothing defends, and does it find nothing where nothing is to be found?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leakaudit.scoring.checks import EvidenceError, Floats, finite
from leakaudit.scoring.intervals import Interval

__all__ = [
    "NEGATIVE_LEVEL", "ControlResult", "PatientLimit", "ShuffleTest", "derange", "negative_control", "patient_limit",
    "positive_control", "rho", "shuffle_test",
]  # fmt: skip

NEGATIVE_LEVEL = 0.999
"""Level of the interval that judges the message shuffle: an ERROR must not come by chance."""
NEGATIVE_LIMIT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """Outcome of one control.

    Attributes:
        kind: `"positive"`: the undefended pairing. `"planted"`: a leak put there on purpose. `"negative"`: shuffled messages.
        value: Leakage found.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        criterion: What was asked, for the report.
        passed: Whether the criterion holds.
    """

    kind: Literal["positive", "planted", "negative"]
    value: float
    low: float
    high: float
    criterion: str
    passed: bool


def positive_control(
    value: float, interval: Interval, limit: float, *, factor: float = 3.0, kind: Literal["positive", "planted"] = "positive"
) -> ControlResult:
    """Judge whether an attack is strong enough that its failure against a defense means something.

    With a simulated attacker of random strength and a true defended leakage of .30, P(PASS) is 28 % without control, 26 %
    with "above chance", 13 % with more than the limit, and 0 with more than three times the limit.

    Args:
        value: Leakage without defense, same endpoint, patients and budget.
        interval: Its interval.
        limit: Limit of the endpoint (tau).
        factor: How many times the limit the lower bound must reach.
        kind: `"planted"` for a leak that was put there on purpose.
    """
    need = factor * limit
    criterion = f"lower bound of the undefended leakage >= {factor:g} x {limit:g}"
    if kind == "planted":
        criterion = f"lower bound of the planted leakage >= {factor:g} x {limit:g}"
    return ControlResult(
        kind=kind, value=value, low=interval.low, high=interval.high, criterion=criterion, passed=interval.low >= need - 1e-12
    )


def negative_control(value: float, interval: Interval, *, limit: float = NEGATIVE_LIMIT) -> ControlResult:
    """Judge the message shuffle: whole patients deranged, so the expected leakage is at most 0.

    Args:
        value: Leakage from shuffled messages.
        interval: Its interval at level .999 or more.
        limit: The lower bound may not exceed this.

    Raises:
        EvidenceError: The interval's level is below .999.
    """
    if interval.level < NEGATIVE_LEVEL - 1e-12:
        raise EvidenceError(f"the message shuffle is judged at level {NEGATIVE_LEVEL}; the interval has {interval.level}")
    criterion = f"99.9 % lower bound from shuffled messages <= {limit:g}"
    return ControlResult(
        kind="negative", value=value, low=interval.low, high=interval.high, criterion=criterion, passed=interval.low <= limit
    )


def rho(defended_high: float, undefended_low: float) -> float | None:
    """Return U(defended) / lower(undefended): the most a perfect attacker could get if ours is as weak on both.

    None where the undefended lower bound is not positive.
    """
    return defended_high / undefended_low if undefended_low > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleTest:
    """Evidence-shuffle test of "the mean score is above that of shuffled evidence".

    Attributes:
        p: P-value.
        floor: Smallest p-value that these patients allow.
        exact: Whether all permutations were counted.
        possible: Whether the floor is at most .05; it is not with 3 patients or fewer.
    """

    p: float
    floor: float
    exact: bool
    possible: bool


def shuffle_test(
    matrix: ArrayLike, *, permutations_drawn: int = 999, seed: int, groups: Sequence[Hashable] | None = None
) -> ShuffleTest:
    """Test the mean of the diagonal of M_ij = score(evidence i, truth j) against permutations of the truths.

    All permutations are counted where there are no more than those drawn; otherwise p = (1 + #{>=}) / (B + 1).

    Args:
        matrix: Scores by patient, shape (n, n).
        permutations_drawn: B, at least 999.
        seed: Seed of the permutations.
        groups: Group (site) of each patient; permutations stay within groups. None: one group.

    Raises:
        EvidenceError: The matrix is not square, a score is not finite, or fewer than 999 permutations are asked for.
    """
    scores = finite("the score matrix", matrix, ndim=2)
    n = len(scores)
    if scores.shape[1] != n or permutations_drawn < 999 or (groups is not None and len(groups) != n):
        raise EvidenceError("the shuffle test needs a square matrix, a group for each patient, and at least 999 permutations")
    labels = list(groups) if groups is not None else [0] * n
    blocks = [np.array([i for i, label in enumerate(labels) if label == group]) for group in dict.fromkeys(labels)]
    total = math.prod(math.factorial(len(block)) for block in blocks)
    rows = np.arange(n)
    observed = float(scores[rows, rows].mean())
    # Rounding of sums in another order must not make a tie look smaller.
    bar = observed - 1e-12 * (1 + abs(observed))
    floor = 1 / total
    if total <= permutations_drawn:
        means = _all_means(scores, blocks)
        return ShuffleTest(p=float((means >= bar).mean()), floor=floor, exact=True, possible=floor <= 0.05)
    rng = np.random.default_rng(seed)
    order = np.tile(rows, (permutations_drawn, 1))
    for block in blocks:
        order[:, block] = rng.permuted(order[:, block], axis=1)
    hits = int((scores[rows, order].mean(axis=1) >= bar).sum())
    return ShuffleTest(p=(1 + hits) / (permutations_drawn + 1), floor=floor, exact=False, possible=floor <= 0.05)


def _all_means(scores: Floats, blocks: list[NDArray[np.intp]]) -> Floats:
    sums = np.zeros(1)
    for block in blocks:
        part = np.array([scores[block, list(order)].sum() for order in permutations(block)])
        sums = (sums[:, None] + part[None]).ravel()
    return np.asarray(sums / len(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientLimit:
    """Which patients score above what other patients' evidence scores.

    Attributes:
        limit: (1 - alpha / n) quantile of the off-diagonal scores.
        above: Whether each patient's own score exceeds it, shape (n,).
    """

    limit: float
    above: NDArray[np.bool_]


def patient_limit(matrix: ArrayLike, *, alpha: float = 0.05) -> PatientLimit:
    """Compare each patient's own score with the off-diagonal of M_ij = score(evidence i, truth j).

    A permutation test of the maximum would not do: a leaked patient keeps its own cell with probability 1/n (power 1 %).

    Args:
        matrix: Scores by patient, shape (n, n), n >= 2.
        alpha: Share of runs that may flag somebody where nothing leaks (small n: 15 % at n = 10, 6 % at 100).

    Raises:
        EvidenceError: The matrix is not square or too small, or a score is not finite.
    """
    scores = finite("the score matrix", matrix, ndim=2)
    n = len(scores)
    if n < 2 or scores.shape[1] != n:
        raise EvidenceError(f"a score matrix of shape {scores.shape}; it must be square, of at least two patients")
    limit = float(np.quantile(scores[~np.eye(n, dtype=bool)], 1 - alpha / n))
    return PatientLimit(limit=limit, above=np.diagonal(scores) > limit)


def derange(
    patients: Sequence[str], groups: Sequence[Hashable], seed: int, positions: Sequence[int] | None = None
) -> NDArray[np.intp]:
    """Return, for each sample, the sample whose messages it gets: those of another patient, whole patients at a time.

    Patients are exchanged within their group (site), so that what a site gives away stays; each sample gets the one at the
    same slice position, or at the nearest. A patient alone in its group is exchanged with a patient of another group.

    Args:
        patients: Patient key of each sample.
        groups: Group of each sample; a patient belongs to the group of its first sample.
        seed: Seed of the derangement. The result depends on keys and seed, not on the order of patients.
        positions: Slice position of each sample; None where each patient has its samples in the same order.

    Returns:
        Indices into the samples, shape (samples,).

    Raises:
        EvidenceError: There is only one patient, or lengths differ.
    """
    if not len(patients) == len(groups) == len(positions if positions is not None else patients):
        raise EvidenceError("patients, groups and positions must have one entry per sample")
    places: dict[str, list[int]] = {}
    site: dict[str, Hashable] = {}
    for index, (patient, group) in enumerate(zip(patients, groups, strict=True)):
        places.setdefault(patient, []).append(index)
        site.setdefault(patient, group)
    if len(places) < 2:
        raise EvidenceError("messages cannot be shuffled between patients: there is only one patient")
    partner = _partners(site, seed)
    source = np.empty(len(patients), dtype=np.intp)
    for patient, own in places.items():
        other = places[partner[patient]]
        for rank, index in enumerate(own):
            if positions is None:
                source[index] = other[min(rank, len(other) - 1)]
            else:
                at = positions[index]
                source[index] = min(other, key=lambda j: (abs(positions[j] - at), positions[j]))
    return source


def _partners(site: dict[str, Hashable], seed: int) -> dict[str, str]:
    """Return another patient for each patient: a random cyclic order within each group of at least two."""
    rng = np.random.default_rng(seed)
    members: dict[Hashable, list[str]] = {}
    for patient in sorted(site):
        members.setdefault(site[patient], []).append(patient)
    clusters = [members[group] for group in sorted(members, key=str)]
    alone = [patient for cluster in clusters if len(cluster) == 1 for patient in cluster]
    clusters = [cluster for cluster in clusters if len(cluster) > 1]
    if len(alone) > 1:
        clusters.append(alone)
    elif alone:
        clusters[0] = clusters[0] + alone
    partner: dict[str, str] = {}
    for cluster in clusters:
        order = rng.permutation(len(cluster))
        for here, there in zip(order, np.roll(order, 1), strict=True):
            partner[cluster[here]] = cluster[there]
    return partner
