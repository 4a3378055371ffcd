"""Endpoints of membership scores: who was a member, of which site, what could be said without the model, and epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError, Scores
from leakaudit.cohorts.cohort import Cohort
from leakaudit.scoring.blind import FOLDS, cross_fitted_scores, intensity_statistics, site_indicators
from leakaudit.scoring.checks import average_by_patient
from leakaudit.threats import Canaries

__all__ = ["Candidates", "score_membership"]

_DIGITS = 6


class Candidates:
    """The candidates of an attack, with what anybody could measure on them.

    Args:
        cohort: Their samples; canaries or patients. None for gradient canaries, which have none.
        coins: Whether each was a member.
        sites: Where each is; None for the sites of the samples.
        canary: What canaries were asked for; None where candidates are patients.
    """

    def __init__(
        self, cohort: Cohort | None, coins: Mapping[str, bool], *, sites: Mapping[str, str] | None = None,
        canary: Canaries | None = None,
    ) -> None:  # fmt: skip
        self._cohort, self.coins, self.canary = cohort, coins, canary
        self.sites = dict(sites) if sites is not None else {s.patient: s.site for s in (cohort.samples if cohort else ())}
        self._blind: dict[str, dict[str, float]] | None = None

    @property
    def units(self) -> list[str]:
        """Units that one canary is: a crafted patient with one sample is one record, too, and a gradient is one of any."""
        if self.canary is None:
            return []
        if self._cohort is None:
            return ["record", "patient"]
        return ["patient"] if len(self._cohort) > len(self._cohort.patients) else ["record", "patient"]

    def blind(self) -> dict[str, dict[str, float]]:
        """Return scores that guess membership without the model, by candidate: of intensity alone, and of the site as well.

        Empty where a side has fewer than two candidates. The result does not depend on the order of candidates.
        """
        if self._blind is None:
            self._blind = {} if self._cohort is None else self._cross_fitted(self._cohort)
        return self._blind

    def _cross_fitted(self, cohort: Cohort) -> dict[str, dict[str, float]]:
        samples = [s.patient for s in cohort.samples]
        keys, found = average_by_patient(intensity_statistics(cohort.images, cohort.brain).T, samples)
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
    """Return the endpoint of scores as plain JSON; areas, bounds and intervals are made when repeats are merged.

    Canaries are nobody: where fair coins put them into training, their scores bound epsilon instead of telling members.

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
    found = {
        "patients": patients, "score": [float(v) for v in np.asarray(piece.scores)],
        "member": [bool(candidates.coins[p]) for p in patients], "site": [candidates.sites[p] for p in patients],
    }  # fmt: skip
    if candidates.canary is not None and candidates.canary.fair:
        return {"name": "epsilon", **found, "units": candidates.units}
    blind = candidates.blind() if shown else {}
    return {"name": "membership", **found, **{name: [scores[p] for p in patients] for name, scores in blind.items()}}
