"""`membership-loss-map`: a classifier learns on shadow models what the loss map of a training patient looks like."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import Cohort
from leakaudit_membership.calibration import Floats
from leakaudit_membership.classifier import Logistic, fit_over_shadows
from leakaudit_membership.gauge import Averages, in_order
from leakaudit_membership.maps import loss_map
from leakaudit_membership.params import MembershipLossMapParams
from leakaudit_membership.shadows import candidates_of, membership, owned_of, shadow_signals

__all__ = ["MembershipLossMap"]


class MembershipLossMap(Attack[MembershipLossMapParams]):
    """Structured loss attack (He et al., ECCV 2020) on a segmentation model, with the patient as the unit.

    Features of a patient are the mean over its samples; as the log odds are linear in them, this is the mean of the samples' log
    odds. In place of the paper's deep classifier, a logistic regression on pooled maps learns from few shadow models: online
    from the candidates that each was trained on or not, offline from the adversary's own patients, none of them a candidate.
    """

    _fitted: tuple[Logistic, Floats] | None = None

    def fit(self, view: View) -> None:
        """Learn to tell the patients that shadow models were trained on from the others, by their loss maps.

        Raises:
            UserError: The view holds no candidates or no shadow models, or offline no patients of the adversary's own.
        """
        candidates, tokens = candidates_of(view, "membership-loss-map")
        maps = shadow_signals(view, self._maps(view, candidates), tokens)
        inside, usual = membership(view, tokens), self._usual(maps, membership(view, tokens))
        if self.params.mode == "online":
            self._fitted = fit_over_shadows(maps - usual, inside), usual
            return
        owned, mine = owned_of(view, "membership-loss-map")
        known, within = shadow_signals(view, self._maps(view, owned), mine), membership(view, mine)
        self._fitted = fit_over_shadows(known - self._usual(known, within), within), usual

    def _usual(self, maps: Floats, inside: NDArray[np.bool_]) -> Floats:
        """Return each patient's mean map, (patients, features): over all shadow models, or offline over those without it."""
        if self.params.difficulty == "keep":
            return np.zeros_like(maps[0])
        if self.params.mode == "online":
            return np.asarray(maps.mean(axis=0))
        return np.asarray(np.nanmean(np.where(inside[..., None], np.nan, maps), axis=0))

    def run(self, view: View) -> Scores:
        """Return one score per candidate patient: the log odds of being a member.

        Raises:
            UserError: The view holds no candidates or no shadow models.
        """
        candidates, tokens = candidates_of(view, "membership-loss-map")
        if self._fitted is None:
            self.fit(view)
        assert self._fitted is not None
        classifier, usual = self._fitted
        scores = classifier(in_order(self._maps(view, candidates).answered(view), tokens) - usual)
        return Scores(name="loss-map", channel="output", about=tokens, scores=scores.astype(np.float32))

    def _maps(self, view: View, candidates: Cohort) -> Averages:
        measure = partial(loss_map, grid=self.params.grid, confidence=self.params.confidence)
        return Averages(candidates, measure, view.device)
