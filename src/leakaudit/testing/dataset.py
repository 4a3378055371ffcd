"""Checks of datasets: an inventory without torch, and patients as every later step expects them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, cast

import numpy as np

from leakaudit.cohorts import LABELS, Cohort, Dataset, Inventory
from leakaudit.engine.reasons import sentence
from leakaudit.engine.specs import plugin_spec
from leakaudit.engine.training import build
from leakaudit.plugins.descriptors import DatasetInfo
from leakaudit.testing.results import ViolationError
from leakaudit.testing.subject import Subject

__all__ = ["background", "inventory", "light_inventory", "loads", "repeatable", "z_scores"]

_MEAN, _LEAST, _MOST = 0.02, 0.2, 1.1
"""Allowed mean, and smallest and largest standard deviation, inside the brain (a modality may end short of it)."""


def _dataset(subject: Subject, seed: int = 0) -> Dataset[Any]:
    return cast("Dataset[Any]", build(plugin_spec(subject.plugin, subject.params), seed))


def _inventory(subject: Subject) -> Inventory:
    return cast("Inventory", subject.memo["inventory"])


def _cohort(subject: Subject) -> Cohort:
    return cast("Cohort", subject.memo["cohort"])


def inventory(subject: Subject) -> None:
    """The inventory names every patient once, in sorted order, and is the same twice."""
    try:
        found, again = _dataset(subject).inventory(), _dataset(subject).inventory()
    except Exception as error:
        fix = 'give parameters that point at data, for example --params \'{"root": "..."}\'.'
        raise ViolationError(f"inventory() raised {sentence(error)}.", fix) from error
    keys = [entry.patient for entry in found.patients]
    if not keys or keys != sorted(set(keys)):
        raise ViolationError("patients are missing, doubled or unsorted.", "return each patient once, sorted by key.")
    if found != again:
        raise ViolationError("two inventories of the same data differ.", "make it depend on parameters and seed alone.")
    if len(found.shape) not in (2, 3) or not found.modalities:
        raise ViolationError(
            f"shape {found.shape}, modalities {found.modalities}.", "give the shape of one sample, and its channels."
        )
    subject.memo["inventory"] = found


def light_inventory(subject: Subject) -> None:
    """Taking inventory imports no torch: a plan must answer at once."""
    spec = plugin_spec(subject.plugin, subject.params)
    code = (
        "import json, sys; from leakaudit.plugins.targets import import_target as t; s = json.loads(sys.argv[1]); "
        "p = t(s['params_target']).model_validate(s['params']); t(s['target'])(p, 0).inventory(); print('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(spec)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ViolationError(f"inventory() failed in a process of its own: {last}.", "import what it needs in its own module.")
    if done.stdout.split()[-1] == "True":
        raise ViolationError(
            "taking inventory imports torch.", "import MONAI and torch inside load(), or in a module that only it uses."
        )


def loads(subject: Subject) -> None:
    """A patient loads as the inventory announced: shape, modalities, sites, records and canonical labels."""
    found = _inventory(subject)
    entries = {entry.patient: entry for entry in found.patients[:2]}
    try:
        cohort = _dataset(subject).load(list(reversed(entries)))
    except Exception as error:
        fix = "load the patients of the inventory; name the file in a UserError if one is unusable."
        raise ViolationError(f"load() raised {sentence(error)}.", fix) from error
    problem = _differs(cohort, found)
    places = [(s.patient, s.visit, s.position) for s in cohort.samples]
    if places != sorted(places):
        problem = "samples are not sorted by patient, visit and position"
    for key, entry in entries.items():
        mine = [s for s in cohort.samples if s.patient == key]
        if len(mine) != entry.records or any(s.site != entry.site or s.visit != 0 for s in mine):
            problem = f"patient {key!r} has {len(mine)} samples for {entry.records} records, or another site or visit"
    info = cast("DatasetInfo", subject.plugin.info)
    if info.synthetic and not cohort.origin.synthetic:
        problem = "the descriptor says synthetic, the cohort does not"
    if problem:
        raise ViolationError(f"{problem}.", "return exactly what the inventory announced.")
    subject.memo["cohort"] = cohort


def _differs(cohort: Cohort, found: Inventory) -> str | None:
    if cohort.shape != found.shape or cohort.modalities != found.modalities:
        return f"samples of {cohort.shape} with {cohort.modalities}, the inventory says {found.shape} with {found.modalities}"
    kinds = {"images": np.float32, "labels": np.uint8, "brain": np.bool_}
    wrong = [name for name, kind in kinds.items() if getattr(cohort, name).dtype != kind]
    if wrong:
        return f"{wrong[0]} are {getattr(cohort, wrong[0]).dtype}, expected {np.dtype(kinds[wrong[0]])}"
    strange = set(np.unique(cohort.labels).tolist()) - set(LABELS.values())
    if strange:
        return f"labels {sorted(strange)} are not canonical ({LABELS})"
    if (cohort.labels[~cohort.brain] != 0).any():
        return "there are labels outside the brain"
    return None


def z_scores(subject: Subject) -> None:
    """Every image has mean 0 and standard deviation 1 inside the brain, and is finite."""
    cohort = _cohort(subject)
    for row, sample in enumerate(cohort.samples):
        for channel, name in enumerate(cohort.modalities):
            inside = cohort.images[row, channel][cohort.brain[row]]
            fine = inside.size and np.isfinite(inside).all() and abs(inside.mean()) <= _MEAN and _LEAST <= inside.std() <= _MOST
            if not fine:
                spread = f"mean {inside.mean():.2f}, standard deviation {inside.std():.2f}" if inside.size else "no brain"
                raise ViolationError(
                    f"{name} of {sample.patient!r} at position {sample.position}: {spread} inside the brain.",
                    "z-score each sample over its brain.",
                )


def background(subject: Subject) -> None:
    """Outside the brain every image is exactly 0."""
    cohort = _cohort(subject)
    outside = np.broadcast_to(~cohort.brain[:, None], cohort.images.shape)
    if (cohort.images[outside] != 0).any():
        raise ViolationError("images are not exactly 0 outside the brain.", "set the background to 0 after normalizing.")


def repeatable(subject: Subject) -> None:
    """Loading twice, or in company, gives the same patient."""
    cohort = _cohort(subject)
    first = cohort.patients[0]
    alone = _dataset(subject).load([first])
    together = cohort.of_patients([first])
    same = all(np.array_equal(getattr(alone, name), getattr(together, name)) for name in ("images", "labels", "brain"))
    if not same or alone.samples != together.samples:
        raise ViolationError(
            f"patient {first!r} is another one when loaded alone.", "derive randomness from the seed and the patient's key."
        )
