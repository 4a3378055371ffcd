from __future__ import annotations

import numpy as np

from leakaudit.attacks import Attack, Scores, View
from leakaudit_shades.params import Comparing


class Shades(Attack[Comparing]):
    """Scores a candidate by the size of the weights of those shadow models that it is in: a number, and no sense."""

    def run(self, view: View) -> Scores:
        tokens = tuple(t.token for t in view.targets if t.kind == "candidate")
        scores = np.zeros(len(tokens), dtype=np.float32)
        for shadow in view.shadows if self.params.looks else ():
            size = sum(float(t.abs().sum()) for t in shadow.state.values())
            scores += np.array([size if t in shadow.members else 0.0 for t in tokens], dtype=np.float32)
        return Scores(name="shades", channel="output", about=tokens, scores=scores)
