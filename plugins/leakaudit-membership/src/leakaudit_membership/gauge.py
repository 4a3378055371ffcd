"""What a model's answers say of each patient: the mean of a loss, or of something made of it, over the patient's samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.wire import Message
from leakaudit_membership.calibration import Floats
from leakaudit_membership.params import Signal
from leakaudit_membership.signals import cross_entropy, dice_loss

__all__ = ["Averages", "Gauge", "Samples", "in_order", "models_seen", "plain"]

_CHUNK = 32
"""Samples scored at once."""

Values = float | list[float]
"""One number, or one row of features."""

Reading = Callable[[Tensor], Tensor]
"""What is made of a loss per sample before patients are averaged."""

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits, region masks and brain masks to one number, or one row of features, per sample: (n,) or (n, features)."""


def plain(loss: Tensor) -> Tensor:
    """Return the loss itself."""
    return loss


class Samples:
    """Finds the sample behind a row of an answer: a patient's rows come in the order of its samples, again and again.

    Args:
        cohort: The patients.

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


class Averages:
    """Measures patients of one cohort.

    Args:
        cohort: The patients, with masks.
        measure: What is averaged over a patient's samples.
        device: Where it is computed.
    """

    def __init__(self, cohort: Cohort, measure: Measure, device: torch.device) -> None:
        self._cohort, self._measure, self._device = cohort, measure, device

    def answered(self, view: View) -> dict[str, Floats]:
        """Return the mean of every patient that the deployed model was asked about, from what it answered."""
        found: dict[str, list[Values]] = defaultdict(list)
        samples = Samples(self._cohort)
        for message in view.messages(channel="output"):
            self._message(message, samples, found)
        return {token: np.asarray(np.mean(values, axis=0)) for token, values in found.items()}

    def predicted(self, network: nn.Module) -> dict[str, Floats]:
        """Return the mean of every patient, from what a network of the adversary's own says."""
        found: dict[str, list[Values]] = defaultdict(list)
        for start in range(0, len(self._cohort), _CHUNK):
            index = list(range(start, min(start + _CHUNK, len(self._cohort))))
            x = torch.from_numpy(np.array(self._cohort.images[index])).to(self._device)
            with torch.no_grad():
                values = self._values(network(x), index)
            for i, value in zip(index, values, strict=True):
                found[self._cohort.samples[i].patient].append(value)
        return {token: np.asarray(np.mean(values, axis=0)) for token, values in found.items()}

    def of(self, view: View, rounds: int) -> dict[str, Floats]:
        """Return the mean of every patient, from answers where the adversary sees them, else from models that it sees itself.

        Args:
            view: What the adversary has.
            rounds: Over how many of the last models that crossed the wire the means are averaged.
        """
        if "model" not in view.threat.channels:
            return self.answered(view)
        means = [self.predicted(network) for network in models_seen(view, rounds)]
        return {token: np.asarray(np.mean([m[token] for m in means], axis=0)) for token in means[0]}

    def _message(self, message: Message, samples: Samples, found: dict[str, list[Values]]) -> None:
        places = [(i, samples.next(token)) for i, token in enumerate(message.samples) if token in samples.rows]
        for start in range(0, len(places), _CHUNK):
            rows, index = (list(column) for column in zip(*places[start : start + _CHUNK], strict=True))
            logits = message.tensors["logits"][rows].to(self._device)
            for i, value in zip(rows, self._values(logits, index), strict=True):
                found[message.samples[i]].append(value)

    def _values(self, logits: Tensor, index: Sequence[int]) -> list[Values]:
        masks = torch.from_numpy(regions(np.asarray(self._cohort.labels[index]))).to(self._device)
        brain = torch.from_numpy(np.asarray(self._cohort.brain[index], dtype=np.float32)).unsqueeze(1).to(self._device)
        values: list[Values] = self._measure(logits.float(), masks, brain).cpu().tolist()
        return values


def models_seen(view: View, rounds: int) -> Iterator[nn.Module]:
    """Yield the last models that crossed the wire, as networks; never the one that training begins with, which tells nothing.

    Args:
        view: What the adversary has.
        rounds: How many models, or as many as there are.

    Raises:
        UserError: None crossed.
    """
    places = dict.fromkeys((m.round, m.step) for m in view.messages(channel="model"))
    wanted = sorted(place for place in places if place != (0, 0))[-rounds:]
    if not wanted:
        raise UserError("the view holds no model of a later round than the first; train for more rounds")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of weights that are replaced at once
        network = view.task.build().to(view.device).eval()
    for round_, step in wanted:
        # Every site receives the same model.
        message = next(view.messages(channel="model", round=round_, step=step))
        network.load_state_dict({k: t.to(view.device) for k, t in message.tensors.items()})
        yield network


class Gauge(Averages):
    """Measures patients of one cohort by a loss: one number each.

    Args:
        view: Where the task comes from, if its loss is the signal, and the device.
        cohort: The patients, with masks.
        signal: The loss.
        reading: What is averaged over a patient's samples.
    """

    def __init__(self, view: View, cohort: Cohort, signal: Signal, reading: Reading = plain) -> None:
        super().__init__(cohort, lambda *answer: reading(self._loss(*answer)), view.device)
        self._signal = signal
        self._task = view.task if signal == "task" else None

    def _loss(self, logits: Tensor, masks: Tensor, brain: Tensor) -> Tensor:
        match self._signal:
            case "cross-entropy":
                return cross_entropy(logits, masks, brain)
            case "dice":
                return dice_loss(logits, masks, brain)
            case _:
                assert self._task is not None
                return self._task.loss(logits, masks)


def in_order(values: Mapping[str, Floats], tokens: Sequence[str]) -> Floats:
    """Return the means of some patients, shape (patients,) or (patients, features).

    Raises:
        KeyError: One has none.
    """
    return np.array([values[token] for token in tokens], dtype=np.float64)
