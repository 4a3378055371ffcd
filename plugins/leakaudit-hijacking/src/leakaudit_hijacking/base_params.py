"""What both families of attacks have in common among their parameters; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import NotApplicable
from leakaudit_hijacking.sharing import applies

__all__ = ["TrainingAttackParams"]

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
    modalities: dict[str, tuple[str, ...]] | None = Field(
        None,
        description="Modalities of every client, for example {client-0: [flair, t1], client-1: [t2]}. Needed only where they are "
        "not shared out evenly in channel order, since a party in training is not told what the others hold.",
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
        return applies(facts, self.clients, self.levels, self.modalities)

    @property
    def observed(self) -> tuple[int, ...]:
        """Rounds to tap, counted from the end."""
        return tuple(range(-1, -self.draws - 1, -1))
