"""Endpoint of membership scores: who was a member, of which site, and what could be said without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError, Scores
from leakaudit.cohorts.cohort import Cohort
from leakaudit.scoring.blind import FOLDS, cross_fitted_scores, intensity_statistics, site_indicators
from leakaudit.scoring.checks import average_by_patient

__all__ = ["Candidates", "score_membership"]

_DIGITS = 6


class Candidates:
    """The candidates of an attack, with what anybody could measure on them.

    Args:
        cohort: Their samples; canaries or patients.
        coins: Whether each was a member.
    """

    def __init__(self, cohort: Cohort, coins: Mapping[str, bool]) -> None:
        self._cohort, self.coins = cohort, coins
        self.sites = {s.patient: s.site for s in cohort.samples}
        self._blind: dict[str, dict[str, float]] | None = None

    def blind(self) -> dict[str, dict[str, float]]:
        """Return scores that guess membership without the model, by candidate: of intensity alone, and of the site as well.

        Empty where a side has fewer than two candidates. The result does not depend on the order of candidates.
        """
        if self._blind is None:
            self._blind = self._cross_fitted()
        return self._blind

    def _cross_fitted(self) -> dict[str, dict[str, float]]:
        samples = [s.patient for s in self._cohort.samples]
        keys, found = average_by_patient(intensity_statistics(self._cohort.images, self._cohort.brain).T, samples)
        order = sorted((p for p in keys if p in self.coins), key=str)
        member = np.array([self.coins[p] for p in order])
        fewest = int(min(member.sum(), (~member).sum()))
        if fewest < 2:
            return {}
        features = found.T[[keys.index(p) for p in order]]
        sites = [self.sites[p] for p in order]
        both = np.concatenate([features, site_indicators(sites)], axis=1)
        folds = min(FOLDS, fewest)
        alone, pooled = (cross_fitted_scores(x, member, sites, folds=folds)[0] for x in (features, both))
        return {
            "blind": dict(zip(order, np.round(alone, _DIGITS).tolist(), strict=True)),
            "blind_pooled": dict(zip(order, np.round(pooled, _DIGITS).tolist(), strict=True)),
        }


def score_membership(piece: Scores, tokens: Mapping[str, str], candidates: Candidates, *, shown: bool = True) -> dict[str, Any]:
    """Return the membership endpoint of scores as plain JSON; areas and intervals are made when repeats are merged.

    Args:
        piece: The scores.
        tokens: Candidate behind each token.
        candidates: The candidates.
        shown: Whether the blind baseline is wanted, too.

    Raises:
        EvidenceError: A token is unknown.
    """
    unknown: Sequence[str] = [t for t in piece.about if t not in tokens]
    if unknown:
        raise EvidenceError(f"evidence {piece.name!r} is about {len(unknown)} candidates that were never in the view")
    patients = [tokens[t] for t in piece.about]
    blind = candidates.blind() if shown else {}
    return {
        "name": "membership", "patients": patients, "score": [float(v) for v in np.asarray(piece.scores)],
        "member": [bool(candidates.coins[p]) for p in patients], "site": [candidates.sites[p] for p in patients],
        **{name: [scores[p] for p in patients] for name, scores in blind.items()},
    }  # fmt: skip
