"""What a run left in its store, as results need it: score cells merged by pairing, trainings, and why something is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from leakaudit.engine.jobs import Outcome
from leakaudit.engine.merge import Merged, merge
from leakaudit.engine.plan import Baseline, Pairing, Plan
from leakaudit.engine.seeds import by_repeat
from leakaudit.engine.store import RunStore

__all__ = ["RESAMPLING", "Stored"]

RESAMPLING = 20220822
"""Seed of every resampling: public and fixed, so that rescoring stored evidence gives the same intervals."""

_WORDS = {
    "error": "The cell failed", "timeout": "The cell ran past its time limit", "killed": "The cell's process died",
    "blocked": "Blocked",
}  # fmt: skip


class Stored:
    """Reads a run.

    Args:
        plan: The plan.
        store: Where its cells left their results.
        outcomes: How every cell ended.
    """

    def __init__(self, plan: Plan, store: RunStore, outcomes: Mapping[str, Outcome]) -> None:
        self._store, self._outcomes = store, outcomes
        self._scores = {id(p): self._load(p) for p in plan.pairings}
        self._merges: dict[tuple[int, str], dict[str, Merged]] = {}

    def json(self, key: str, name: str) -> dict[str, Any] | None:
        """Return a JSON file of a cell, None where the cell left nothing."""
        entry = self._store.get(key)
        return None if entry is None else dict(json.loads((entry.folder / name).read_text()))

    def scores(self, pairing: Pairing) -> list[dict[str, Any]] | str:
        """Return the scores of a pairing by repeat, or why there are none."""
        return self._scores[id(pairing)]

    def merged(self, pairing: Pairing) -> Mapping[str, Merged]:
        """Return the endpoints of a pairing by name, each merged once; empty where there are none."""
        return self._merge(pairing, "endpoints")

    def shuffled(self, pairing: Pairing) -> Mapping[str, Merged]:
        """Return the same endpoints from shuffled messages; empty where there are none."""
        return self._merge(pairing, "shuffled")

    def trainings(self, baseline: Baseline) -> tuple[dict[str, Any], ...]:
        """Return `train.json` of every repeat; empty where one is missing."""
        found = [self.json(key, "train.json") for key in baseline.trains]
        return tuple(t for t in found if t is not None) if all(t is not None for t in found) else ()

    def failure(self, keys: Sequence[str]) -> str:
        """Return the first failure on the way to a result; a blocked cell's own words name the one that failed."""
        for key in keys:
            outcome = self._outcomes.get(key)
            if outcome is not None and not outcome.ok:
                return f"{_WORDS.get(outcome.status, outcome.status)}: {outcome.reason}"
        return "Not computed."

    def _load(self, pairing: Pairing) -> list[dict[str, Any]] | str:
        if pairing.error is not None:
            return pairing.error
        found = []
        for keys in zip(pairing.trains, pairing.attacks, pairing.scores, strict=True):
            score = self.json(keys[-1], "score.json")
            if score is None:
                return self.failure(keys)
            found.append(score)
        return by_repeat(found, pairing.seeds)

    def _merge(self, pairing: Pairing, part: Any) -> Mapping[str, Merged]:
        place, scores = (id(pairing), part), self.scores(pairing)
        if place not in self._merges:
            self._merges[place] = {} if isinstance(scores, str) else merge(scores, part, RESAMPLING)
        return self._merges[place]
