"""From evidence to numbers: score, chance and anchor of every patient, for each endpoint of each piece of evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.attacks.evidence import EvidenceError, Masks, Values
from leakaudit.cohorts.cohort import REGIONS, Cohort, regions
from leakaudit.scoring.chance import choose, mask_baselines
from leakaudit.scoring.checks import average_by_patient
from leakaudit.scoring.segmentation import sample_dice

__all__ = ["Endpoint", "Floats", "Ground", "choose_chance", "endpoint_of", "positions", "rows_of", "score_masks", "score_values"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One endpoint of one piece of evidence, by patient.

    Attributes:
        name: `"fidelity"`, `"identity"`, `"canary"`, `"mask-WT"`, ...
        patients: Patient keys.
        score: S of each patient; larger is worse for the patient.
        chance: C of each patient.
        anchor: A of each patient.
        chance_name: Which baseline chance is.
        raw: Further numbers to show.
    """

    name: str
    patients: tuple[str, ...]
    score: Floats
    chance: Floats
    anchor: Floats
    chance_name: str
    raw: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the endpoint as plain JSON."""
        arrays = {k: [float(v) for v in getattr(self, k)] for k in ("score", "chance", "anchor")}
        return {"name": self.name, "patients": list(self.patients), "chance_name": self.chance_name, "raw": self.raw, **arrays}


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The truth that evidence is held against.

    Attributes:
        members: The members' samples, in the order of the training's rows.
        auxiliary: Patients the adversary owns; chance is built from them.
        validation: Patients that the choice of chance is made on.
        gallery: Other visits, or None.
        owned: What the adversary's auxiliary images are (`"none"`, `"noise"`, ...).
        held: Modalities that the adversary's own seats hold of the targets.
    """

    members: Cohort
    auxiliary: Cohort
    validation: Cohort
    gallery: Cohort | None
    owned: str
    held: tuple[str, ...] = ()


def positions(cohort: Cohort) -> list[int]:
    """Return the slice position of each sample."""
    return [s.position for s in cohort.samples]


def choose_chance(ground: Ground, chance: Callable[[Cohort], dict[str, Any]], score: Callable[[Any, Cohort], Floats]) -> str:
    """Choose the baseline on the validation patients; with none, the first in the alphabet that uses the auxiliary set."""
    if not len(ground.validation):
        return min(chance(ground.members.take([0])), key=lambda name: (name == "flat", name))
    patients = [s.patient for s in ground.validation.samples]
    guesses = chance(ground.validation)
    return choose({n: average_by_patient(score(g, ground.validation), patients)[1] for n, g in guesses.items()}).name


def endpoint_of(
    name: str, patients: Sequence[str], score: Floats, chance: Floats, anchor: Floats, chance_name: str,
    raw: dict[str, float] | None = None,
) -> Endpoint:  # fmt: skip
    """Return an endpoint from scores by sample, averaged within their patient."""
    keys, s = average_by_patient(score, patients)
    c, a = average_by_patient(chance, patients)[1], average_by_patient(anchor, patients)[1]
    return Endpoint(name=name, patients=keys, score=s, chance=c, anchor=a, chance_name=chance_name, raw=raw or {})


def score_masks(evidence: Masks, rows: Sequence[int], ground: Ground) -> list[Endpoint]:
    """Score stolen masks: Dice per region against the best prior mask; patients without the region are left out of it."""
    truth = ground.members.take(rows)
    if evidence.masks.shape[2:] != truth.shape:
        raise EvidenceError(f"evidence {evidence.name!r}: masks of {evidence.masks.shape[2:]}, the cohort has {truth.shape}")
    prior = regions(ground.auxiliary.labels)

    def chance_of(cohort: Cohort) -> dict[str, Any]:
        return dict(mask_baselines(prior, positions(ground.auxiliary), positions(cohort)))

    endpoints = []
    for column, region in enumerate(REGIONS):

        def dice(guess: Any, cohort: Cohort, column: int = column) -> Floats:
            scores = sample_dice(np.asarray(guess) > 0.5, regions(cohort.labels) > 0, list(REGIONS)).values[:, column]
            return np.nan_to_num(scores, nan=0.0)

        there = [i for i in range(len(truth)) if regions(truth.labels[i : i + 1])[0, column].any()]
        if not there:
            continue
        some = truth.take(there)
        name = choose_chance(ground, chance_of, dice)
        score, blind = dice(evidence.masks[there], some), dice(chance_of(some)[name], some)
        patients = [s.patient for s in some.samples]
        endpoints.append(endpoint_of(f"mask-{region}", patients, score, blind, np.ones_like(score), name))
    return endpoints


def score_values(evidence: Values, rows: Sequence[int], ground: Ground) -> list[Endpoint]:
    """Score guessed tumor volumes (share of brain voxels): minus the absolute error of the logarithm."""

    def volume(cohort: Cohort) -> Floats:
        axes = tuple(range(1, cohort.labels.ndim))
        return np.asarray((cohort.labels > 0).sum(axis=axes) / cohort.brain.sum(axis=axes))

    truth = ground.members.take(rows)
    least = 1e-4  # keeps the logarithm of an absent tumor finite

    def score(guess: Any) -> Floats:
        wrong = np.log(np.maximum(guess, least)) - np.log(np.maximum(volume(truth), least))
        return np.asarray(-np.abs(wrong))

    blind = np.full(len(truth), float(np.median(volume(ground.auxiliary))))
    patients = [s.patient for s in truth.samples]
    return [endpoint_of(evidence.quantity, patients, score(evidence.values), score(blind), np.zeros(len(truth)), "median")]


def rows_of(about: Sequence[str], truth: Mapping[str, int], name: str) -> list[int]:
    """Return the member's row behind each token.

    Raises:
        EvidenceError: A token is unknown.
    """
    unknown = [t for t in about if t not in truth]
    if unknown:
        raise EvidenceError(f"evidence {name!r} is about {len(unknown)} targets that were never in the view")
    return [truth[t] for t in about]
