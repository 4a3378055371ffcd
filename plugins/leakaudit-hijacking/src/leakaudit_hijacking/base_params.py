"""What both families of attacks have in common among their parameters; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import NotApplicable

__all__ = ["TrainingAttackParams", "sends_labels", "u_shaped"]

_Names = Annotated[tuple[str, ...], Field(min_length=1)]


class TrainingAttackParams(AttackParams):
    """Parameters of an adversary that is the server of a split while it is trained.

    A subclass gives `presets`: values that take the place of the defaults, by the name in its field `preset`. What the
    recipe states wins over a preset.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    clients: _Names | None = Field(
        None, description="Seats of the clients to attack, for example [client-0]; all image clients by default."
    )
    levels: _Names | None = Field(
        None, description="Levels to attack, for example [level0]; every level that crosses the cut by default."
    )
    draws: int = Field(
        1, ge=1,
        description="Last observations of each sample whose reconstructions are averaged: more than one undoes part of a "
        "randomized defense.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = data.get("preset", cls.model_fields["preset"].default)
        return {**cls.presets.get(chosen, {}), **data} if isinstance(chosen, str) else data

    def obstacle(self, facts: ProtocolFacts) -> NotApplicable | None:
        """Return why the attack has no meaning for a protocol, or None where it has."""
        sent = [f for f in facts.flows if f.channel == "activation" and f.sender == "client" and f.receiver == "server"]
        back = [f for f in facts.flows if f.channel == "cut-gradient" and f.sender == "server" and f.receiver == "client"]
        if not sent or not back:
            return NotApplicable(reason=f"under {facts.protocol!r} no client trades activations for gradients with a server")
        there = [seat.id for seat in facts.seats_of("client")]
        unknown = [client for client in self.clients or () if client not in there]
        if unknown:
            return NotApplicable(reason=f"no client {', '.join(unknown)}; there are {', '.join(there)}")
        missing = [level for level in self.levels or () if level not in facts.levels]
        if missing:
            return NotApplicable(reason=f"no {', '.join(missing)} crosses the cut; what crosses is {', '.join(facts.levels)}")
        return None

    @property
    def observed(self) -> tuple[int, ...]:
        """Rounds to tap, counted from the end."""
        return tuple(range(-1, -self.draws - 1, -1))


def sends_labels(facts: ProtocolFacts) -> bool:
    """Return whether masks are sent to the server."""
    return any(f.channel == "label" and f.receiver == "server" for f in facts.flows)


def u_shaped(facts: ProtocolFacts) -> bool:
    """Return whether the server sends features on to a holder of masks."""
    return any(f.channel == "activation" and f.sender == "server" for f in facts.flows)
