"""`membership-loss-map`: a classifier learns on shadow models what the loss map of a training patient looks like."""

from __future__ import annotations

from functools import partial

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import Cohort
from leakaudit_membership.calibration import Floats
from leakaudit_membership.classifier import Logistic, fit_over_shadows
from leakaudit_membership.gauge import Averages, in_order
from leakaudit_membership.maps import loss_map
from leakaudit_membership.params import MembershipLossMapParams
from leakaudit_membership.shadows import candidates_of, membership, shadow_signals

__all__ = ["MembershipLossMap"]


class MembershipLossMap(Attack[MembershipLossMapParams]):
    """Structured loss attack (He et al., ECCV 2020) on a segmentation model, with the patient as the unit.

    Features of a patient are the mean over its samples; as the log odds are linear in them, this is the mean of the samples' log
    odds. In place of the paper's deep classifier, a logistic regression on pooled maps learns from few shadow models.
    """

    _fitted: tuple[Logistic, Floats] | None = None

    def fit(self, view: View) -> None:
        """Learn to tell the candidates that shadow models were trained on from the others, by their loss maps.

        Raises:
            UserError: The view holds no candidates or no shadow models.
        """
        candidates, tokens = candidates_of(view, "membership-loss-map")
        maps = shadow_signals(view, self._maps(view, candidates), tokens)
        usual = maps.mean(axis=0) if self.params.difficulty == "remove" else np.zeros_like(maps[0])
        self._fitted = fit_over_shadows(maps - usual, membership(view, tokens)), usual

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
