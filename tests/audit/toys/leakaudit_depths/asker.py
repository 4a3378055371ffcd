"""A toy of membership: the loss of the deployed model on a candidate, or nothing."""

from __future__ import annotations

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import regions
from leakaudit_depths.params import Asking


class Asker(Attack[Asking]):
    def run(self, view: View) -> Scores:
        cohort = view.candidates
        assert cohort is not None
        about = tuple(t.token for t in view.targets if t.kind == "candidate")
        scores = dict.fromkeys(about, 0.0)
        for message in view.messages(channel="output"):
            rows = [i for i, s in enumerate(cohort.samples) if s.patient == message.samples[0]]
            signs = 2 * regions(np.asarray(cohort.labels[rows])) - 1
            if self.params.way == "loss":
                scores[message.samples[0]] = -float(np.logaddexp(0, -message.tensors["logits"].numpy() * signs).mean())
        return Scores(
            name="candidates", channel="output", about=about, scores=np.array([scores[t] for t in about], dtype=np.float32)
        )
