"""Endpoints of evidence about whole updates: who and what is behind one, without knowing the order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import Evidence, EvidenceError, Images, Masks, Values
from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.blind_images import BlindImages
from leakaudit.engine.endpoints import Endpoint, Ground
from leakaudit.engine.identity_endpoints import Likeness, gallery_for, identity_numbers
from leakaudit.engine.image_endpoints import Picture, paired_ssim, ranges_of, score_images, ssim_of
from leakaudit.engine.mask_endpoints import paired_dice, score_masks, score_values
from leakaudit.engine.unordered import Behind, behind, expanded, reordered
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.identity import Identification, identify
from leakaudit.scoring.leakage import MIN_ROOM

__all__ = ["score_updates"]

_NEVER = -2.0
"""Below every correlation."""


def score_updates(
    evidence: Evidence, truth: Mapping[str, Sequence[int]], ground: Ground, *, shown: bool = True
) -> tuple[list[Endpoint], list[Picture]]:
    """Score evidence about updates for the attacked patients behind them.

    Args:
        evidence: Images or masks in no known order, at least as many for an update as there are samples behind it, or values.
        truth: Rows among the members behind each update.
        ground: The truth.
        shown: Whether raw numbers, exchanged evidence and pictures are wanted, too.

    Raises:
        EvidenceError: Evidence does not fit, or an attacked patient is behind none of the updates.
    """
    found = behind(evidence.about, truth, evidence.name)
    kept = _kept(found, ground, evidence.name)
    rows, groups = [found.rows[i] for i in kept], [found.group[i] for i in kept]
    about = tuple(evidence.about[found.places[g][0]] for g in groups)
    if isinstance(evidence, Values):
        values = replace(evidence, values=expanded(found, evidence.values)[kept].astype(np.float32), about=about)
        return score_values(values, rows, ground, shown=shown, groups=() if found.alone else _whole(found, groups)), []
    if isinstance(evidence, Masks):
        order = _order(found, evidence, ground)
        masks = replace(evidence, masks=evidence.masks[[order[i] for i in kept]], about=about)
        return score_masks(masks, rows, ground, shown=shown, groups=() if found.alone else groups), []
    if not isinstance(evidence, Images):
        raise EvidenceError(f"evidence {evidence.name!r}: {type(evidence).__name__} cannot be about an update")
    order = _order(found, evidence, ground)
    images = replace(evidence, images=evidence.images[[order[i] for i in kept]], about=about)
    blind = BlindImages(ground, evidence.modalities)
    endpoints, pictures = score_images(images, rows, ground, shown=shown, groups=() if found.alone else groups, blind=blind)
    if not found.alone:
        identity = _identity(evidence.images[order], found, ground, evidence.modalities, blind, shown=shown)
        endpoints = endpoints if identity is None else [endpoints[0], identity, *endpoints[1:]]
    return endpoints, pictures


def _kept(found: Behind, ground: Ground, name: str) -> list[int]:
    """Return the samples of attacked patients.

    Raises:
        EvidenceError: Some attacked patient is behind no update: a patient is never dropped without a word.
    """
    names = [ground.members.samples[row].patient for row in found.rows]
    missing = set(ground.attacked) - set(names)
    if missing:
        raise EvidenceError(
            f"evidence {name!r}: {len(missing)} of {len(ground.attacked)} attacked patients are behind none of the recorded "
            "updates; let the attack read more rounds"
        )
    return [i for i, patient in enumerate(names) if patient in set(ground.attacked)]


def _order(found: Behind, evidence: Images | Masks, ground: Ground) -> list[int]:
    """Return which row of the evidence is held against each sample.

    Raises:
        EvidenceError: Shapes do not fit the cohort.
    """
    members = ground.members
    known = isinstance(evidence, Masks) or set(evidence.modalities) <= set(members.modalities)
    if evidence.array.shape[2:] != members.shape or not known:
        raise EvidenceError(f"evidence {evidence.name!r}: {evidence.array.shape[1:]}; the cohort has samples of {members.shape}")
    if found.alone:
        return [rows[0] for rows in found.places]
    if isinstance(evidence, Masks):
        masks = evidence.masks
        return reordered(found, lambda i, j: paired_dice(masks[list(i)], _true(found, ground, j)), evidence.name)
    ranges, images, names = ranges_of(ground, evidence.modalities), evidence.images, evidence.modalities
    return reordered(
        found, lambda i, j: paired_ssim(images[list(i)], _true(found, ground, j).channels(names), ranges), evidence.name
    )


def _true(found: Behind, ground: Ground, samples: Sequence[int]) -> Cohort:
    return ground.members.take([found.rows[j] for j in samples])


def _whole(found: Behind, groups: Sequence[int]) -> list[list[int]]:
    """Return the rows of all samples behind each of these updates."""
    return [[row for row, k in zip(found.rows, found.group, strict=True) if k == g] for g in groups]


def _identity(
    images: Any, found: Behind, ground: Ground, modalities: Sequence[str], blind: BlindImages, *, shown: bool
) -> Endpoint | None:
    """Return rank-1 re-identification of the attacked patients behind updates: is this patient's image among those of the update?

    The nearest image of an update counts for each patient behind it, and the other patients behind it are no wrong answers, so
    that chance is 1 among the rest of the gallery, or for an adversary that knows something of the patients behind an update how
    often that finds one. None where there is nothing to tell, as in `score_identity`.
    """
    whole = ground.members.take(list(found.rows))
    truth = whole.channels(modalities)
    gallery = gallery_for(truth, ground)
    if gallery is None:
        return None
    groups = [[i for i, k in enumerate(found.group) if k == g] for g in range(len(found.places))]
    alike = Likeness(truth, gallery, ground.auxiliary.channels(modalities))
    keys, columns, seen = alike.of(images, groups)
    names = [s.patient for s in truth.samples]
    rivals = {p: {names[i] for rows in groups if p in {names[k] for k in rows} for i in rows} - {p} for p in keys}
    asked = [row for row, patient in enumerate(keys) if patient in set(ground.attacked)]
    patients = tuple(keys[row] for row in asked)

    def ranks_of(scores: Floats) -> Identification:
        for row, patient in enumerate(keys):
            scores[row, [columns.index(r) for r in rivals[patient] if r in columns]] = _NEVER
        return identify(scores[asked], [columns.index(p) for p in patients])

    ranks, best = ranks_of(seen), ranks_of(alike.of(truth.images, groups)[2])
    left = np.array([len(columns) - len(rivals[p] & set(columns)) for p in patients], dtype=np.float64)
    chance, name = 1 / left, f"1 of {left.mean():.0f}"
    told = blind.told(blind.about(whole), ssim_of(modalities, ranges_of(ground, modalities)))
    if told is not None:
        chance, name = np.maximum(chance, ranks_of(alike.of(told[1], groups)[2]).rank1), told[0]
        if float((best.rank1 - chance).mean()) < MIN_ROOM:
            return None
    more: dict[str, Any] = {"raw": identity_numbers(ranks, best, other=ground.gallery is not None)} if shown else {}
    return Endpoint(
        name="identity", patients=patients, score=ranks.rank1, chance=chance, anchor=best.rank1, chance_name=name, **more,
    )  # fmt: skip
