"""Parameters of the defenses of updates, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import DefenseParams, ShadowTraining, Victim
from leakaudit.threats import Needs, NotApplicable, Unit

__all__ = [
    "PercentileSharingParams", "SelectiveSharingParams", "UpdateClippingParams", "UpdateNoiseParams", "UpdateParams",
    "UpdatePruningParams", "UpdateQuantizationParams",
]  # fmt: skip


class UpdateParams(DefenseParams):
    """What every defense of updates has: what it does with the statistics of batch normalization."""

    buffers: Literal["change", "send"] = Field(
        "change",
        description='Running statistics of batch normalization: "change" treats them as weights, "send" lets them pass as they '
        "are, which shows the mean and the variance of a site's features.",
    )

    def needs(self, facts: ProtocolFacts) -> Needs | NotApplicable:
        """Ask for the seats that send updates; where nobody does there is nothing to defend."""
        senders = tuple(dict.fromkeys(flow.sender for flow in facts.flows if flow.channel == "update"))
        if not senders:
            return NotApplicable(
                reason=f"no party of the protocol {facts.protocol!r} sends updates of a model (roles: {', '.join(facts.roles)})"
            )
        return Needs(seats=senders, channels=("update",), unit=self.unit)

    def shadow(self, victim: Victim) -> ShadowTraining:
        """Return that every update of a shadow model's sites passes through the defense, as those of the victim's do."""
        return ShadowTraining(sends=True)

    @property
    def unit(self) -> Unit | None:
        """Unit of the guarantee; None where the defense makes none."""
        return None


class UpdateNoiseParams(UpdateParams):
    """Gaussian noise on an update."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sigma": 0.1}, {"sigma": 0.001, "scale": "absolute"}]})

    sigma: float = Field(0.1, ge=0, description="Noise level, in units that `scale` says. 0 adds no noise.")
    scale: Literal["relative", "absolute"] = Field(
        "relative",
        description='"relative": sigma times a percentile of the magnitudes of this very update; "absolute": sigma itself. '
        "Neither gives a formal guarantee.",
    )
    percentile: float = Field(
        95.0, gt=0, le=100, description="Percentile of the update's magnitudes other than 0 that relative noise is scaled by."
    )


class UpdateClippingParams(UpdateParams):
    """Clipping of an update."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"norm": 0.5}]})

    norm: float = Field(1.0, gt=0, description="L2 norm to which the whole update, all its tensors together, is scaled down.")


class UpdatePruningParams(UpdateParams):
    """Pruning of an update's small entries."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rate": 0.9}]})

    rate: float = Field(
        0.9, ge=0, lt=1, description="Quantile of each tensor's magnitudes below which its entries are set to 0, in [0, 1)."
    )


class PercentileSharingParams(UpdateParams):
    """Sharing above a percentile, each entry clipped."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"percentile": 10.0, "gamma": 0.01}]})

    percentile: float = Field(
        10.0, ge=0, le=100, description="Percentile of all magnitudes of the update below which entries are set to 0."
    )
    gamma: float | None = Field(0.01, gt=0, description="Bound of each entry's magnitude for one local step; null clips nothing.")
    local_steps: int = Field(
        1, ge=1, description="Local steps of a round, by which gamma is multiplied: it then bounds the change per step."
    )


class SelectiveSharingParams(UpdateParams):
    """Sharing of chosen parameters, or of the largest entries."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fraction": 0.1}, {"withhold": ["head.*"]}]})

    share: list[str] | None = Field(
        None,
        min_length=1,
        description='Names of the tensors that are sent, with * and ? as wildcards, for example ["trunk.*"]; default all.',
    )
    withhold: list[str] = Field(
        [], description="Names of tensors that are not sent, with the same wildcards. They win over `share`."
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="Share of the remaining entries that is sent, the largest magnitudes first; the rest is 0."
    )


class UpdateQuantizationParams(UpdateParams):
    """Stochastic rounding of an update."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bits": 4}]})

    bits: int = Field(
        4,
        ge=2,
        le=16,
        description="Bits of each entry: 2**bits - 1 values, evenly spaced around 0, up to the tensor's largest magnitude.",
    )
