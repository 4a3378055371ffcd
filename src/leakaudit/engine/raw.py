"""Scores in their own units, shown beside leakage and never gating: a number, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.scoring.intervals import Interval

__all__ = ["Raw", "merge_raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One score for display.

    Attributes:
        value: The number; None where there is none.
        unit: Unit in words; empty for a pure number.
        n: Patients behind it, where that makes sense.
        reason: Why there is no number.
        interval: Its 95 % interval, where one is stated.
    """

    value: float | None
    unit: str = ""
    n: int | None = None
    reason: str | None = None
    interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the score cell stores; intervals are made when repeats are merged."""
        return {"value": self.value, "unit": self.unit, "n": self.n, "reason": self.reason}


def merge_raw(repeats: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Raw]:
    """Return the mean of each score over repeats; one that any repeat lacks stays missing, with that repeat's reason."""
    found: dict[str, Raw] = {}
    for name in repeats[0]:
        cells = [r.get(name, {"value": None, "reason": "a repeat lacks it"}) for r in repeats]
        missing = next((c for c in cells if c["value"] is None), None)
        value = None if missing is not None else float(np.mean([c["value"] for c in cells]))
        n = cells[0].get("n")
        found[name] = Raw(
            value=value, unit=cells[0].get("unit", ""), n=None if n is None else round(n),
            reason=None if missing is None else missing.get("reason") or "not computed",
        )  # fmt: skip
    return found
