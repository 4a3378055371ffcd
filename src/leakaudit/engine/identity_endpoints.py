"""Who is it? Re-identification of reconstructed images among other visits, and planted identity bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.endpoints import Endpoint, Ground, endpoint_of, patient_mean, positions
from leakaudit.engine.evidence_matrix import Exchange, chosen_patients
from leakaudit.engine.raw import Raw
from leakaudit.scoring.canary import CANARY_CHANCE, bit_accuracy
from leakaudit.scoring.chance import position_mean
from leakaudit.scoring.checks import Floats, average_by_patient
from leakaudit.scoring.exchange import by_evidence
from leakaudit.scoring.identity import (
    Identification,
    common_images,
    identify,
    masked_ncc,
    patient_similarity,
    without_common,
)
from leakaudit.scoring.leakage import MIN_ROOM

__all__ = ["Likeness", "gallery_for", "identity_numbers", "score_canary", "score_identity"]

GALLERY = 100
"""Patients in a gallery at most, so that rank-1 means the same in small and large cohorts."""


def score_identity(
    images: Any, guess: Any, truth: Cohort, ground: Ground, *, shown: bool = True, told: tuple[str, Any] | None = None
) -> Endpoint | None:
    """Return rank-1 re-identification in a gallery of other visits (of the same visit where there is no other).

    Args:
        images: Reconstructions, (rows, modalities, *spatial).
        guess: The blind guesses that chance of fidelity is; exchanged similarities are held against theirs.
        truth: The true samples of these rows.
        ground: The truth.
        shown: Whether raw numbers and exchanged evidence are wanted, too.
        told: What an adversary makes of what it holds or knows of the same patients, as `BlindImages.told` gives it. Chance is
            then how often that finds the patient.

    Returns:
        None where patients have no other visit in the gallery, or where what the adversary has of them finds them about as often as
        the true images do, so that messages can tell it nothing more.
    """
    gallery = gallery_for(truth, ground)
    if gallery is None:
        return None
    alike = Likeness(truth, gallery, ground.auxiliary.channels(truth.modalities))
    keys, columns, matrix = alike.of(images)
    places = [columns.index(p) for p in keys]
    found, best = identify(matrix, places), identify(alike.of(truth.images)[2], places)
    chance, name = np.full(len(keys), found.chance), f"1 of {found.gallery}"
    if told is not None:
        chance, name = np.maximum(chance, identify(alike.of(told[1])[2], places).rank1), told[0]
        if float((best.rank1 - chance).mean()) < MIN_ROOM:
            return None
    more: dict[str, Any] = {}
    if shown:
        more["raw"] = identity_numbers(found, best, other=ground.gallery is not None)
        more["exchange"] = _exchange_likeness(keys, columns, matrix, alike.of(guess)[2], truth)
    return Endpoint(
        name="identity", patients=keys, score=found.rank1, chance=chance, anchor=best.rank1, chance_name=name, **more,
    )  # fmt: skip


def gallery_for(truth: Cohort, ground: Ground) -> Cohort | None:
    """Return the images among which attacked patients are sought; None where some of them have no other visit there."""
    source = ground.gallery if ground.gallery is not None else ground.members
    attacked = list(truth.patients)
    have = set(source.patients)
    if not set(attacked) <= have or len(have) < 2:
        return None
    others = [p for p in source.patients if p not in set(attacked)]
    chosen = set((attacked + others)[: max(GALLERY, len(attacked))])
    return source.channels(truth.modalities).where(lambda s: s.patient in chosen)


class Likeness:
    """Compares queries with a gallery, patient by patient: at equal slice positions where all pairs of patients share some.

    What all patients share at a position is taken out of both first.

    Args:
        truth: The true samples of the queries.
        gallery: The gallery.
        auxiliary: Patients that the population's images are made of.
    """

    def __init__(self, truth: Cohort, gallery: Cohort, auxiliary: Cohort) -> None:
        self._gallery, self._modalities = gallery, range(len(truth.modalities))
        self._common = _population(auxiliary, positions(truth) + positions(gallery))
        self._entries = [without_common(gallery.images[:, i], self._common[i]) for i in self._modalities]
        self._patients, self._names = [s.patient for s in truth.samples], [s.patient for s in gallery.samples]
        same = np.array(positions(truth))[:, None] == np.array(positions(gallery))[None, :]
        self._comparable = same if _connected(same, self._patients, self._names) else np.ones_like(same)

    def of(self, queries: Any, together: Sequence[Sequence[int]] = ()) -> tuple[tuple[str, ...], tuple[str, ...], Floats]:
        """Return query patients, gallery patients, and their mean correlation inside the gallery's brains.

        Args:
            queries: One image for each true sample.
            together: Rows in no known order among themselves: the one most alike counts for each of them.
        """
        asked = [without_common(np.asarray(queries)[:, i], self._common[i]) for i in self._modalities]
        pairs = [masked_ncc(a, entry, self._gallery.brain) for a, entry in zip(asked, self._entries, strict=True)]
        alike = np.mean(pairs, axis=0)
        for rows in together:
            alike[list(rows)] = alike[list(rows)].max(axis=0)
        return patient_similarity(alike, self._patients, self._names, self._comparable)


def _population(auxiliary: Cohort, at: Sequence[int]) -> list[Floats]:
    """Return for each modality what the population shares at the slice positions `at`, as `common_images` gives it."""
    where = sorted(set(at))
    if not len(auxiliary):
        return [np.zeros((0, *auxiliary.shape)) for _ in auxiliary.modalities]
    means = position_mean(auxiliary.images, positions(auxiliary), where)
    return [common_images(means[:, i]) for i in range(len(auxiliary.modalities))]


def _connected(comparable: NDArray[np.bool_], queries: Sequence[str], gallery: Sequence[str]) -> bool:
    pairs: dict[tuple[str, str], bool] = {}
    for i, q in enumerate(queries):
        for j, g in enumerate(gallery):
            pairs[q, g] = pairs.get((q, g), False) or bool(comparable[i, j])
    return all(pairs.values())


def identity_numbers(found: Identification, best: Identification, *, other: bool) -> dict[str, Raw]:
    """Return ranks and the gallery's size, for display; `other` says whether the gallery shows another visit."""
    n = len(found.rank)
    visit = "1: another visit of each patient; 0: the attacked images themselves, for want of another visit"
    return {
        "rank_1": Raw(value=float(found.rank1.mean()), unit=f"of patients found first among {found.gallery}", n=n),
        "rank_1_of_truth": Raw(value=float(best.rank1.mean()), unit="with the true images as evidence", n=n),
        "mean_rank": Raw(value=float(found.rank.mean()), unit=f"of {found.gallery}; {(found.gallery + 1) / 2:g} by guessing", n=n),
        "rank_score": Raw(value=float(found.score.mean()), unit="-1 last, 0 by guessing, 1 first", n=n),
        "gallery_size": Raw(value=float(found.gallery), unit="patients"),
        "gallery_of_other_visit": Raw(value=float(other), unit=visit),
    }


