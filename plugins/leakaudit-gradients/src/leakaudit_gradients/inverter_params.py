"""Parameters of `gradient-inverter`, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from leakaudit_gradients.params import UpdateParams

__all__ = ["GradientInverterParams"]


class GradientInverterParams(UpdateParams):
    """Parameters of `gradient-inverter`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"width": 64}, {"width": 64, "rounds": [0, -1], "repeats": 2, "auxiliary": "shifted"}]}
    )

    auxiliary: Literal["same", "shifted"] = Field(
        "same",
        description="Patients the adversary learns from: `same`: others of the same hospitals; `shifted`: of one other hospital.",
    )
    map: Literal["ridge"] = Field(
        "ridge", description="What is learned: `ridge`: a linear map from the update to all voxels, in closed form."
    )
    width: int = Field(
        2048, ge=8,
        description="Most features of one tensor of the update; a larger tensor is compressed to so many by a random projection.",
    )  # fmt: skip
    repeats: int = Field(
        1, ge=1,
        description="Simulated updates that begin with each auxiliary sample. More pay where sites have several samples, or a "
        "defense draws at random.",
    )  # fmt: skip
