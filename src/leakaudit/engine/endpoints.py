"""Endpoints: score, chance and anchor of every patient, and the truth that evidence is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leakaudit.attacks.evidence import EvidenceError
from leakaudit.cohorts.cohort import REGIONS, Cohort, regions
from leakaudit.engine.evidence_matrix import Exchange
from leakaudit.engine.raw import Raw
from leakaudit.scoring.chance import choose
from leakaudit.scoring.checks import Floats, average_by_patient

__all__ = ["Endpoint", "Ground", "choose_chance", "endpoint_of", "patient_mean", "positions", "rows_of", "without_leak"]


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
        exchange: The evidence exchanged between patients, or None.
    """

    name: str
    patients: tuple[str, ...]
    score: Floats
    chance: Floats
    anchor: Floats
    chance_name: str
    raw: Mapping[str, Raw] = field(default_factory=dict)
    exchange: Exchange | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the endpoint as plain JSON."""
        arrays = {k: [float(v) for v in getattr(self, k)] for k in ("score", "chance", "anchor")}
        return {
            "name": self.name, "patients": list(self.patients), "chance_name": self.chance_name, **arrays,
            "raw": {k: r.to_json() for k, r in self.raw.items()},
            "exchange": None if self.exchange is None else self.exchange.to_json(),
        }  # fmt: skip


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
        masks: Whether the adversary is told the masks of the targets.
        attacked: Attacked patients; behind an update others may be, too.
    """

    members: Cohort
    auxiliary: Cohort
    validation: Cohort
    gallery: Cohort | None
    owned: str
    held: tuple[str, ...] = ()
    masks: bool = False
    attacked: tuple[str, ...] = ()


def positions(cohort: Cohort) -> list[int]:
    """Return the slice position of each sample."""
    return [s.position for s in cohort.samples]


def choose_chance(ground: Ground, chance: Callable[[Cohort], dict[str, Any]], score: Callable[[Any, Cohort], Floats]) -> str:
    """Choose the baseline on the validation patients.

    With none, one that is made of something of the target itself (`translated-...`), or else the first in the alphabet that uses
    the auxiliary set.
    """
    if not len(ground.validation):
        return min(chance(ground.members.take([0])), key=lambda name: (name == "flat", not name.startswith("translated"), name))
    patients = [s.patient for s in ground.validation.samples]
    guesses = chance(ground.validation)
    return choose({n: average_by_patient(score(g, ground.validation), patients)[1] for n, g in guesses.items()}).name


def endpoint_of(
    name: str, patients: Sequence[str], score: Floats, chance: Floats, anchor: Floats, chance_name: str, **more: Any
) -> Endpoint:
    """Return an endpoint from scores by sample, averaged within their patient; `more` are its `raw` and `exchange`."""
    keys, s = average_by_patient(score, patients)
    c, a = average_by_patient(chance, patients)[1], average_by_patient(anchor, patients)[1]
    return Endpoint(name=name, patients=keys, score=s, chance=c, anchor=a, chance_name=chance_name, **more)


def patient_mean(values: Floats, patients: Sequence[str], unit: str = "") -> Raw:
    """Return the mean over patients of a score by sample, for display."""
    keys, means = average_by_patient(values, patients)
    return Raw(value=float(means.mean()), unit=unit, n=len(keys))


def rows_of(about: Sequence[str], truth: Mapping[str, int], name: str) -> list[int]:
    """Return the member's row behind each token.

    Raises:
        EvidenceError: A token is unknown.
    """
    unknown = [t for t in about if t not in truth]
    if unknown:
        raise EvidenceError(f"evidence {name!r} is about {len(unknown)} targets that were never in the view")
    return [truth[t] for t in about]


def without_leak(endpoint: Mapping[str, Any], patients: Sequence[str], truth: Cohort) -> dict[str, Any]:
    """Return an endpoint (as JSON) with further patients of whom nothing crossed: they score as chance does.

    Their evidence cannot be exchanged with that of others, since there is none.

    Args:
        endpoint: An endpoint; one of membership is about candidates, who cross no wire, and stays as it is.
        patients: Patient keys.
        truth: Their samples: a patient without the region has no part in an endpoint of its mask.
    """
    region = endpoint["name"].removeprefix("mask-")
    if region in REGIONS:
        column = list(REGIONS).index(region)
        patients = [p for p in patients if regions(truth.of_patients([p]).labels)[:, column].any()]
    if not patients or endpoint["name"] in ("membership", "epsilon"):
        return dict(endpoint)
    count = len(endpoint["score"])
    usual = {k: sum(endpoint[k]) / count for k in ("chance", "anchor")}
    more = {"score": usual["chance"], **usual}
    padded = {k: [*endpoint[k], *[v] * len(patients)] for k, v in more.items()}
    return {**endpoint, **padded, "patients": [*endpoint["patients"], *patients], "exchange": None}
