"""Membership of one pairing over its repeats: areas within sites, rates, the permutation test and the blind baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.engine.raw import Raw
from leakaudit.engine.scored_candidates import ScoredCandidates
from leakaudit.scoring.blind import blind_advantage
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.intervals import Interval, with_repeats
from leakaudit.scoring.membership import StratifiedAuc, auc, membership_test, stratified_auc
from leakaudit.scoring.permutation import ShuffleTest
from leakaudit.scoring.rates import clopper_pearson, newcombe_auc
from leakaudit.scoring.thresholds import best_threshold, cross_fitted_counts, cross_folds, resolvable_from, threshold_at_fpr

__all__ = ["FEWEST", "MembershipTables"]

FEWEST = 5
"""Below this many patients only values are shown, no intervals."""

_FOLDS = 10
_LOW_RATES = {"1": 0.01, "0_1": 0.001}


@dataclass(frozen=True, kw_only=True)
class MembershipTables:
    """Scores of all candidates in each repeat.

    Attributes:
        patients: Candidates, sorted.
        sites: Site of each.
        scores: Larger means member, (repeats, candidates).
        member: Whether each was a member, of the same shape; canaries are tossed anew in every repeat.
        blind: Scores that guess membership without the model, of the same shape; None where there are none.
        blind_pooled: The same, with the site.
    """

    patients: tuple[str, ...]
    sites: tuple[str, ...]
    scores: Floats
    member: NDArray[np.bool_]
    blind: Floats | None = None
    blind_pooled: Floats | None = None

    @classmethod
    def of(cls, repeats: Sequence[Mapping[str, Any]]) -> MembershipTables:
        """Return the tables of the score cells' endpoints, one for each repeat."""
        scored = ScoredCandidates(repeats)
        blind = all("blind" in e for e in repeats)
        return cls(
            patients=scored.patients, sites=scored.sites, scores=scored.rows("score"),
            member=scored.rows("member").astype(bool),
            blind=scored.rows("blind") if blind else None, blind_pooled=scored.rows("blind_pooled") if blind else None,
        )  # fmt: skip

    @property
    def n(self) -> int:
        """Candidates of the smaller side, in the repeat that has fewest."""
        return int(min(min(m.sum(), (~m).sum()) for m in self.member))

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Sites that have members and others in every repeat."""
        names = sorted(set(self.sites), key=str)
        here = {s: np.array([s == site for site in self.sites]) for s in names}
        return tuple(s for s in names if all((m & here[s]).any() and (~m & here[s]).any() for m in self.member))

    @property
    def strata(self) -> tuple[str, ...]:
        """Stratum of each candidate: its site, or one for all where no site has both kinds."""
        return self.sites if self.shared else ("all",) * len(self.sites)

    def within(self, level: float = 0.95) -> list[StratifiedAuc]:
        """Return the area within sites of each repeat."""
        return [stratified_auc(s, m, self.strata, level=level) for s, m in zip(self.scores, self.member, strict=True)]

    def advantages(self) -> list[float]:
        """Return 2 AUC - 1 within sites of each repeat."""
        return [2 * found.value - 1 for found in self.within()]

    @property
    def value(self) -> float:
        """Mean advantage over repeats."""
        return float(np.mean(self.advantages()))

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval of the mean advantage over candidates and repeats."""
        return with_repeats(self.advantages(), _mean_interval([found.leakage for found in self.within(level)]))

    def test(self, seed: int) -> ShuffleTest:
        """Return the test by exchange of memberships within sites."""
        return membership_test(list(self.scores), list(self.member), self.strata, seed=seed)

    def blind_advantage(self) -> tuple[float, Interval | None] | None:
        """Return what the blind baseline reaches on the same comparison, and its interval.

        Within sites it knows intensities only; where no site has both kinds, the site tells too, and is used. None where it
        was not computed; no interval below 5 patients.
        """
        scores = self.blind if self.shared else self.blind_pooled
        if scores is None:
            return None
        found = [blind_advantage(s, m, self.strata) for s, m in zip(scores, self.member, strict=True)]
        values = [value for value, _ in found]
        interval = with_repeats(values, _mean_interval([i for _, i in found])) if self.n >= FEWEST else None
        return float(np.mean(values)), interval

    def raw(self) -> dict[str, Raw]:
        """Return areas, balanced accuracy and the true positive rate at low false positive rates."""
        n = self.n
        pairs = list(zip(self.scores, self.member, strict=True))
        within, pooled = [found.value for found in self.within()], [auc(s[m], s[~m]) for s, m in pairs]
        sides = [(int(m.sum()), int((~m).sum())) for m in self.member]
        pooled_ci = _mean_interval([newcombe_auc(a, *side) for a, side in zip(pooled, sides, strict=True)])
        found = {
            "auc_within_sites": _raw(within, n, _mean_interval([f.interval for f in self.within()]), "0.5 by guessing"),
            "auc": _raw(pooled, n, pooled_ci, "members of all sites against others of all sites"),
            "sites_compared": Raw(value=float(len(self.shared)), unit="with members and others; 0: compared over all sites"),
        }  # fmt: skip
        if self.blind_pooled is not None:
            blind = [blind_advantage(s, m, ("all",) * len(s)) for s, m in zip(self.blind_pooled, self.member, strict=True)]
            both = _mean_interval([Interval((i.low + 1) / 2, (i.high + 1) / 2, i.method, i.level) for _, i in blind])
            found["auc_blind"] = _raw([(v + 1) / 2 for v, _ in blind], n, both, "of site and intensities alone, over all sites")
        return found | self._rates()

    def _rates(self) -> dict[str, Raw]:
        others = int((~self.member).sum(axis=1).min())
        found: dict[str, Raw] = {}
        if self.n < 2:
            found["balanced_accuracy"] = Raw(value=None, reason="not resolvable: a threshold from other patients needs 2 a side")
        else:
            hits, false = self._counts(best_threshold)
            values = [float(v) for v in (hits + 1 - false) / 2]
            found["balanced_accuracy"] = _raw(values, self.n, None, "threshold from other patients")
        for label, rate in _LOW_RATES.items():
            need = resolvable_from(rate)
            if others < need or self.n < 2:
                why = f"not resolvable: needs {need:,} non-members; there are {others:,} non-members"
                found[f"tpr_at_{label}_percent_fpr"] = Raw(value=None, reason=why)
                continue
            hits, false = self._counts(partial(_low_threshold, rate))
            inside = int(self.member.sum(axis=1).min())
            unit = f"of members; threshold for {100 * rate:g} % from other non-members"
            found[f"tpr_at_{label}_percent_fpr"] = _rate(hits, inside, unit)
            found[f"fpr_reached_at_{label}_percent"] = _rate(false, others, "of non-members at those thresholds")
        return found

    def _counts(self, choose: Callable[[Floats, Floats], float]) -> tuple[Floats, Floats]:
        """Return true and false positive rate of each repeat, at thresholds chosen on other candidates."""
        rates = []
        for scores, member in zip(self.scores, self.member, strict=True):
            fold = cross_folds(member, self.sites, min(_FOLDS, int(min(member.sum(), (~member).sum()))))
            hits, false = cross_fitted_counts(scores, member, fold, choose)
            rates.append((hits / member.sum(), false / (~member).sum()))
        found = np.array(rates)
        return found[:, 0], found[:, 1]


def _low_threshold(rate: float, _: Floats, others: Floats) -> float:
    return threshold_at_fpr(others, rate)


def _mean_interval(found: Sequence[Interval]) -> Interval:
    """Return the mean of intervals of the same candidates in several repeats."""
    low, high = float(np.mean([i.low for i in found])), float(np.mean([i.high for i in found]))
    return Interval(low, high, found[0].method, found[0].level)


def _raw(values: Sequence[float], n: int, interval: Interval | None, unit: str) -> Raw:
    stated = None if interval is None or n < FEWEST else _within_bounds(with_repeats(values, interval))
    return Raw(value=float(np.mean(values)), unit=unit, n=n, interval=stated)


def _rate(rates: Floats, n: int, unit: str) -> Raw:
    """Return a rate with its Clopper-Pearson interval, widened by the spread of repeats."""
    mean = float(rates.mean())
    interval = with_repeats(rates, clopper_pearson(min(mean * n, n), n))
    return Raw(value=mean, unit=unit, n=n, interval=_within_bounds(interval))


def _within_bounds(interval: Interval) -> Interval:
    return Interval(max(interval.low, 0.0), min(interval.high, 1.0), interval.method, interval.level)
