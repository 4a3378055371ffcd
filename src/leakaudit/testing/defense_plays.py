"""A seat under a defense of local training, taken out of its protocol and played on streams of randomness of our choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.defenses import Guarantee, Local
from leakaudit.defenses.chain import replaces_training
from leakaudit.engine.places import guard_of
from leakaudit.engine.training import Training
from leakaudit.facts import SeatFacts
from leakaudit.testing.defense_trial import trial_of
from leakaudit.testing.results import UntriedError
from leakaudit.testing.stage import as_in_a_cell
from leakaudit.testing.subject import Subject
from leakaudit.wire import Seat

__all__ = ["Played", "Run", "Stand", "stand_of"]

_UNITS, _ROWS = 4, 2
_LOUD = 1e4
"""How much louder than the others the unit is whose gradient is to be bounded."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training as the defense is told of it: how many steps, and how likely a unit is in one of them."""

    steps: int
    rate: float


@dataclass(frozen=True)
class Played:
    """What a play left: the first step by weight, and the claims after all steps."""

    step: dict[str, Tensor]
    claims: Sequence[Guarantee]


@dataclass(frozen=True)
class Stand:
    """A seat that trains the whole network under the defense, taken out of its protocol."""

    training: Training
    facts: SeatFacts
    claim: str
    unit: str

    def play(self, stream: int, run: Run, *, loud: bool, whole: bool = True) -> Played:
        """Play a run on one stream of randomness: the loud unit is in the first batch, or not, and the others are empty.

        Args:
            stream: Number of the stream.
            run: What is played.
            loud: Whether the loud unit is there.
            whole: Whether to go on after the first step.

        Raises:
            UserError: The defense refuses the setting.
        """
        training = self.training
        seat = Seat(
            self.facts, training.secret.branch("noise check", str(stream)), shared=training.secret.branch("shared"),
            device=training.device, protocol=training.protocol.facts, task=training.task,
        )  # fmt: skip
        guard = guard_of(training.spec["defenses"], seat)
        x, y, patients, weight = self._rows(loud)
        by_patient = training.sampling.unit == "patient"
        units = [patients if by_patient else torch.arange(len(patients))]
        with as_in_a_cell():
            module = guard.adapt(training.task.build().train())
            expected = float(_UNITS if by_patient else _UNITS * _ROWS) if run.rate == 1 else 1.0
            local = guard.train(
                Local(
                    module=module, optimizer=torch.optim.SGD(module.parameters(), lr=1.0), units=lambda: units[0],
                    expected_units=expected, expected_batch=float(_UNITS * _ROWS), rate=run.rate, steps=run.steps,
                    sampling=training.sampling.kind, unit=training.sampling.unit, shape=tuple(x.shape[1:]),
                )
            )  # fmt: skip
            before = _weights(local.module)
            local.optimizer.zero_grad()
            (weight * training.task.loss(local.module(x), y)).mean().backward()
            local.optimizer.step()
            after = _weights(local.module)
            units[0] = torch.zeros(0, dtype=torch.long)
            for _ in range(run.steps - 1 if whole else 0):
                local.optimizer.zero_grad()
                local.optimizer.step()
        claims = [c for c in guard.guarantees() if c.unit != "site"]
        return Played({name: (t - after[name]).double() for name, t in before.items()}, claims)

    def _rows(self, loud: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return images, masks, patient and loudness of each row; without the loud unit where it is not to be there."""
        images = self.training.holdings(self.facts).images
        assert images is not None
        draw, count = torch.Generator().manual_seed(0), _UNITS * _ROWS
        x = torch.randn(count, *images.shape[1:], generator=draw)
        y = (torch.rand(count, 3, *images.shape[2:], generator=draw) > 0.7).float()
        own = torch.arange(count) >= count - (_ROWS if self.unit == "patient" else 1)
        here = torch.ones(count, dtype=torch.bool) if loud else ~own
        return x[here], y[here], (torch.arange(count) // _ROWS)[here], torch.where(own, _LOUD, 1.0)[here]


def _weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("_module."): p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


def stand_of(subject: Subject) -> Stand:
    """Return a seat with a claim about local training.

    Raises:
        UntriedError: There is none.
    """
    trial = trial_of(subject)
    for baseline in trial.baselines:
        training = trial.training(baseline)
        for facts in training.protocol.facts.seats:
            claims = trial.trained[baseline.protocol].guarantees.get(facts.id, ())
            about = [c for c in claims if c.unit != "site"]
            whole = bool(facts.modalities) and facts.labels
            if about and whole and replaces_training(guard_of(training.spec["defenses"], training.seat(facts))):
                return Stand(training, facts, f"{about[0].epsilon:.4g}", about[0].unit)
    raise UntriedError("it claims nothing about the local training of a party that has images and masks")
