"""Parameters of the sparse vector technique, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from leakaudit.threats import Unit
from leakaudit_updates.params import UpdateParams

__all__ = ["SvtParams"]


class SvtParams(UpdateParams):
    """Selection and release of an update's entries by the sparse vector technique (Li et al. 2019)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{}, {"variant": "nvflare-2.8", "fraction": 0.9, "epsilon": 21.0, "noise_var": 2.0, "gamma": 1e-4}]
        }
    )

    variant: Literal["correct", "nvflare-2.2", "nvflare-2.8"] = Field(
        "correct",
        description='Noise scales: "correct", whose epsilon is kept; "nvflare-2.2", those that NVFlare published up to version '
        '2.7, for which no epsilon holds; "nvflare-2.8", those since 2026.',
    )
    fraction: float = Field(0.1, gt=0, le=1, description="Share of the update's entries that is released, rounded up.")
    epsilon: float = Field(
        0.1,
        gt=0,
        description='"correct": epsilon of one round, all in all. "nvflare-2.8": of the threshold and the selection alone. '
        '"nvflare-2.2": of the threshold alone.',
    )
    release_share: float | None = Field(
        None, gt=0, lt=1, description='Share of epsilon that pays for the released values. Only with "correct"; default 0.5.'
    )
    noise_var: float | None = Field(
        None,
        gt=0,
        description="Epsilon of one released entry; no variance in spite of its name. Only with the published variants; "
        "default 0.1, as there.",
    )
    gamma: float = Field(1e-5, gt=0, description="Bound of each entry's magnitude for one local step.")
    tau: float = Field(1e-6, ge=0, description="Threshold on an entry's magnitude for one local step, before its noise.")
    local_steps: int = Field(
        1, ge=1, description="Local steps of a round, by which gamma and tau are multiplied: they then bound the change per step."
    )

    @model_validator(mode="after")
    def _budgets_fit(self) -> SvtParams:
        if self.variant == "correct" and self.noise_var is not None:
            raise ValueError('noise_var belongs to the published variants; with "correct" give release_share')
        if self.variant != "correct" and self.release_share is not None:
            raise ValueError(f'release_share belongs to "correct"; with {self.variant!r} give noise_var')
        return self

    @property
    def unit(self) -> Unit | None:
        """A site as a whole, where an epsilon holds at all."""
        return "site" if self.variant != "nvflare-2.2" and self.buffers == "change" else None
