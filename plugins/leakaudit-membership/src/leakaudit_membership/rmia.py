"""`membership-rmia`: does the model favor a patient over most patients of a population, compared with other models?"""

from __future__ import annotations

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import Cohort
from leakaudit_membership.calibration import Floats
from leakaudit_membership.gauge import Gauge, in_order
from leakaudit_membership.likelihood import expected_probability, pairwise
from leakaudit_membership.params import MembershipRmiaParams
from leakaudit_membership.shadows import candidates_of, membership, owned_of, shadow_signals

__all__ = ["MembershipRmia"]


class MembershipRmia(Attack[MembershipRmiaParams]):
    """Robust membership inference (Zarifzadeh, Liu and Shokri, ICML 2024), with the patient as the unit.

    The probability of a patient is exp(-mean loss over its samples). The population are the adversary's own patients, none of whom
    the deployed model was trained on. As the view says which shadow models were trained on each of them, P(z) is made as P(x) is:
    online from models with and without, offline from those without alone, corrected alike.
    """

    _expected: tuple[Floats, Floats, tuple[str, ...]] | None = None

    def fit(self, view: View) -> None:
        """Ask the shadow models about all candidates and the whole population.

        Raises:
            UserError: The adversary owns no patients.
        """
        candidates, tokens = candidates_of(view, "membership-rmia")
        owned, population = owned_of(view, "membership-rmia")
        self._expected = self._of(view, candidates, tokens), self._of(view, owned, population), population

    def _of(self, view: View, cohort: Cohort, tokens: tuple[str, ...]) -> Floats:
        """Return P of some patients."""
        probabilities = np.exp(-shadow_signals(view, Gauge(view, cohort, self.params.signal), tokens))
        return expected_probability(probabilities, membership(view, tokens), online=self.params.mode == "online", a=self.params.a)

    def run(self, view: View) -> Scores:
        """Return one score per candidate patient: the share of the population it dominates; higher means member."""
        candidates, tokens = candidates_of(view, "membership-rmia")
        if self._expected is None:
            self.fit(view)
        assert self._expected is not None
        assert view.auxiliary is not None
        expected, expected_population, population = self._expected
        p = np.exp(-in_order(Gauge(view, candidates, self.params.signal).answered(view), tokens))
        q = np.exp(-in_order(Gauge(view, view.auxiliary, self.params.signal).answered(view), population))
        scores = pairwise(p / expected, q / expected_population, self.params.gamma)
        return Scores(name="rmia", channel="output", about=tokens, scores=scores.astype(np.float32))
