"""What lies in a view beside messages: cohorts as files, defenses as far as they are public, canaries, shadow models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leakaudit.cohorts.cohort import Cohort, Origin, Sample
from leakaudit.models.canary import GradientCanary

__all__ = ["DefenseFacts", "PlantedGradient", "Shadow", "load_cohort", "save_cohort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseFacts:
    """What is public about one defense: its name always, its target and parameters where `"defense"` is granted.

    Attributes:
        name: Plugin name.
        seats: Roles that carry it.
        stochastic: Whether what it sends is randomized.
        target: `"package.module:Class"`, or None where not granted.
        params: Its parameters, or None where not granted.
        params_target: Its params model, or None where not granted.
    """

    name: str
    seats: tuple[str, ...]
    stochastic: bool
    target: str | None = None
    params: Mapping[str, Any] | None = None
    params_target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedGradient:
    """A gradient canary of this attack; whether training included it is not told.

    Attributes:
        token: Its token as a candidate.
        seat: Seat that holds it if it is included.
        canary: What it is.
    """

    token: str
    seat: str
    canary: GradientCanary


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A shadow model of the engine.

    Attributes:
        state: Its weights, as a network of the task has them (`view.task.build()`).
        members: Tokens of the candidates it was trained on.
        own: Tokens of those of the adversary's own patients (`view.auxiliary`) that it was trained on: known members, and the
            others known non-members, whatever the pool.
    """

    state: Mapping[str, torch.Tensor]
    members: tuple[str, ...]
    own: tuple[str, ...] = ()


def save_cohort(folder: Path, cohort: Cohort) -> None:
    """Write a cohort as `.npy` arrays and `cohort.json`; what is written is all that is read back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "labels", "brain"):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(getattr(cohort, name)))
    origin = {f.name: getattr(cohort.origin, f.name) for f in fields(Origin)}
    samples = [[s.patient, s.site, s.visit, s.position] for s in cohort.samples]
    meta = {"modalities": cohort.modalities, "samples": samples, "origin": origin}
    (folder / "cohort.json").write_text(json.dumps(meta))


def load_cohort(folder: Path) -> Cohort:
    """Read a cohort that `save_cohort` wrote; arrays are memory-mapped."""
    meta = json.loads((folder / "cohort.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels", "brain")}
    samples = tuple(Sample(patient=p, site=s, visit=v, position=z) for p, s, v, z in meta["samples"])
    origin = {**meta["origin"], "notes": tuple(meta["origin"]["notes"])}
    return Cohort(**arrays, samples=samples, modalities=tuple(meta["modalities"]), origin=Origin(**origin))
