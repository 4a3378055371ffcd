"""What one message carries about an image where a defense's noise has a closed form: diagonal Fisher information leakage."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leakaudit.defenses.base import Defense
from leakaudit.engine.places import guard_of
from leakaudit.engine.training import Trained, Training
from leakaudit.facts import SeatFacts
from leakaudit.models.task import Tensors
from leakaudit.protocols.base import Guard
from leakaudit.wire.replica import Replica

__all__ = ["SOME", "information"]

SOME = 8
"""Images that it is computed on."""


def information(training: Training, trained: Trained) -> dict[str, list[float]]:
    """Return dFIL of some attacked images at every seat whose defense has it in closed form; see `Defense.information`."""
    found: dict[str, list[float]] = {}
    for facts in training.protocol.facts.seats:
        if not facts.modalities or not any(facts.role in d["seats"] for d in training.spec["defenses"]):
            continue
        guard = guard_of(training.spec["defenses"], training.seat(facts, branch="information"))
        guard.load_public_state(trained.public.get(facts.id, {}))
        x, inside = _images(training, facts)
        told = guard.information(_Undefended(training, facts, trained.states[facts.id], guard), x, inside)
        if told is not None:
            found[facts.id] = [float(v) for v in told]
    return found


def _images(training: Training, facts: SeatFacts) -> tuple[Tensor, Tensor]:
    """Return a few attacked images that a seat holds, and which voxels of them lie in the brain."""
    members = training.members
    there = [i for i in training.attacked() if facts.site in (None, members.samples[i].site)]
    # One image of each patient, so that the number of images is one of patients.
    rows = list({members.samples[i].patient: i for i in reversed(there)}.values())[:SOME]
    index = [members.modalities.index(m) for m in facts.modalities]
    x = torch.from_numpy(np.ascontiguousarray(members.images[rows][:, index])).to(training.device)
    brain = torch.from_numpy(np.ascontiguousarray(members.brain[rows])).to(training.device)
    return x, brain[:, None].expand_as(x).to(x.dtype)


class _Undefended:
    """What a seat would send for images without its defenses; made when it is first asked for, since few defenses ask."""

    def __init__(self, training: Training, facts: SeatFacts, state: Tensors, guard: Guard) -> None:
        self._training, self._facts, self._state, self._guard = training, facts, state, guard

    @cached_property
    def _replica(self) -> Replica:
        training = self._training
        replica = training.protocol.replica(self._facts, training.task, self._state, _Adapting(self._guard))
        if replica.module is not None:
            replica.module.to(training.device)
        return replica

    def __call__(self, x: Tensor) -> Tensors:
        return self._replica.send(x=x)


class _Adapting(Defense[Any]):
    """A guard that alters the module as another does, so that its weights fit, and nothing that is sent."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(guard.params, guard.seat)
        self.adapt = guard.adapt  # type: ignore[method-assign]
