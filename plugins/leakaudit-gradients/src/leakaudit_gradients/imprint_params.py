"""Parameters of `imprint`, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import ConfigDict, Field

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins import AttackParams
from leakaudit.threats import NotApplicable, Requires, Tap, ThreatModel

__all__ = ["Fit", "ImprintParams", "Query"]

Query = Literal["random", "mean"]
Fit = Literal["gaussian", "laplace", "empirical"]


class ImprintParams(AttackParams):
    """Parameters of `imprint`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"bins": 16},
                {"bins": 16, "source": "model", "fit": "empirical"},
                {"bins": 8, "rounds": [0, -1], "fit": "laplace", "auxiliary": "shifted"},
            ]
        }
    )

    source: Literal["update", "model"] = Field(
        "update",
        description="What is read: `update`: each site's own update; `model`: the difference of successive models, which is the "
        "average of all updates, as is left under secure aggregation.",
    )
    rounds: tuple[int, ...] = Field(
        (0,), min_length=1,
        description="Rounds whose updates are attacked, negative ones from the end. Every attacked patient must be behind one.",
    )  # fmt: skip
    bins: int = Field(
        128, ge=2,
        description="Rows of the imprint module. A sample that shares its bin with another one is not found: take several times "
        "as many bins as a site (or with `source: model` all sites together) has samples in a local run.",
    )  # fmt: skip
    query: Query = Field(
        "random",
        description="What sorts images into bins: `random`: a random weighted sum of all voxels; `mean`: their mean, of no use "
        "where images are normalized to one mean.",
    )
    fit: Fit = Field(
        "gaussian",
        description="How the distribution of the query is estimated from auxiliary images, to make all bins equally likely: by a "
        "`gaussian`, a `laplace` distribution, or the `empirical` quantiles.",
    )
    gain: float = Field(
        0.1, gt=0,
        description="Size of the pattern that the module adds to an image, in its units (z-scores), where sites use SGD. With "
        "Adam much less is needed.",
    )  # fmt: skip
    drift: float = Field(
        0.05, gt=0, le=10,
        description="By how much one image typically shifts the bins in one step, over the spread of the query. Less drowns in the "
        "rounding of weights; more mixes bins up in the course of a local run, and from round to round.",
    )  # fmt: skip
    quiet: float = Field(
        1e-3, gt=0, le=1,
        description="With Adam: gradient of the module over Adam's epsilon. Far below 1 a step is as linear in the gradient as one "
        "of SGD; more survives where updates are rounded to a coarse grid.",
    )  # fmt: skip
    auxiliary: Literal["same", "shifted"] = Field(
        "same",
        description="Images the adversary owns: `same`: other patients of the same hospitals; `shifted`: of one other hospital.",
    )

    def requires(self, facts: ProtocolFacts) -> Requires | NotApplicable:
        """An aggregator that hands out a network of its own making."""
        flows = [f for f in facts.flows if f.channel == "update" and f.carries == "site"]
        if not flows:
            return NotApplicable(reason=f"protocol {facts.protocol!r} sends no update of a site that trains by itself")
        architecture = facts.extra.get("architecture", "unet")
        if architecture != "unet":
            return NotApplicable(reason=f"the imprint module is made for the built-in U-Net; the sites train a {architecture}")
        late = [r for r in self.rounds if not -facts.rounds <= r < facts.rounds]
        if late:
            return NotApplicable(reason=f"there is no round {late[0]}: training has rounds 0 to {facts.rounds - 1}")
        rounds = tuple(dict.fromkeys(r % facts.rounds for r in self.rounds))
        after = tuple(r + 1 for r in rounds if r + 1 < facts.rounds) if self.source == "model" else ()
        threat = ThreatModel(
            plays=(flows[0].receiver,), alters=("task",), channels=("update", "model"), knows=("architecture",),
            auxiliary=self.auxiliary,
        )  # fmt: skip
        updates = Tap(channel="update", rounds=rounds)
        return Requires(threat=threat, taps=(updates, replace(updates, channel="model", rounds=tuple(sorted({*rounds, *after})))))
