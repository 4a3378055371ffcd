"""`membership-lira`: is the model's confidence on a patient that of models trained with the patient, or without?"""

from __future__ import annotations

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit_membership.calibration import Floats
from leakaudit_membership.gauge import Gauge, in_order
from leakaudit_membership.likelihood import lira
from leakaudit_membership.params import MembershipLiraParams
from leakaudit_membership.shadows import candidates_of, logit_confidence, membership, shadow_signals

__all__ = ["MembershipLira"]


class MembershipLira(Attack[MembershipLiraParams]):
    """Likelihood ratio attack (Carlini et al., S&P 2022) on a segmentation model, with the patient as the unit.

    The signal of a patient is the mean over its samples of log(p / (1 - p)), p = exp(-loss). Who sees the model of every round
    averages it over the last of them; shadow models are compared as they are at their end.
    """

    _shadows: Floats | None = None

    def fit(self, view: View) -> None:
        """Ask the shadow models about all candidates; the shuffled answers need not do it again."""
        candidates, tokens = candidates_of(view, "membership-lira")
        self._shadows = shadow_signals(view, Gauge(view, candidates, self.params.signal, logit_confidence), tokens)

    def run(self, view: View) -> Scores:
        """Return one score per candidate patient; higher means member.

        Raises:
            UserError: The view holds no candidates or no shadow models.
        """
        candidates, tokens = candidates_of(view, "membership-lira")
        if self._shadows is None:
            self.fit(view)
        assert self._shadows is not None
        gauge = Gauge(view, candidates, self.params.signal, logit_confidence)
        target = in_order(gauge.of(view, self.params.rounds), tokens)
        scores = lira(
            target, self._shadows, membership(view, tokens), online=self.params.mode == "online", variance=self.params.variance
        )
        return Scores(name="lira", channel=view.threat.channels[0], about=tokens, scores=scores.astype(np.float32))
