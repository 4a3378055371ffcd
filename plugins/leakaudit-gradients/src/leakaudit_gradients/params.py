"""Parameters of the attacks on updates, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import Grant, NotApplicable, Requires, Tap, ThreatModel
from leakaudit_gradients.method import PRESETS, Method, Objective, Preset, Start

__all__ = ["GradientMatchingParams", "UpdateParams", "UpdateStatisticsParams"]

_KNOWS: tuple[Grant, ...] = ("architecture", "defense", "defense-state")


class UpdateParams(AttackParams):
    """What the attacks on a site's update have in common."""

    rounds: tuple[int, ...] = Field(
        (0,), min_length=1,
        description="Rounds whose updates are attacked, negative ones from the end. The first leaks most: nothing is learned yet.",
    )  # fmt: skip
    auxiliary: Literal["same", "shifted", "noise"] = Field(
        "same",
        description="Images the adversary owns: `same`: other patients of the same hospitals; `shifted`: of one other hospital; "
        "`noise`: none but random ones, which tell no more than the size of an image.",
    )
    local_epochs: int | None = Field(
        None, ge=1,
        description="Local passes over a site's data per round; default what the protocol's public facts say, else 1.",
    )  # fmt: skip
    local_steps: int | None = Field(
        None, ge=1,
        description="Local steps per round; default what the protocol's public facts say, else whole passes.",
    )  # fmt: skip

    def passes(self, facts: ProtocolFacts) -> tuple[int, int | None]:
        """Return local epochs and local steps: as given, or as the protocol says."""
        epochs, steps = facts.extra.get("local_epochs"), facts.extra.get("local_steps")
        given = self.local_epochs is not None or self.local_steps is not None
        if given or steps is None:
            return self.local_epochs or int(epochs or 1), self.local_steps
        return int(epochs or 1), int(steps)

    def refuses_batches(self, facts: ProtocolFacts) -> str | None:
        """Return why the attack does not apply to a network with batch normalization; None where it does."""
        return "what this attack reads from an update is not defined where batch normalization mixes the samples of a batch"

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A curious aggregator that sees each site's update and the model it started from."""
        flows = [f for f in facts.flows if f.channel == "update" and f.carries == "site"]
        if not flows:
            return NotApplicable(reason=f"protocol {facts.protocol!r} sends no update of a site that trains by itself")
        refused = self.refuses_batches(facts) if facts.normalization == "batch" else None
        if refused:
            return NotApplicable(reason=refused)
        late = [r for r in self.rounds if not -facts.rounds <= r < facts.rounds]
        if late:
            return NotApplicable(reason=f"there is no round {late[0]}: training has rounds 0 to {facts.rounds - 1}")
        threat = ThreatModel(
            plays=(flows[0].receiver,), channels=("update", "model"), knows=_KNOWS, auxiliary=self.auxiliary
        )  # fmt: skip
        return Requires(
            threat=threat, taps=(Tap(channel="update", rounds=self.rounds), Tap(channel="model", rounds=self.rounds))
        )  # fmt: skip


