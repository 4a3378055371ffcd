"""The candidates of a view: whose membership is asked, and what the deployed model answers for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from leakaudit.attacks.contents import save_cohort
from leakaudit.cohorts.cohort import Cohort, Origin
from leakaudit.engine.adversary import Sources, owned_cohort
from leakaudit.engine.exchanged import rotation
from leakaudit.engine.training import Training
from leakaudit.threats import ThreatModel
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Secret

__all__ = ["REAL", "SHUFFLED", "AskedCandidates"]

REAL, SHUFFLED = "messages", "messages-shuffled"
"""Names of a view's message sets: as they crossed the wire, and with whole patients exchanged."""


class AskedCandidates:
    """Candidates as one adversary sees them.

    Args:
        training: The training.
        threat: The adversary.
        sources: Where candidates and answers come from.
        secret: The attack's branch of randomness; tokens are salted with it.

    Attributes:
        tokens: Candidate behind each token.
    """

    def __init__(self, training: Training, threat: ThreatModel, sources: Sources, secret: Secret) -> None:
        self._training, self._threat, self._sources, self._secret = training, threat, sources, secret
        salt, cohort = secret.branch("tokens"), sources.candidates
        # An order that says nothing about membership.
        self._order = [] if cohort is None else sorted(cohort.patients, key=lambda p: salt.token(f"order-{p}"))
        self.tokens = {salt.token(f"candidate-{p}"): p for p in self._order}

    def sizes(self) -> dict[str, int]:
        """Return the number of samples of each candidate."""
        return {} if self._sources.candidates is None else {p: len(r) for p, r in _rows(self._sources.candidates).items()}

    def answers(self, *, shuffled: bool) -> list[Message]:
        """Return the deployed model's answers on the candidates, one message each, and on patients of the adversary's own.

        Args:
            shuffled: Whether each candidate gets another one's answers.
        """
        cohort, outputs = self._sources.candidates, self._sources.outputs
        if cohort is None or outputs is None or "output" not in self._threat.channels:
            return []
        rows = _rows(cohort)
        shown = self._exchange(cohort) if shuffled else {p: p for p in self._order}
        names = {p: t for t, p in self.tokens.items()}
        found = [(names[p], outputs[rows[shown[p]]]) for p in self._order] + self._own_answers()
        return [
            Message(
                channel="output", sender="model", receiver="outsider", round=-1, step=i,
                tensors={"logits": torch.from_numpy(logits)}, samples=(token,) * len(logits),
            )
            for i, (token, logits) in enumerate(found)
        ]  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write the candidates into a view, under their tokens, and without masks where these are not granted."""
        cohort = self._sources.candidates
        if cohort is None:
            return
        names, rows = {p: t for t, p in self.tokens.items()}, _rows(cohort)
        order = [i for p in self._order for i in rows[p]]
        samples = tuple(replace(cohort.samples[i], patient=names[cohort.samples[i].patient]) for i in order)
        shown = replace(cohort.take(order), samples=samples, origin=Origin(dataset=""), canaries={}, dots={})
        if "labels" not in self._threat.knows:
            shown = replace(shown, labels=np.zeros_like(shown.labels))
        save_cohort(folder / "candidates", shown)
        if "model" in self._threat.channels and "output" not in self._threat.channels:
            # Nobody answers for candidates: the adversary asks models that it has seen, and so it is given other images to ask.
            goes = self._exchange(cohort)
            images = np.ascontiguousarray(cohort.images[[i for p in self._order for i in rows[goes[p]]]])
            save_cohort(folder / f"candidates-of-{SHUFFLED}", replace(shown, images=images))

    def _exchange(self, cohort: Cohort) -> dict[str, str]:
        return rotation(self._order, _rows(cohort), self._secret.branch("shuffle").seed())

    def _own_answers(self) -> list[tuple[str, NDArray[np.float32]]]:
        """Return the answers on what the adversary owns, by its own tokens: never exchanged, it knows whom it asked about."""
        owned = owned_cohort(self._training, self._threat.auxiliary, self._secret)
        if owned is None or self._sources.own_outputs is None:
            return []
        return [(token, self._sources.own_outputs[places]) for token, places in _rows(owned).items()]


def _rows(cohort: Cohort) -> dict[str, list[int]]:
    """Return the rows of each patient."""
    rows: dict[str, list[int]] = {}
    for i, s in enumerate(cohort.samples):
        rows.setdefault(s.patient, []).append(i)
    return rows
