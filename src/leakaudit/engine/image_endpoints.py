"""Endpoints of reconstructed images: fidelity inside the brain, identity, canary bits, and pictures to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError, Images
from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.endpoints import Endpoint, Floats, Ground, choose_chance, endpoint_of, positions
from leakaudit.engine.identity_endpoints import score_canary, score_identity
from leakaudit.scoring.chance import image_baselines
from leakaudit.scoring.holdings import fit_translation
from leakaudit.scoring.images import masked_mse, masked_psnr, masked_ssim

__all__ = ["Picture", "score_images"]

PICTURES = 4


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Original, reconstruction and chance image of one patient, first modality, (H, W), scaled to [0, 1]."""

    patient: str
    original: Floats
    reconstruction: Floats
    chance: Floats
    score: float


def _ranges(cohort: Cohort) -> Floats:
    """Return the data range of each modality: 0.5th to 99.5th percentile inside the auxiliary brains."""
    spread = []
    for i in range(len(cohort.modalities)):
        low, high = np.percentile(cohort.images[:, i][cohort.brain], [0.5, 99.5])
        spread.append(max(float(high - low), 1e-6))
    return np.array(spread)


def _by_modality(metric: Callable[..., Floats], guess: Any, truth: Cohort, ranges: Floats) -> Floats:
    scores = [metric(guess[:, i], truth.images[:, i], truth.brain, ranges[i]) for i in range(len(truth.modalities))]
    return np.asarray(np.mean(scores, axis=0))


def _image_chance(ground: Ground, modalities: Sequence[str], targets: Cohort) -> dict[str, Any]:
    """Return the baselines for `targets`: what the adversary could say without the messages."""
    auxiliary = ground.auxiliary.channels(modalities)
    flat = {"flat": np.zeros((len(targets), len(modalities), *targets.shape))}
    if ground.owned in ("none", "noise"):
        return flat
    found: dict[str, Any] = flat | image_baselines(auxiliary.images, auxiliary.brain, positions(auxiliary), positions(targets))
    if ground.held:
        held, mine = ground.auxiliary.channels(ground.held), targets.channels(ground.held)
        found["translated-holdings"] = np.stack(
            [fit_translation(held.images, auxiliary.images[:, i]).apply(mine.images) for i in range(len(modalities))], axis=1
        )
    return found


def score_images(evidence: Images, rows: Sequence[int], ground: Ground) -> tuple[list[Endpoint], list[Picture]]:
    """Score reconstructed images for fidelity (brain-masked SSIM), identity (rank-1 among other visits), and canary bits.

    Args:
        evidence: The images.
        rows: Row among the members behind each image.
        ground: The truth.

    Raises:
        EvidenceError: Shapes do not fit the cohort.
    """
    whole = ground.members.take(rows)
    if evidence.images.shape[2:] != whole.shape or not set(evidence.modalities) <= set(whole.modalities):
        raise EvidenceError(
            f"evidence {evidence.name!r}: images of {evidence.images.shape[1:]} ({', '.join(evidence.modalities)}); "
            f"the cohort has {whole.shape} with {', '.join(whole.modalities)}"
        )
    truth = whole.channels(evidence.modalities)
    ranges = _ranges(ground.auxiliary.channels(evidence.modalities))
    patients = [s.patient for s in truth.samples]

    def chance_of(cohort: Cohort) -> dict[str, Any]:
        return _image_chance(ground, evidence.modalities, cohort if ground.held else cohort.channels(evidence.modalities))

    def ssim(guess: Any, cohort: Cohort) -> Floats:
        return _by_modality(masked_ssim, guess, cohort.channels(evidence.modalities), ranges)

    name = choose_chance(ground, chance_of, ssim)
    guess = chance_of(whole)[name]
    score, blind = ssim(evidence.images, whole), ssim(guess, whole)
    error, blind_error = (_by_modality(lambda g, t, b, r: masked_mse(g, t, b), g, truth, ranges) for g in (evidence.images, guess))
    raw = {
        "ssim": float(score.mean()), "ssim_chance": float(blind.mean()), "mse": float(error.mean()),
        "mse_chance": float(blind_error.mean()), "mse_leakage": float(1 - error.sum() / blind_error.sum()),
        "psnr_db": float(_by_modality(masked_psnr, evidence.images, truth, ranges).mean()),
    }  # fmt: skip
    found = [endpoint_of("fidelity", patients, score, blind, np.ones_like(score), name, raw)]
    identity = score_identity(evidence.images, truth, ground)
    endpoints = [e for e in (*found, identity, *score_canary(evidence.images, truth, ground)) if e is not None]
    return endpoints, _pictures(evidence.images, guess, truth, score)


def _pictures(images: Any, guess: Any, truth: Cohort, score: Floats) -> list[Picture]:
    """Return pictures of the first sample of a few patients, evenly over the scores: the best, the worst, and between."""
    first = {s.patient: i for i, s in reversed(list(enumerate(truth.samples)))}
    order = sorted(first.values(), key=lambda i: -score[i])
    chosen = [order[round(k * (len(order) - 1) / (PICTURES - 1))] for k in range(PICTURES)] if order else []
    pictures = []
    for i in dict.fromkeys(chosen):
        low, high = np.percentile(truth.images[i, 0], [0.5, 99.5])
        flat = [_slice((np.asarray(a[i, 0]) - low) / max(float(high - low), 1e-6)) for a in (truth.images, images, guess)]
        pictures.append(
            Picture(
                patient=truth.samples[i].patient,
                original=flat[0],
                reconstruction=flat[1],
                chance=flat[2],
                score=float(score[i]),
            )
        )
    return pictures


def _slice(image: Floats) -> Floats:
    """Return the middle slice of a volume, or the image itself."""
    return np.clip(image[len(image) // 2] if image.ndim == 3 else image, 0.0, 1.0)
