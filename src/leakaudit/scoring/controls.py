"""Controls: does the attack work where nothing defends, and does it find nothing where nothing is to be found?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.intervals import Interval

__all__ = ["NEGATIVE_LEVEL", "ControlResult", "derange", "negative_control", "positive_control", "rho"]

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
        passed: Whether the criterion holds; None where it cannot be decided (planted controls only).
        patients: Patients behind it (membership: of the smaller side), where that is known.
        inside: Whether a planted leak lies in the very training that is judged.
    """

    kind: Literal["positive", "planted", "negative"]
    value: float
    low: float
    high: float
    criterion: str
    passed: bool | None
    patients: int | None = None
    inside: bool = False


def positive_control(
    value: float, interval: Interval, limit: float, *, factor: float = 3.0, kind: Literal["positive", "planted"] = "positive",
    patients: int | None = None,
) -> ControlResult:  # fmt: skip
    """Judge whether an attack is strong enough that its failure against a defense means something.

    With a simulated attacker of random strength and a true defended leakage of .30, P(PASS) is 28 % without control, 26 %
    with "above chance", 13 % with more than the limit, and 0 with more than three times the limit.

    A planted control has a third outcome. That it works asks for the same bound; that it fails says "the attack is broken",
    which must be shown too: the upper bound stays below the bar and the lower one does not even exceed the limit. Anything
    between decides nothing.

    Args:
        value: Leakage without defense, same endpoint, patients and budget.
        interval: Its interval.
        limit: Limit of the endpoint (tau).
        factor: How many times the limit the lower bound must reach.
        kind: `"planted"` for a leak that was put there on purpose.
        patients: Patients behind it.
    """
    need = factor * limit - 1e-12
    passed: bool | None = interval.low >= need
    criterion = f"lower bound of the undefended leakage >= {factor:g} x {limit:g}"
    if kind == "planted":
        criterion = f"lower bound of the planted leakage >= {factor:g} x {limit:g}"
        if not passed and (interval.high >= need or interval.low > limit):
            passed = None
    return ControlResult(
        kind=kind, value=value, low=interval.low, high=interval.high, criterion=criterion, passed=passed, patients=patients,
    )  # fmt: skip


def negative_control(
    value: float, interval: Interval, *, limit: float = NEGATIVE_LIMIT, patients: int | None = None
) -> ControlResult:
    """Judge the message shuffle: whole patients deranged, so the expected leakage is at most 0.

    Args:
        value: Leakage from shuffled messages.
        interval: Its interval at level .999 or more.
        limit: The lower bound may not exceed this.
        patients: Patients behind it.

    Raises:
        EvidenceError: The interval's level is below .999.
    """
    if interval.level < NEGATIVE_LEVEL - 1e-12:
        raise EvidenceError(f"the message shuffle is judged at level {NEGATIVE_LEVEL}; the interval has {interval.level}")
    criterion = f"99.9 % lower bound from shuffled messages <= {limit:g}"
    return ControlResult(
        kind="negative", value=value, low=interval.low, high=interval.high, criterion=criterion, passed=interval.low <= limit,
        patients=patients,
    )  # fmt: skip


def rho(defended_high: float, undefended_low: float) -> float | None:
    """Return U(defended) / lower(undefended): the most a perfect attacker could get if ours is as weak on both.

    None where the undefended lower bound is not positive.
    """
    return defended_high / undefended_low if undefended_low > 0 else None


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
