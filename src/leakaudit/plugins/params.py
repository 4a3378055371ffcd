"""Base classes of plugin parameters: pydantic models that live in modules without torch.

They do two things: validate what a recipe says, and answer, before anything is trained, what the plugin needs.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from leakaudit.facts import CohortFacts, ProtocolFacts
from leakaudit.threats import Needs, NotApplicable, Requires

__all__ = ["AttackParams", "DatasetParams", "DefenseParams", "ExecutorParams", "Params", "ProtocolParams"]


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
