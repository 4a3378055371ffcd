"""How shadow models learn under the victim's defenses.

Which parts of the network take clipped and noised steps, and through which defenses passes what is sent meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leakaudit.defenses.base import Defense
from leakaudit.engine.training import Training
from leakaudit.facts import SeatFacts
from leakaudit.models.stacked import PrivatePart
from leakaudit.plugins.params import ShadowTraining, Victim
from leakaudit.plugins.targets import import_target
from leakaudit.protocols.params import FederatedParams, TrainedParams

__all__ = ["Recipe", "recipe_of"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How shadow models of one training learn.

    Attributes:
        parts: Parts of the network that take noised steps.
        by_patient: Whether a patient's rows are clipped as one.
        sends: Specs of the defenses through which passes what the seats send, in the order of the chain.
        alone: Whether the shadow models are trained one at a time, with objects of these defenses of their own.
        without: Names of the defenses that the shadow models are trained without.
    """

    parts: tuple[PrivatePart, ...] = ()
    by_patient: bool = False
    sends: tuple[dict[str, Any], ...] = ()
    alone: bool = False
    without: tuple[str, ...] = ()


def recipe_of(training: Training, *, defended: bool) -> Recipe:
    """Return how shadow models learn under the defenses of a training.

    Args:
        training: The victim's training.
        defended: Whether the adversary knows the defenses.
    """
    defenses = training.spec["defenses"]
    if not defended:
        return Recipe(without=tuple(d["name"] for d in defenses))
    without: list[str] = []
    sends: list[dict[str, Any]] = []
    found: dict[str, list[ShadowTraining]] = {}
    alone = False
    everything = [(defense, _told(training, defense)) for defense in defenses]
    clipped = {prefix for _, told in everything for prefix, s in told or () if s.clip is not None}
    for defense, told in everything:
        if told is None or any(s.clip is not None and prefix in found for prefix, s in told) or _lost(defense, told, clipped):
            without.append(defense["name"])
            continue
        if any(s.sends for _, s in told):
            sends.append({k: defense[k] for k in ("name", "seats", "target", "params_target", "params")})
            alone |= any(s.alone for _, s in told)
        for prefix, shadow in told:
            if shadow.clip is not None:
                found.setdefault(prefix, []).append(shadow)
    parts = tuple(_part(prefix, shadows) for prefix, shadows in found.items())
    by_patient = any(s.unit == "patient" for shadows in found.values() for s in shadows)
    return Recipe(parts=parts, by_patient=by_patient, sends=tuple(sends), alone=alone, without=tuple(without))


def _told(training: Training, defense: Mapping[str, Any]) -> list[tuple[str, ShadowTraining]] | None:
    """Return what a defense says for each seat that carries it, by the seat's part of the network; None where it says nothing."""
    params = import_target(defense["params_target"]).model_validate(defense["params"])
    told = []
    for seat in training.protocol.facts.seats:
        if seat.role in defense["seats"]:
            shadow, prefix = params.shadow(_victim(training, seat)), _prefix(seat)
            if shadow is None or (prefix is None and (shadow.clip is not None or shadow.sends)):
                return None
            told.append((prefix or "", shadow))
    return told or None


def _lost(defense: Mapping[str, Any], told: list[tuple[str, ShadowTraining]], clipped: set[str]) -> bool:
    """Return whether a defense's penalty would be lost: clipped steps are taken from the gradients of single rows' own losses."""
    beside = any(s.sends and prefix in clipped for prefix, s in told)
    return beside and import_target(defense["target"]).penalty is not Defense.penalty


def _part(prefix: str, shadows: list[ShadowTraining]) -> PrivatePart:
    # Sites of different sizes may add different noise for the same epsilon; pooled, they share the mean.
    clips, noises = ([float(getattr(s, name) or 0) for s in shadows] for name in ("clip", "noise_multiplier"))
    return PrivatePart(prefix=prefix, clip=sum(clips) / len(clips), noise=sum(noises) / len(noises))


def _prefix(seat: SeatFacts) -> str | None:
    """Return what the parameters of a seat begin with in the whole network; None where it has no part of its own."""
    if seat.role in ("trainer", "site"):
        return ""
    if seat.role == "client":
        return f"encoders.{seat.id.rpartition('-')[2]}."
    return None


def _victim(training: Training, seat: SeatFacts) -> Victim:
    params = training.protocol.params
    assert isinstance(params, TrainedParams)
    rows = sum(seat.site in (None, s.site) for s in training.members.samples)
    batch = min(params.training.batch_size, rows)
    steps = math.ceil(rows / batch)
    if isinstance(params, FederatedParams):
        steps = params.local_steps or params.local_epochs * steps
    return Victim(facts=training.protocol.facts, role=seat.role, rate=batch / rows, steps=params.rounds * steps)
