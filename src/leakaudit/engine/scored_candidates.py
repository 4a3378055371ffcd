"""Candidates' scores as the score cells of all repeats have them, in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leakaudit.scoring.checks import Floats

__all__ = ["ScoredCandidates"]


class ScoredCandidates:
    """The same candidates in every repeat, sorted by name whatever the order of each.

    Args:
        repeats: An endpoint of each repeat as the score cell stored it: `patients`, `site`, and lists by candidate.

    Attributes:
        patients: Candidates, sorted.
        sites: Site of each.
    """

    def __init__(self, repeats: Sequence[Mapping[str, Any]]) -> None:
        self._repeats, first = repeats, repeats[0]
        order = sorted(range(len(first["patients"])), key=lambda i: str(first["patients"][i]))
        self.patients: tuple[str, ...] = tuple(first["patients"][i] for i in order)
        self.sites: tuple[str, ...] = tuple(first["site"][i] for i in order)

    def rows(self, name: str) -> Floats:
        """Return one list of each repeat, (repeats, candidates)."""
        found = [dict(zip(e["patients"], e[name], strict=True)) for e in self._repeats]
        return np.array([[row[p] for p in self.patients] for row in found], dtype=np.float64)
