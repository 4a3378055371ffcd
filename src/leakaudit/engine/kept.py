"""What a run keeps for later renderings: how its cells ended, under which keys the evidence lies, and what planning learned.

Keys hold digests of sources, so that after an upgrade a plan made anew would name other keys and find nothing. Who is in the
dataset is kept too, so that it need not be there any more; patient keys are kept in an entry of the store marked sensitive,
and never in `run.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from leakaudit.cohorts.cohort import Split
from leakaudit.cohorts.dataset import Inventory, PatientEntry
from leakaudit.engine.disclosure import is_private
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.keys import digest
from leakaudit.engine.plan import Plan, Planted
from leakaudit.engine.store import RunStore
from leakaudit.errors import UserError

__all__ = ["keep", "known_patients", "recall"]

_FILE = "run.json"
_PATIENTS = "patients.json"


def keep(store: RunStore, plan: Plan, outcomes: Mapping[str, Outcome]) -> None:
    """Write down how the cells of a plan ended, which belong to which pairing, and who is in the dataset."""
    ended = {key: asdict(outcome) for key, outcome in outcomes.items()}
    data = {
        "outcomes": ended, "cohort": plan.cohort_key, "patients": _keep_patients(store, plan), "private": is_private(plan.recipe),
        "cells": {job.key: [job.kind, job.label] for job in plan.jobs if job.key in ended},
        "baselines": [[b.protocol, b.defense, list(b.trains)] for b in plan.baselines],
        "pairings": [[p.protocol, p.defense, p.attack, p.trains, p.attacks, p.scores] for p in plan.pairings],
        "planted": [asdict(p) for p in plan.planted],
    }  # fmt: skip
    (store.root / _FILE).write_text(json.dumps(data))


def _keep_patients(store: RunStore, plan: Plan) -> str:
    """Store inventory and split as an entry of their own and return its key."""
    known = {"inventory": asdict(plan.inventory), "split": asdict(plan.split)}
    key = digest({"kind": "patients", "known": known})
    if not store.has(key):
        synthetic = bool(getattr(plan.recipe.data.plugin.info, "synthetic", False))
        with store.write(key, {"kind": "patients", "sensitive": not synthetic}) as folder:
            (folder / _PATIENTS).write_text(json.dumps(known))
    return key


def known_patients(store: RunStore) -> tuple[Inventory, Split]:
    """Return inventory and split of the run that is stored.

    Raises:
        UserError: There is no run, or what it knew of its patients has been pruned.
    """
    entry = store.get(_read(store)["patients"])
    if entry is None:
        raise UserError("the evidence of this run is no longer in its store (was it pruned?); run the recipe again.")
    known = json.loads((entry.folder / _PATIENTS).read_text())
    inventory = {k: tuple(v) if isinstance(v, list) else v for k, v in known["inventory"].items()}
    inventory["patients"] = tuple(PatientEntry(**p) for p in known["inventory"]["patients"])
    return Inventory(**inventory), Split(**{k: tuple(v) for k, v in known["split"].items()})


def recall(store: RunStore, plan: Plan) -> tuple[Plan, dict[str, Outcome]]:
    """Return a plan made anew with the keys of the run that is stored, and how that run's cells ended.

    Raises:
        UserError: There is no run, its evidence has been pruned, or the plan shows patients whom the run did not show.
    """
    data = _read(store)
    if data["private"] and not is_private(plan.recipe):
        raise UserError(
            "recipe.resolved.yaml was changed after the run: it declares patients public who were not. To have them shown, run the "
            "recipe with that declaration."
        )
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
    jobs = tuple(Job(key=key, kind=kind, label=label, spec={}) for key, (kind, label) in data["cells"].items())
    planted = tuple(Planted(**p) for p in data["planted"])
    kept = {"cohort_key": data["cohort"], "baselines": baselines, "pairings": tuple(pairings), "jobs": jobs, "planted": planted}
    return replace(plan, **kept), outcomes


def _read(store: RunStore) -> dict[str, Any]:
    path = store.root / _FILE
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "pairings" not in data:
        raise UserError("there is no finished run here to judge again; run the recipe first.")
    if "patients" not in data:
        raise UserError("this run was made by an older version, which kept too little to judge it again; run the recipe again.")
    return data