class GradientMatchingParams(UpdateParams):
    """Parameters of `gradient-matching`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"iterations": 4},
                {"iterations": 4, "preset": "inverting-gradients", "rounds": [0, -1], "restarts": 2},
                {"iterations": 4, "preset": "dlg", "tensors": ["encoders"], "pca": 0.01},
                {"iterations": 4, "preset": "modern", "auxiliary": "noise"},
                {"iterations": 4, "masks": "known"},
                {"iterations": 4, "autoencoder": 0.01},
            ]
        }
    )

    preset: Literal["auto", "dlg", "inverting-gradients", "modern", "smooth-unet", "kinked-unet", "batch-statistics"] = Field(
        "auto",
        description="How to search. `dlg`: L-BFGS on the squared distance; `inverting-gradients`: signed Adam on the cosine, with "
        "total variation, in a box; `modern`: the same with soft signs and warm-up; `smooth-unet`: L-BFGS on the relative "
        "distance of each tensor; `kinked-unet`: Adam on the same; `batch-statistics`: Adam on the same plus the distance of batch "
        "statistics; `auto`: by the network: `batch-statistics` with batch normalization; `inverting-gradients` with instance "
        "normalization or max pooling, of which little is to be expected; else `smooth-unet` or `kinked-unet`, as the activations "
        "are (three times the evaluations with group normalization). The log says which and why.",
    )
    masks: Literal["unknown", "known"] = Field(
        "unknown",
        description="Whether the adversary is told the true masks, as an aggregator who made the annotations would be. Chance then "
        "knows them, too, and no masks are returned. Else soft masks are searched for with the images.",
    )
    iterations: int | None = Field(
        None, ge=1, description="Evaluations of the gradient per target and restart: the attack's budget; default the preset's."
    )  # fmt: skip
    restarts: int = Field(1, ge=1, description="Starts, all in one batch; for each target the one that explains it best is kept.")
    objective: Objective | None = Field(None, description="Distance of updates; default the preset's.")
    start: Start | None = Field(
        None, description="Where images start: `gray`, the `mean` of auxiliary images, `noise` or a repeated `pattern` of noise."
    )
    learning_rate: float | None = Field(None, gt=0, description="Adam's learning rate; default the preset's.")
    tv: float | None = Field(None, ge=0, description="Weight of the total variation; default the preset's.")
    l2: float | None = Field(None, ge=0, description="Weight of the mean square; default the preset's.")
    pca: float | None = Field(
        None, ge=0, description="Weight of the distance to the span of auxiliary images; default the preset's."
    )
    autoencoder: float | None = Field(
        None, ge=0,
        description="Weight of the error of a denoising autoencoder, trained on auxiliary images in some seconds at 32x32; default "
        "the preset's.",
    )  # fmt: skip
    statistics: float | None = Field(
        None, ge=0,
        description="Weight of the distance to the batch statistics behind a single local step, which running statistics of batch "
        "normalization give away; default the preset's.",
    )  # fmt: skip
    invariance: float = Field(
        1.0, ge=0,
        description="Weight of what several local passes must have in common whatever the order of samples.",
    )  # fmt: skip
    tensors: tuple[str, ...] | None = Field(
        None, min_length=1,
        description="Beginnings of the names of parameters to match, for example `[encoders]`; default all. Leaving a defended "
        "layer out undoes defenses that only alter that layer.",
    )  # fmt: skip
    targets: int = Field(
        32, ge=1, description="Most targets and restarts that are computed at once; they do not influence each other."
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """A curious aggregator, who may be told the masks."""
        asked = super().requires(facts)
        if self.masks == "unknown" or isinstance(asked, NotApplicable):
            return asked
        return replace(asked, threat=replace(asked.threat, knows=(*asked.threat.knows, "labels")))

    def refuses_batches(self, facts: ProtocolFacts) -> str | None:
        """Allow one local step, where the batch's statistics follow from its images and can be read off the update."""
        epochs, steps = self.passes(facts)
        if (steps or epochs) == 1:
            return None
        return (
            f"the network has batch normalization and a round has {f'{steps} local steps' if steps else f'{epochs} local epochs'}: "
            "its running statistics are then a weighted mean over batches, from which those of no batch can be read off. With "
            "local_steps: 1 the attack applies"
        )

    def method(self, preset: Preset, longer: int = 1) -> Method:
        """Return a preset, its evaluations times `longer`, with what is given here instead of its own values."""
        names = ("iterations", "objective", "start", "learning_rate", "tv", "l2", "pca", "autoencoder", "statistics")
        given: dict[str, Any] = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        base = replace(PRESETS[preset], iterations=PRESETS[preset].iterations * longer)
        return replace(base, invariance=self.invariance, **given)


class UpdateStatisticsParams(UpdateParams):
    """Parameters of `update-statistics`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"simulations": 4}, {"method": "closed-form"}, {"simulations": 4, "rounds": [-1]}]}
    )

    method: Literal["auto", "closed-form", "calibrated"] = Field(
        "auto",
        description="`closed-form`: the formula of the last bias, for one local step of plain SGD; `calibrated`: a map from the "
        "update of the last layer (under Adam: of all layers) to the volume, learned on simulated updates of auxiliary patients; "
        "`auto`: the formula where it holds.",
    )
    simulations: int = Field(32, ge=2, description="Simulated updates that the map is learned on.")
