"""Parameters of the defenses at the cut that learn, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from leakaudit.facts import ProtocolFacts
from leakaudit.threats import Needs, NotApplicable
from leakaudit_cut.params import CutParams

__all__ = ["AttackerAwareParams", "BottleneckParams", "NoPeekParams", "ShredderParams"]


class _ClientParams(CutParams):
    """A defense that changes what the image clients learn; features that a server sends are not theirs to change."""

    roles: list[Literal["client"]] = Field(  # type: ignore[assignment]
        ["client"], min_length=1, max_length=1, description="Roles whose training is changed: clients only."
    )

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the image clients."""
        return super().needs(facts)


class NoPeekParams(_ClientParams):
    """Distance correlation between images and activations as a second loss."""

    weight: float = Field(0.5, ge=0, description="Weight of the distance correlation, averaged over the levels, in the loss.")
    distances: Literal["euclidean", "squared"] = Field(
        "euclidean",
        description="euclidean: distance correlation as Szekely et al. 2007 define it; squared: with squared distances, as in "
        "the public implementation of Titcombe et al. 2021. The two are not comparable.",
    )

    @property
    def couples(self) -> bool:
        """The loss compares the patients of a batch with each other."""
        return self.weight > 0

    @property
    def alone(self) -> bool:
        """A batch that is filled up has other distances."""
        return self.couples


class BottleneckParams(_ClientParams):
    """A learned 1x1 convolution to fewer channels."""

    channels: int = Field(2, ge=1, description="Channels sent of each changed level; levels with fewer are sent as they are.")


class ShredderParams(_ClientParams):
    """Learned additive noise."""

    strength: float = Field(0.01, ge=0, description="Weight of the reward for more noise in the client's loss.")
    start: float = Field(1.0, gt=0, description="Scale of the Laplace noise at the start, in the units of the activations.")


class AttackerAwareParams(_ClientParams):
    """Training against an inverter of one's own."""

    strength: float = Field(1.0, ge=0, description="Weight of the inner attacker's success in the client's loss.")
    threshold: float = Field(0.5, ge=0, lt=1, description="SSIM of the inner attacker below which it is not fought.")
    width: int = Field(16, ge=4, description="Channels of the inner attacker.")
    steps: int = Field(1, ge=1, description="Steps of the inner attacker for each batch.")
    learning_rate: float = Field(4e-3, gt=0, description="Adam's learning rate of the inner attacker.")

    @property
    def couples(self) -> bool:
        """The inner attacker has learned from all patients, so a patient's loss depends on the others."""
        return self.strength > 0

    @property
    def alone(self) -> bool:
        """The inner attacker learns from batch to batch: each shadow model fights one of its own."""
        return self.couples
