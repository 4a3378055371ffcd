"""Parameters of the defenses at the cut, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Needs, NotApplicable

__all__ = [
    "CutParams", "DropoutParams", "GaussianNoiseParams", "LaplaceNoiseParams", "QuantizationParams", "RandomProjectionParams",
]  # fmt: skip


class CutParams(DefenseParams):
    """What every defense at the cut has: whose activations it changes, and which."""

    roles: list[str] = Field(
        ["client"],
        min_length=1,
        description='Roles whose activations are changed. A U-shaped split also has "server", which sends features.',
    )
    levels: list[str] | None = Field(
        None, min_length=1, description='Levels to change, for example ["level0"]; default all that are sent.'
    )

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the seats that send activations; without such seats or levels there is nothing to defend."""
        flows = [flow for flow in facts.flows if flow.channel == "activation"]
        senders = tuple(dict.fromkeys(flow.sender for flow in flows))
        if "client" not in senders:
            return NotApplicable(reason=f"no client of the protocol {facts.protocol!r} sends activations: nothing is cut")
        missing = [role for role in self.roles if role not in senders]
        if missing:
            return NotApplicable(reason=f"{missing[0]!r} sends no activations here; these do: {', '.join(senders)}")
        names = tuple(dict.fromkeys(name for flow in flows if flow.sender in self.roles for name in flow.names))
        absent = [level for level in self.levels or () if names and level not in names]
        if absent:
            return NotApplicable(reason=f"{absent[0]!r} does not cross the cut; these levels do: {', '.join(names)}")
        return Needs(seats=tuple(self.roles), channels=("activation",), adds_coupled_loss=self.couples)

    def shadow(self, victim: Victim) -> ShadowTraining | None:
        """Return that what a shadow model's clients send passes through the defense; None for a server's features."""
        return ShadowTraining(sends=True, alone=self.alone) if victim.role == "client" else None

    @property
    def couples(self) -> bool:
        """Whether what is sent for one sample depends on the other samples of its batch."""
        return False

    @property
    def alone(self) -> bool:
        """Whether shadow models learn one at a time: it keeps something between messages, or minds who else is in a batch."""
        return False


class GaussianNoiseParams(CutParams):
    """Gaussian noise on activations."""

    sigma: float = Field(1.0, ge=0, description="Noise level, in units that `scale` says. 0 adds no noise.")
    scale: Literal["relative", "absolute"] = Field(
        "relative",
        description='"relative": sigma times the standard deviation of the level in the current message; "absolute": sigma itself.',
    )
    clip: float | None = Field(
        None,
        gt=0,
        description="Only with the absolute scale: L2 norm to which each sample's activations are clipped before the noise, "
        "over all changed levels together.",
    )

    @model_validator(mode="after")
    def _clip_is_absolute(self) -> GaussianNoiseParams:
        if self.clip is not None and self.scale != "absolute":
            raise ValueError('clip works with scale "absolute" only: relative noise follows the activations wherever they go')
        return self

    @property
    def couples(self) -> bool:
        """Relative noise is scaled by a whole batch, so one sample's noise tells of the others: DP-SGD must not follow."""
        return self.scale == "relative" and self.sigma > 0


class DropoutParams(CutParams):
    """Dropout of activations."""

    rate: float = Field(0.5, ge=0, lt=1, description="Share of the entries (or channels) that are dropped, in [0, 1).")
    mode: Literal["element", "channel"] = Field(
        "element", description="Whether single entries or whole channels of a sample are dropped."
    )


class LaplaceNoiseParams(CutParams):
    """Laplace noise on activations."""

    scale: float = Field(0.5, ge=0, description="Scale b of the Laplace noise, in the units of the activations. 0 adds none.")
    clip: float | None = Field(
        None, gt=0, description="L1 norm to which each sample's activations are clipped before, over all changed levels together."
    )


class QuantizationParams(CutParams):
    """Few-bit activations."""

    bits: int = Field(4, ge=1, le=16, description="Bits of each entry: 2**bits values between a sample's least and largest.")


class RandomProjectionParams(CutParams):
    """Activations turned and cut down by a random matrix."""

    keep: float = Field(0.5, gt=0, le=1, description="Share of the channels' dimensions that is kept, rounded, at least one.")

    @property
    def alone(self) -> bool:
        """The matrix is drawn once: each shadow model has one of its own."""
        return True
