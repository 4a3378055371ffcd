"""`membership-loss`: patients on whom the model's loss is low were more likely trained on."""

from __future__ import annotations

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import Cohort
from leakaudit.errors import UserError
from leakaudit_membership.calibration import Floats, without_site, without_volume
from leakaudit_membership.gauge import Gauge, Samples, in_order
from leakaudit_membership.params import MembershipLossParams

__all__ = ["MembershipLoss"]


class MembershipLoss(Attack[MembershipLossParams]):
    """Loss threshold attack (Yeom et al., CSF 2018) on a segmentation model, with the patient as the unit.

    Who sees the model of every round averages the loss over the last of them (Nasr, Shokri and Houmansadr, S&P 2019,
    arXiv 1812.00910, on what an adversary inside of federated learning gains by observing rounds).
    """

    def run(self, view: View) -> Scores:
        """Return one score per candidate patient: minus the mean loss over the patient's samples; higher means member.

        Raises:
            UserError: The view holds no candidates.
        """
        candidates = view.candidates
        if candidates is None:
            raise UserError("membership-loss decides between candidate patients, and the view holds none")
        losses = Gauge(view, candidates, self.params.signal).of(view, self.params.rounds)
        about = tuple(t.token for t in view.targets if t.kind == "candidate" and t.token in losses)
        calibrated = self._calibrated(-in_order(losses, about), about, candidates)
        return Scores(name="loss", channel=view.threat.channels[0], about=about, scores=calibrated.astype(np.float32))

    def _calibrated(self, scores: Floats, about: tuple[str, ...], candidates: Cohort) -> Floats:
        rows = Samples(candidates).rows
        if "volume" in self.params.calibrate:
            tumor = [np.mean([np.count_nonzero(candidates.labels[i]) for i in rows[token]]) for token in about]
            scores = without_volume(scores, np.array(tumor))
        if "site" in self.params.calibrate:
            scores = without_site(scores, [candidates.samples[rows[token][0]].site for token in about])
        return scores
