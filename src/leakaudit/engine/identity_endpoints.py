"""Who is it? Re-identification of reconstructed images among other visits, and planted identity bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.endpoints import Endpoint, Ground, endpoint_of, positions
from leakaudit.scoring.identity import identify, masked_ncc, patient_similarity

__all__ = ["score_canary", "score_identity"]

GALLERY = 100
"""Patients in a gallery at most, so that rank-1 means the same in small and large cohorts."""


def score_identity(images: Any, truth: Cohort, ground: Ground) -> Endpoint | None:
    """Return rank-1 re-identification in a gallery of other visits (of the same visit where there is no other)."""
    source = ground.gallery if ground.gallery is not None else ground.members
    attacked = list(truth.patients)
    have = set(source.patients)
    if not set(attacked) <= have or len(have) < 2:
        return None
    others = [p for p in source.patients if p not in set(attacked)]
    chosen = set((attacked + others)[: max(GALLERY, len(attacked))])
    gallery = source.channels(truth.modalities).where(lambda s: s.patient in chosen)
    at, there = np.array(positions(truth)), np.array(positions(gallery))
    comparable = at[:, None] == there[None, :]
    patients, names = [s.patient for s in truth.samples], [s.patient for s in gallery.samples]
    if not _connected(comparable, patients, names):
        comparable = np.ones_like(comparable)

    def ranks(queries: Any) -> Any:
        likeness = np.mean(
            [masked_ncc(queries[:, i], gallery.images[:, i], gallery.brain) for i in range(len(truth.modalities))], axis=0
        )
        rows, columns, matrix = patient_similarity(likeness, patients, names, comparable)
        return rows, identify(matrix, [columns.index(p) for p in rows])

    keys, found = ranks(images)
    _, best = ranks(np.asarray(truth.images))
    visit = 1.0 if ground.gallery is not None else 0.0
    raw = {"rank1": float(found.rank1.mean()), "mean_rank": float(found.rank.mean()), "gallery": float(found.gallery)}
    raw |= {"rank_score": float(found.score.mean()), "other_visit": visit, "rank1_of_truth": float(best.rank1.mean())}
    return Endpoint(
        name="identity", patients=keys, score=found.rank1, chance=np.full(len(keys), found.chance), anchor=best.rank1,
        chance_name=f"1 of {found.gallery}", raw=raw,
    )  # fmt: skip


def _connected(comparable: NDArray[np.bool_], queries: Sequence[str], gallery: Sequence[str]) -> bool:
    pairs: dict[tuple[str, str], bool] = {}
    for i, q in enumerate(queries):
        for j, g in enumerate(gallery):
            pairs[q, g] = pairs.get((q, g), False) or bool(comparable[i, j])
    return all(pairs.values())


def score_canary(images: Any, truth: Cohort, ground: Ground) -> list[Endpoint]:
    """Return the share of planted identity bits that can be read from the reconstruction."""
    planted = ground.members.canaries
    channel = next((m for m in ("t2", "flair") if m in truth.modalities), None)
    if not planted or channel is None:
        return []
    from leakaudit.cohorts.phantom.canary import decode

    i = truth.modalities.index(channel)
    patients: list[str] = []
    read: list[float] = []
    best: list[float] = []
    for k, s in enumerate(truth.samples):
        dots = ground.members.dots.get((s.patient, s.visit, s.position))
        if s.patient not in planted or dots is None or not len(dots):
            continue
        patients.append(s.patient)
        for source, into in ((images, read), (truth.images, best)):
            bits, _ = decode(np.asarray(source[k, i]) * (-1.0 if channel == "flair" else 1.0), dots)
            into.append(float((bits == planted[s.patient]).mean()))
    if not patients:
        return []
    half = np.full(len(read), 0.5)
    return [endpoint_of("canary", patients, np.array(read), half, np.array(best), "fair coin")]
