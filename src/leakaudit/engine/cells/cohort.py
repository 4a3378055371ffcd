"""Cell `cohort`: read the patients of the split once, as arrays that every later cell maps into memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from leakaudit.attacks.contents import load_cohort, save_cohort
from leakaudit.cohorts.cohort import Cohort, Split
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.places import build
from leakaudit.engine.store import RunStore

__all__ = ["Patients", "load_patients", "run"]


@dataclass(frozen=True, kw_only=True)
class Patients:
    """The patients of a run.

    Attributes:
        cohort: First visits of everybody in the split.
        gallery: Second visits of those who have one, or None.
        split: Who is what.
        salt: Hash of all images, stored nowhere else: what an outsider who knows the recipe lacks to recompute randomness.
    """

    cohort: Cohort
    gallery: Cohort | None
    split: Split
    salt: str


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Load, check and store the cohort. Its key is made of the dataset, its parameters, the seed and the split."""
    split = Split(**{k: tuple(v) for k, v in spec["split"].items()})
    everybody = sorted({p for f in fields(Split) for p in getattr(split, f.name)})
    dataset = build(spec["dataset"], spec["seed"])
    cohort: Cohort = dataset.load(everybody)
    again = dataset.load(everybody, visits=(1,)) if spec["gallery"] else None
    meta = {"kind": "cohort", "sensitive": not cohort.origin.synthetic}
    with context.store.write(context.job.key, meta) as folder:
        save_cohort(folder / "cohort", cohort)
        if again is not None and len(again):
            save_cohort(folder / "gallery", again)
        dots = {f"{p}|{v}|{z}": d.tolist() for (p, v, z), d in cohort.dots.items()}
        bits = {p: b.astype(int).tolist() for p, b in cohort.canaries.items()}
        (folder / "canaries.json").write_text(json.dumps({"bits": bits, "dots": dots}))
        (folder / "spacing.json").write_text(json.dumps([[p, v, list(mm)] for (p, v), mm in cohort.spacing.items()]))
        (folder / "split.json").write_text(json.dumps(spec["split"]))
        (folder / "salt").write_text(hashlib.sha256(b"salt" + np.ascontiguousarray(cohort.images).tobytes()).hexdigest())
    return {"samples": len(cohort), "digest": cohort.origin.digest}


def load_patients(store: RunStore, key: str) -> Patients:
    """Open the cohort that `run` stored.

    Raises:
        LookupError: It is not there.
    """
    entry = store.get(key)
    if entry is None:
        raise LookupError("the cohort is not in the run store")
    folder = entry.folder
    split = Split(**{k: tuple(v) for k, v in json.loads((folder / "split.json").read_text()).items()})
    planted = json.loads((folder / "canaries.json").read_text())
    plain = load_cohort(folder / "cohort")
    dots = {}
    for name, places in planted["dots"].items():
        patient, visit, position = name.rsplit("|", 2)
        dots[patient, int(visit), int(position)] = np.asarray(places, dtype=np.float32)
    bits = {p: np.asarray(b, dtype=bool) for p, b in planted["bits"].items()}
    known = {(p, v): tuple(mm) for p, v, mm in json.loads((folder / "spacing.json").read_text())}
    cohort = replace(plain, canaries=bits, dots=dots, spacing=known)
    gallery = load_cohort(folder / "gallery") if (folder / "gallery").exists() else None
    return Patients(cohort=cohort, gallery=gallery, split=split, salt=(folder / "salt").read_text())
