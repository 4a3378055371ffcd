"""What a run keeps for later renderings: how its cells ended, and under which keys the evidence lies.

Keys hold digests of sources, so that after an upgrade a plan made anew would name other keys and find nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from leakaudit.engine.jobs import Outcome
from leakaudit.engine.plan import Plan
from leakaudit.engine.store import RunStore
from leakaudit.errors import UserError

__all__ = ["keep", "recall"]

_FILE = "run.json"


def keep(store: RunStore, plan: Plan, outcomes: Mapping[str, Outcome]) -> None:
    """Write down how the cells of a plan ended and which belong to which pairing."""
    data = {
        "outcomes": {key: asdict(outcome) for key, outcome in outcomes.items()},
        "cohort": plan.cohort_key,
        "baselines": [[b.protocol, b.defense, list(b.trains)] for b in plan.baselines],
        "pairings": [[p.protocol, p.defense, p.attack, p.trains, p.attacks, p.scores] for p in plan.pairings],
    }
    (store.root / _FILE).write_text(json.dumps(data))


def recall(store: RunStore, plan: Plan) -> tuple[Plan, dict[str, Outcome]]:
    """Return a plan made anew with the keys of the run that is stored, and how that run's cells ended.

    Raises:
        UserError: There is no run, or its evidence has been pruned.
    """
    path = store.root / _FILE
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "pairings" not in data:
        raise UserError("there is no finished run here to judge again; run the recipe first.")
    trains = {(p, d): tuple(keys) for p, d, keys in data["baselines"]}
    cells = {(p, d, a): keys for p, d, a, *keys in data["pairings"]}
    scores = [key for _, _, found in cells.values() for key in found]
    if not any(store.has(key) for key in scores):
        raise UserError("the evidence of this run is no longer in its store (was it pruned?); run the recipe again.")
    baselines = tuple(replace(b, trains=trains.get((b.protocol, b.defense), b.trains)) for b in plan.baselines)
    pairings = []
    for p in plan.pairings:
        found = cells.get((p.protocol, p.defense, p.attack))
        if found is not None:
            p = replace(p, trains=tuple(found[0]), attacks=tuple(found[1]), scores=tuple(found[2]))
        pairings.append(p)
    outcomes = {key: Outcome(**outcome) for key, outcome in data["outcomes"].items()}
    return replace(plan, cohort_key=data["cohort"], baselines=baselines, pairings=tuple(pairings)), outcomes
