"""Epsilon of one pairing over its repeats: the lower bound that canaries show, its ceiling, and bounds within a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.engine.raw import Raw
from leakaudit.engine.scored_candidates import ScoredCandidates
from leakaudit.scoring.audit import AuditBound, audit_bound, conditional_bound
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.epsilon import leakage_of_epsilon
from leakaudit.scoring.intervals import Interval
from leakaudit.scoring.membership import auc, membership_test
from leakaudit.scoring.permutation import ShuffleTest

__all__ = ["DELTA", "EpsilonTables"]

DELTA = 1e-5
"""Delta of the bound where no guarantee says another."""


@dataclass(frozen=True, kw_only=True)
class EpsilonTables:
    """Scores of all canaries in each repeat.

    Attributes:
        patients: Canaries, sorted.
        sites: Seat or site of each.
        scores: Larger means included, (repeats, canaries).
        member: The coins, of the same shape.
        units: Units that one canary is.
        delta: Delta of the bound.
    """

    patients: tuple[str, ...]
    sites: tuple[str, ...]
    scores: Floats
    member: NDArray[np.bool_]
    units: tuple[str, ...]
    delta: float = DELTA

    @classmethod
    def of(cls, repeats: Sequence[Mapping[str, Any]]) -> EpsilonTables:
        """Return the tables of the score cells' endpoints, one for each repeat."""
        scored = ScoredCandidates(repeats)
        return cls(
            patients=scored.patients, sites=scored.sites, units=tuple(repeats[0]["units"]), scores=scored.rows("score"),
            member=scored.rows("member").astype(bool),
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Canaries of one repeat."""
        return len(self.patients)

    def bound(self, significance: float = 0.05) -> AuditBound:
        """Return the bound from all repeats."""
        return audit_bound(list(self.scores), list(self.member), delta=self.delta, significance=significance)

    @cached_property
    def value(self) -> float:
        """The largest membership advantage that the bound implies, tanh(epsilon / 2)."""
        return leakage_of_epsilon(self.bound().value)

    def interval(self, level: float = 0.95) -> Interval:
        """Return the one-sided interval: a bound from below, and nothing from above."""
        return Interval(leakage_of_epsilon(self.bound(1 - level).value), 1.0, "one-sided", level)

    def test(self, seed: int) -> ShuffleTest:
        """Return the test by exchange of coins within seats."""
        return membership_test(list(self.scores), list(self.member), self.sites, seed=seed)

    def blind_advantage(self) -> None:
        """Return None: coins know no site."""

    def raw(self) -> dict[str, Raw]:
        """Return the bound in epsilon, its ceiling, and the bound conditional on Gaussian DP."""
        bound = self.bound()
        guessed = f"{bound.correct} of {bound.guesses} guesses right" if bound.method == "one-run" else "threshold from one half"
        family = conditional_bound(list(self.scores), list(self.member), delta=self.delta)
        sides = [(s[m], s[~m]) for s, m in zip(self.scores, self.member, strict=True)]
        area = float(np.mean([auc(*side) for side in sides])) if all(len(x) and len(y) for x, y in sides) else None
        missing = "needs canaries on both sides, and several in each training"
        return {
            "epsilon_lower_bound": Raw(
                value=bound.value, unit=f"{bound.method}, 95 % one-sided, delta {self.delta:g}; {guessed}", n=bound.canaries
            ),
            "epsilon_ceiling": Raw(value=bound.ceiling, unit="the most that a perfect attack could have shown here"),
            "auc": Raw(
                value=area, unit="canaries that were included against those that were not",
                reason="a training included all canaries or none" if area is None else None,
            ),
            "epsilon_if_gaussian": Raw(
                value=family, unit="conditional on Gaussian DP (f-DP); never gating", reason=missing if family is None else None
            ),
        }  # fmt: skip