def _exchange_likeness(
    keys: Sequence[str], columns: Sequence[str], matrix: Floats, blind: Floats, truth: Cohort
) -> Exchange | None:
    """Exchange evidence on the similarity that ranks are made from: of every attacked patient to every one's gallery entry.

    Each row is in units of its own spread, because a rank asks how far the right entry stands out from the others.
    """
    chosen = chosen_patients(keys)
    if len(chosen) < 2:
        return None
    square = np.ix_([keys.index(p) for p in chosen], [columns.index(p) for p in chosen])
    found = Exchange.of(chosen, truth, matrix[square], blind[square])
    return replace(found, matrix=by_evidence(found.matrix))


def score_canary(images: Any, truth: Cohort, ground: Ground, *, shown: bool = True) -> Endpoint | None:
    """Return the share of planted identity bits that can be read from the reconstruction; None where none were planted."""
    planted = ground.members.canaries
    channel = next((m for m in ("t2", "flair") if m in truth.modalities), None)
    if not planted or channel is None:
        return None
    from leakaudit.cohorts.phantom.canary import decode

    i = truth.modalities.index(channel)
    sign = -1.0 if channel == "flair" else 1.0  # dots are dark on FLAIR
    patients: list[str] = []
    read: list[Any] = []
    best: list[Any] = []
    for k, s in enumerate(truth.samples):
        dots = ground.members.dots.get((s.patient, s.visit, s.position))
        if s.patient not in planted or dots is None or not len(dots):
            continue
        patients.append(s.patient)
        for source, into in ((images, read), (truth.images, best)):
            into.append(decode(np.asarray(source[k, i]) * sign, dots)[0])
    if not patients:
        return None
    true = [planted[p] for p in patients]
    score, anchor = bit_accuracy(read, true), bit_accuracy(best, true)
    more: dict[str, Any] = {}
    if shown:
        unit = f"of {len(true[0])} bits"
        more["raw"] = {
            "bit_accuracy": patient_mean(score, patients, unit),
            "bit_accuracy_of_truth": patient_mean(anchor, patients, f"{unit}, from the true images"),
        }
        more["exchange"] = _exchange_bits(read, planted, patients, truth)
    return endpoint_of("canary", patients, score, np.full(len(score), CANARY_CHANCE), anchor, "fair coin", **more)


def _exchange_bits(read: Sequence[Any], planted: Any, patients: Sequence[str], truth: Cohort) -> Exchange | None:
    """Exchange evidence: agreement of the bits read for one patient with the bits of each other one, over all samples."""
    chosen = chosen_patients(patients)
    if len(chosen) < 2:
        return None
    theirs = np.array([planted[p] for p in chosen])
    agreement = np.array([(np.asarray(bits) == theirs).mean(axis=1) for bits in read])
    keys, means = average_by_patient(agreement.T, patients)
    scores = means.T[[keys.index(p) for p in chosen]]
    return Exchange.of(chosen, truth, scores, np.full(scores.shape, CANARY_CHANCE))
