"""Parameters of the inversion attacks, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.facts import ProtocolFacts
from leakaudit.threats import Grant, NotApplicable, Requires, ThreatModel
from leakaudit_inversion.stance import InversionParams

__all__ = ["LikelihoodInversionParams", "ModelInversionParams", "UnsplitParams"]

_WHITE_BOX: tuple[Grant, ...] = ("architecture", "weights", "defense", "defense-state", "sample-ids")
_OBSERVATIONS = (
    "Last observations of each sample, one a round, that are taken together: more than one undoes part of a randomized defense."
)


class ModelInversionParams(InversionParams):
    """Parameters of `model-inversion`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"iterations": 5},
                {"iterations": 5, "levels": "joint", "observations": 2},
                {"iterations": 5, "rounds": [0, -1], "auxiliary": "shifted"},
                {"iterations": 5, "position": "collusion:client-0"},
            ]
        }
    )

    position: str = Field(
        "server",
        pattern=r"^(server|client:.+|collusion(:.+)?)$",
        description="Where the adversary stands: `server`; `client:<id>`, another image client, which sees only what it is sent; "
        "or `collusion:<id>`, the server together with a client (`collusion`: the first), whose images of the same patients the "
        "decoder gets beside the activations.",
    )
    auxiliary: Literal["same", "shifted", "noise", "none"] = Field(
        "same",
        description="Images the adversary owns and the decoder learns from: `same`: other patients of the same hospitals; "
        "`shifted`: of one other hospital; `noise`: none but random ones; `none`: not even these (nothing to learn from).",
    )
    iterations: int = Field(300, ge=1, description="Training steps of each decoder: the attack's budget.")
    batch_size: int = Field(8, ge=1, description="Auxiliary samples per step.")
    learning_rate: float = Field(4e-3, gt=0, description="Adam's learning rate at the start; it falls to zero by a cosine.")
    width: int = Field(
        16,
        ge=4,
        description="Channels of the decoder at half the image's resolution, up to four times as many below: its capacity.",
    )
    blocks: int = Field(1, ge=1, description="Residual blocks at each resolution of the decoder.")
    loss: Literal["mse", "mse+l1", "mse+ssim"] = Field(
        "mse+ssim",
        description="What the decoder minimizes inside the brain: the squared error of He et al. 2019, alone or with the "
        "absolute error or 1 - SSIM added.",
    )
    validation: float = Field(
        0.15, ge=0, lt=1,
        description="Share of the auxiliary patients held out to choose the best state of a decoder; 0 keeps the last.",
    )  # fmt: skip
    patience: int | None = Field(
        None, ge=1, le=9,
        description="Tenths of the budget without a better state on the held-out patients after which training stops; default "
        "never: the whole budget is used.",
    )  # fmt: skip
    observations: int = Field(
        1, ge=1,
        description=f"{_OBSERVATIONS} The decoder is trained on such averages, with the weights of the same rounds.",
    )  # fmt: skip
    adaptive: bool = Field(
        True,
        description="Whether the adversary knows the defense and learns through it. false shows what a defense looks like to an "
        "attacker who does not: much safer than it is, so the engine leaves such a pairing in REVIEW.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ModelInversionParams:
        _one_choice_of_rounds(self.rounds, self.observations)
        if self.patience is not None and self.validation == 0:
            raise ValueError("patience needs held-out patients to judge by: give a validation share above 0")
        return self

    @property
    def colluder(self) -> str | None:
        """The client that colludes with the server: its id, `""` for the first one, or None."""
        kind, _, seat = self.position.partition(":")
        return seat if kind == "collusion" else None

    @property
    def watcher(self) -> str | None:
        """The client that is the adversary, or None."""
        kind, _, seat = self.position.partition(":")
        return seat if kind == "client" else None

    @property
    def looks_back(self) -> int:
        """Observations of each sample that are averaged."""
        return self.observations

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """An adversary that sees activations, owns images to learn from, and knows network, weights and defense."""
        surface = self.surface(facts)
        if isinstance(surface, NotApplicable):
            return surface
        if self.auxiliary == "none":
            return NotApplicable(
                reason="a decoder needs images to learn from and the adversary owns none; "
                "likelihood-inversion and unsplit need none"
            )
        knows = _WHITE_BOX if self.adaptive else tuple(g for g in _WHITE_BOX if not g.startswith("defense"))
        threat = ThreatModel(plays=surface.plays, channels=("activation",), knows=knows, auxiliary=self.auxiliary)
        return Requires(threat=threat, taps=self.taps(facts, surface.levels))


class LikelihoodInversionParams(InversionParams):
    """Parameters of `likelihood-inversion`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"iterations": 5},
                {"iterations": 5, "levels": "joint", "observations": 2, "auxiliary": "none"},
                {"iterations": 5, "rounds": [0, -1], "tv": 0.01},
            ]
        }
    )

    auxiliary: Literal["same", "shifted", "none"] = Field(
        "same",
        description="Images the adversary owns: where the search starts (their mean instead of grainy gray), and on which the "
        "weight of the prior is chosen. `none`: it owns none.",
    )
    iterations: int = Field(200, ge=1, description="Adam steps on the images: the attack's budget.")
    learning_rate: float = Field(0.2, gt=0, description="Adam's learning rate at the start; it falls to zero by a cosine.")
    smoothing: float = Field(
        1.0, ge=0, description="Length in voxels over which gradients are smoothed, so that steps change images smoothly; 0: none."
    )
    tv: float | Literal["auto"] = Field(
        "auto",
        description="Weight of the relative total variation against the relative error of the activations; `auto` chooses among "
        "several on auxiliary patients, or takes 0.01 where there are none, and more under noise.",
    )
    targets: int = Field(
        64, ge=1,
        description="Most targets that are searched for in one batch (fewer where images are large); they do not influence "
        "each other.",
    )  # fmt: skip
    draws: int = Field(
        2, ge=1, description="Fresh draws of a randomized defense at each step; one is unbiased, more make the steps less noisy."
    )
    observations: int = Field(1, ge=1, description=f"{_OBSERVATIONS} Each is compared under the weights of its own round.")

    @model_validator(mode="after")
    def _consistent(self) -> LikelihoodInversionParams:
        _one_choice_of_rounds(self.rounds, self.observations)
        if isinstance(self.tv, float) and self.tv < 0:
            raise ValueError("tv must not be negative")
        return self

    @property
    def looks_back(self) -> int:
        """Observations of each sample that one image must explain."""
        return self.observations

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A curious server that knows network, weights and defense."""
        surface = self.surface(facts)
        if isinstance(surface, NotApplicable):
            return surface
        threat = ThreatModel(plays=surface.plays, channels=("activation",), knows=_WHITE_BOX, auxiliary=self.auxiliary)
        return Requires(threat=threat, taps=self.taps(facts, surface.levels))


class UnsplitParams(InversionParams):
    """Parameters of `unsplit`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"outer": 2, "input_steps": 2, "clone_steps": 2},
                {"outer": 2, "input_steps": 2, "clone_steps": 2, "levels": "joint"},
            ]
        }
    )

    outer: int = Field(20, ge=1, description="Times that images and clone take turns: the attack's budget. The authors take 1000.")
    input_steps: int = Field(25, ge=0, description="Steps on the images in each turn. The authors take 100.")
    clone_steps: int = Field(25, ge=0, description="Steps on the cloned client in each turn. The authors take 100.")
    input_rate: float = Field(
        1e-2, gt=0,
        description="Adam's (AMSGrad) learning rate for the images. The authors take 0.001 for values in [0, 1] and a hundred "
        "times as many steps.",
    )  # fmt: skip
    clone_rate: float = Field(1e-3, gt=0, description="Adam's (AMSGrad) learning rate for the clone, as published.")
    tv: float = Field(0.1, ge=0, description="Weight of the mean squared difference of neighboring voxels, as published.")
    l2: float = Field(1.0, ge=0, description="Weight of the mean square of the image, as published.")
    targets: int = Field(
        64, ge=1, description="Most targets that are computed at once (fewer where images are large); all of them share one clone."
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A curious server that knows the architecture and the defense, and neither weights nor patients."""
        surface = self.surface(facts)
        if isinstance(surface, NotApplicable):
            return surface
        threat = ThreatModel(
            plays=surface.plays, channels=("activation",), knows=("architecture", "defense", "sample-ids"), auxiliary="none"
        )
        return Requires(threat=threat, taps=self.taps(facts, surface.levels, weights=False))


def _one_choice_of_rounds(rounds: tuple[int, ...] | None, observations: int) -> None:
    if rounds is not None and observations > 1:
        raise ValueError("give either rounds or observations: rounds attacks each round by itself")
