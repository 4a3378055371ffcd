"""Parameters of the toy sections."""

from __future__ import annotations

from pydantic import Field

from leakaudit.plugins import Params


class Listing(Params):
    opening: str = Field("Trainings of this audit:", description="First words.")
