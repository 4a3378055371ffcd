"""The strongest membership attack: chosen on other training repeats, or on the other half of the candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leakaudit.scoring.checks import Floats
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.membership import StratifiedAuc, stratified_auc

__all__ = ["ByMembership", "Table", "membership_choices", "within_sites"]

Table = tuple[Floats, NDArray[np.bool_], Sequence[str]]
"""Scores, who is a member, and the sites of the candidates of one repeat."""


def within_sites(table: Table, level: float = 0.95) -> StratifiedAuc:
    """Compare members with non-members of their own site; over all candidates where no site has both."""
    scores, member, sites = table
    inside = {s for s, m in zip(sites, member, strict=True) if m}
    shared = inside & {s for s, m in zip(sites, member, strict=True) if not m}
    return stratified_auc(scores, member, sites if shared else ["all"] * len(sites), level=level)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByMembership:
    """Membership leakage, 2 AUC - 1 within sites: a number of a group, without any value by patient.

    Attributes:
        tables: For each repeat the groups of candidates that are averaged: one, or two halves with an attack of their own.
    """

    tables: tuple[tuple[Table, ...], ...]

    @property
    def n(self) -> int:
        """Patients of the smaller side, all groups of a repeat together."""
        members = [member for _, member, _ in self.tables[0]]
        return int(min(sum(m.sum() for m in members), sum((~m).sum() for m in members)))

    @property
    def repeats(self) -> int:
        """Number of training repeats."""
        return len(self.tables)

    @property
    def means(self) -> Floats:
        """Leakage of each repeat."""
        return np.array([np.mean([2 * within_sites(t).value - 1 for t in groups]) for groups in self.tables])

    @property
    def value(self) -> float:
        """Mean leakage over the repeats."""
        return float(self.means.mean())

    def bounds(self, level: float, seed: int) -> Interval:
        """Return Newcombe's interval over candidates, averaged over repeats; `seed` is not needed.

        The repeats have the same candidates, so their intervals are averaged and not narrowed. Halves have different ones:
        their distances to the bounds are squared and added (MOVER).
        """
        lows, highs = [], []
        for groups in self.tables:
            found = [within_sites(t, level).leakage for t in groups]
            values = [2 * within_sites(t).value - 1 for t in groups]
            middle = float(np.mean(values))
            lows.append(middle - math.hypot(*(v - i.low for v, i in zip(values, found, strict=True))) / len(groups))
            highs.append(middle + math.hypot(*(i.high - v for v, i in zip(values, found, strict=True))) / len(groups))
        return Interval(float(np.mean(lows)), float(np.mean(highs)), "Newcombe method 5", level)


def membership_choices(
    patients: Sequence[Sequence[str]], tables: Sequence[Sequence[Table]]
) -> tuple[int, ByMembership, ByMembership]:
    """Choose the strongest membership attack, cross-fitted and on everything.

    With several repeats each one is scored by the attack that leaks most in the *other* repeats. These have the same
    candidates, so a part of the upward bias stays (an attack that happens to suit these patients); the interval over
    patients is far wider than it. With one repeat the candidates are split into halves within site and membership: the
    attack chosen on one half is scored on the other, and the two are averaged. Candidates too few to be split: no
    cross-fitting, which errs upward.

    Args:
        patients: Candidate keys of each attack, in the order of its first table.
        tables: Tables of each attack, one per repeat.

    Returns:
        Index of the strongest attack over all repeats and candidates, the cross-fitted leakage, and the upward one.
    """
    advantages = np.array([ByMembership(tables=tuple((t,) for t in attack)).means for attack in tables])
    best, repeats = int(advantages.mean(axis=1).argmax()), advantages.shape[1]
    upward = ByMembership(tables=tuple((t,) for t in tables[best]))
    if len(tables) == 1:
        return best, upward, upward
    if repeats > 1:
        others = (advantages.sum(axis=1, keepdims=True) - advantages) / (repeats - 1)
        return best, ByMembership(tables=tuple((tables[k][r],) for r, k in enumerate(others.argmax(axis=0)))), upward
    halves = [_halves(keys, attack[0]) for keys, attack in zip(patients, tables, strict=True)]
    if not all(_usable(half) for pair in halves for half in pair):
        return best, upward, upward
    leaks = np.array([[within_sites(half).value for half in pair] for pair in halves])
    first, second = leaks.argmax(axis=0)
    return best, ByMembership(tables=((halves[second][0], halves[first][1]),)), upward


def _halves(patients: Sequence[str], table: Table) -> tuple[Table, Table]:
    """Split a table by patient, every second one of each site and membership: the same split for every attack."""
    scores, member, sites = table
    seen: dict[tuple[str, bool], int] = {}
    half = np.zeros(len(scores), dtype=bool)
    for i in sorted(range(len(scores)), key=lambda i: patients[i]):
        group = (sites[i], bool(member[i]))
        half[i] = seen.get(group, 0) % 2 == 1
        seen[group] = seen.get(group, 0) + 1
    return tuple((scores[h], member[h], [s for s, here in zip(sites, h, strict=True) if here]) for h in (~half, half))  # type: ignore[return-value]


def _usable(table: Table) -> bool:
    return bool(table[1].any() and (~table[1]).any())
