"""Base classes of plugin parameters: pydantic models that live in modules without torch.

They do two things: validate what a recipe says, and answer, before anything is trained, what the plugin needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.threats import Needs, NotApplicable, Requires

__all__ = [
    "AttackParams", "DatasetParams", "DefenseParams", "ExecutorParams", "Params", "ProtocolParams", "ShadowTraining", "Victim",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """One seat's training as a defense's recipe for shadow models may depend on it: all of it is public.

    Attributes:
        facts: The protocol.
        role: Role of the seat.
        rate: Probability that one unit is in one batch.
        steps: Optimization steps planned, over all rounds.
    """

    facts: ProtocolFacts
    role: str
    rate: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTraining:
    """How a shadow model learns, so that it learns as a victim does under a defense.

    Two things can be said, and both together. What a defense does to the steps: the gradient of every unit is clipped, Gaussian
    noise is added to the sum, and the sum is divided by the expected number of units in a batch (how batches are drawn follows
    from `Needs.sampling` and `Needs.unit`). And that a defense acts on what a seat sends while it learns (`sends`): the engine
    then passes what a shadow model's seats would send through the defense itself. Nothing of the victim's is used: what a
    defense learns or draws once, each shadow model learns and draws anew.

    What is sent is the activations of image clients, in training and when the shadow model is asked, and the update of every
    site after each round. A site's defense acts through `outgoing`. A client's acts through `adapt`, whose parameters are then
    the shadow model's own, `outgoing`, and, but beside clipped steps, `penalty`. Shadow models are trained many at once:
    activations come as tensors inside `torch.func.vmap`, one object of the defense serves all models of a stack, and `outgoing`
    and `penalty` must not keep tensors from one message for the next, draw in place, branch on values, or mind rows that fill
    up a batch and do not count. A defense that cannot do with that says `alone`: its shadow models are trained one at a time,
    which is slower, each on whole batches with objects of the defense of its own, and their `public_state` is stored with the
    model. (Beside clipped steps `outgoing` still runs inside vmap: draw in `adapt` what is kept.) Updates come one by one anyway,
    each site of each shadow model with an object of its own.

    Attributes:
        clip: L2 norm to which each unit's gradient is clipped; None for ordinary steps (the defense leaves learning as it is).
        noise_multiplier: Standard deviation of the noise over the clip norm.
        unit: Whose gradient is clipped.
        sends: Whether what is sent while the shadow model learns passes through the defense.
        alone: Whether shadow models must be trained one at a time, because the defense keeps state or looks at a whole batch.
    """

    clip: float | None = None
    noise_multiplier: float = 0.0
    unit: Literal["record", "patient"] = "record"
    sends: bool = False
    alone: bool = False


class Params(BaseModel):
    """Parameters of one plugin. Unknown fields are errors; every field carries a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        for name, info in cls.model_fields.items():
            if not info.description:
                raise TypeError(f"{cls.__module__}.{cls.__qualname__}.{name} needs Field(description=...)")

    def key(self) -> dict[str, JsonValue]:
        """Return the parameters as plain JSON, every default included: what enters a cell's key."""
        return self.model_dump(mode="json")


class AttackParams(Params):
    """Parameters of an attack."""

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """Return what the attack needs of a run of this protocol, or why it has no meaning there. Pure and cheap."""
        raise NotImplementedError(f"{type(self).__qualname__} must implement requires(facts)")


class DefenseParams(Params):
    """Parameters of a defense."""

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Return what the defense needs of a training by this protocol, or why it has no meaning there. Pure, cheap."""
        raise NotImplementedError(f"{type(self).__qualname__} must implement needs(facts)")

    def shadow(self, victim: Victim) -> ShadowTraining | None:
        """Return how shadow models learn under this defense at one seat; None where there is no such recipe.

        Without a recipe shadow models are trained as if the defense were not there, and attacks that use them do not count as
        adaptive. Unlike `needs`, this is asked where a cell is computed, so that it may import what it has to.
        """
        return None


class ProtocolParams(Params):
    """Parameters of a protocol."""

    def facts(self, cohort: CohortFacts) -> ProtocolFacts:
        """Return seats, flows and network properties for this cohort.

        Raises:
            ValueError: The parameters do not fit the cohort; the message says which and what would.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must implement facts(cohort)")


class DatasetParams(Params):
    """Parameters of a dataset."""


class ExecutorParams(Params):
    """Parameters of an executor."""
