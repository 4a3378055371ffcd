"""`membership-loss`: patients on whom the model's loss is low were more likely trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Scores, View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.wire import Message
from leakaudit_membership.calibration import Floats, without_site, without_volume
from leakaudit_membership.params import MembershipLossParams
from leakaudit_membership.signals import cross_entropy, dice_loss

__all__ = ["MembershipLoss"]

_CHUNK = 32
"""Samples scored at once."""


class MembershipLoss(Attack[MembershipLossParams]):
    """Loss threshold attack (Yeom et al., CSF 2018) on a segmentation model, with the patient as the unit."""

    def run(self, view: View) -> Scores:
        """Return one score per candidate patient: minus the mean loss over the patient's samples; higher means member.

        Raises:
            UserError: The view holds no candidates.
        """
        candidates = view.candidates
        if candidates is None:
            raise UserError("membership-loss decides between candidate patients, and the view holds none")
        wanted = {t.token for t in view.targets if t.kind == "candidate"}
        losses: dict[str, list[float]] = defaultdict(list)
        samples = _Samples(candidates)
        for message in view.messages(channel="output"):
            for token, loss in self._losses(view, candidates, message, samples):
                if token in wanted:
                    losses[token].append(loss)
        about = tuple(t.token for t in view.targets if t.token in losses)
        scores = -np.array([np.mean(losses[token]) for token in about], dtype=np.float64)
        calibrated = self._calibrated(scores, about, candidates)
        return Scores(name="loss", channel="output", about=about, scores=calibrated.astype(np.float32))

    def _losses(self, view: View, candidates: Cohort, message: Message, samples: _Samples) -> Iterator[tuple[str, float]]:
        """Yield the patient and the loss of every row of one message."""
        places = [(i, samples.next(token)) for i, token in enumerate(message.samples) if token in samples.rows]
        for start in range(0, len(places), _CHUNK):
            rows, index = (list(column) for column in zip(*places[start : start + _CHUNK], strict=True))
            logits = message.tensors["logits"][rows].to(view.device).float()
            masks = torch.from_numpy(regions(np.asarray(candidates.labels[index]))).to(view.device)
            brain = torch.from_numpy(np.asarray(candidates.brain[index], dtype=np.float32)).unsqueeze(1).to(view.device)
            values = self._signal(view, logits, masks, brain).cpu().tolist()
            yield from zip((message.samples[i] for i in rows), values, strict=True)

    def _signal(self, view: View, logits: Tensor, masks: Tensor, brain: Tensor) -> Tensor:
        match self.params.signal:
            case "cross-entropy":
                return cross_entropy(logits, masks, brain)
            case "dice":
                return dice_loss(logits, masks, brain)
            case _:
                return view.task.loss(logits, masks)

    def _calibrated(self, scores: Floats, about: tuple[str, ...], candidates: Cohort) -> Floats:
        rows = _Samples(candidates).rows
        if "volume" in self.params.calibrate:
            tumor = [np.mean([np.count_nonzero(candidates.labels[i]) for i in rows[token]]) for token in about]
            scores = without_volume(scores, np.array(tumor))
        if "site" in self.params.calibrate:
            scores = without_site(scores, [candidates.samples[rows[token][0]].site for token in about])
        return scores


class _Samples:
    """Finds the sample behind a row of an answer: a patient's rows come in the order of its samples, again and again.

    Args:
        cohort: The candidates.

    Attributes:
        rows: Indices of each patient's samples.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.rows: dict[str, list[int]] = defaultdict(list)
        for i, sample in enumerate(cohort.samples):
            self.rows[sample.patient].append(i)
        self._seen: dict[str, int] = defaultdict(int)

    def next(self, patient: str) -> int:
        """Return the index of the patient's next sample."""
        place = self._seen[patient] % len(self.rows[patient])
        self._seen[patient] += 1
        return self.rows[patient][place]
