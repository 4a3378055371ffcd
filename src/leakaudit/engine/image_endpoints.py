"""Endpoints of reconstructed images: fidelity inside the brain, identity, canary bits, and pictures to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError, Images
from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.blind_images import BlindImages
from leakaudit.engine.endpoints import Endpoint, Ground, choose_chance, endpoint_of, patient_mean
from leakaudit.engine.evidence_matrix import exchange_images
from leakaudit.engine.identity_endpoints import score_canary, score_identity
from leakaudit.engine.raw import Raw
from leakaudit.engine.unordered import same_matching
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.images import masked_mse, masked_nmi, masked_psnr, masked_ssim, ms_ssim, ms_ssim_scales

__all__ = ["Picture", "paired_ssim", "ranges_of", "score_images", "ssim_of"]

PICTURES = 4


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Original, reconstruction and chance image of one patient, first modality, (H, W), scaled to [0, 1]."""

    patient: str
    original: Floats
    reconstruction: Floats
    chance: Floats
    score: float


def score_images(
    evidence: Images, rows: Sequence[int], ground: Ground, *, shown: bool = True, groups: Sequence[int] = (),
    blind: BlindImages | None = None,
) -> tuple[list[Endpoint], list[Picture]]:  # fmt: skip
    """Score reconstructed images for fidelity (brain-masked SSIM), identity (rank-1 among other visits), and canary bits.

    Args:
        evidence: The images.
        rows: Row among the members behind each image.
        ground: The truth.
        shown: Whether raw numbers, exchanged evidence and pictures are wanted, too.
        groups: Update of each row, where images were matched to the samples behind it; chance is matched in the same way, nothing
            is exchanged, and identity, which needs no matching, is left to the caller.
        blind: Guesses without the messages about these modalities, if somebody else needs them, too.

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
    ranges = ranges_of(ground, evidence.modalities)
    patients = [s.patient for s in truth.samples]

    blind = blind or BlindImages(ground, evidence.modalities)
    ssim = ssim_of(evidence.modalities, ranges)
    name, guesses = choose_chance(ground, blind.about, ssim), blind.about(whole)
    guess: Any = guesses[name]
    if groups:
        guess = guess[same_matching(groups, lambda i, j: paired_ssim(guess[i], truth.take(j), ranges))]
    score, without = ssim(evidence.images, whole), ssim(guess, whole)
    more: dict[str, Any] = {}
    if shown:
        more["raw"] = {
            "ssim": patient_mean(score, patients, "inside the brain"),
            "ssim_of_chance": patient_mean(without, patients, "inside the brain"),
            **_numbers(evidence.images, guess, truth, ranges),
        }
        more["exchange"] = None if groups else exchange_images(evidence.images, guess, truth, ranges)
    fidelity = endpoint_of("fidelity", patients, score, without, np.ones_like(score), name, **more)
    told = None if groups else blind.told(guesses, ssim)
    identity = None if groups else score_identity(evidence.images, guess, truth, ground, shown=shown, told=told)
    endpoints = [e for e in (fidelity, identity, score_canary(evidence.images, truth, ground, shown=shown)) if e is not None]
    return endpoints, _pictures(evidence.images, guess, truth, score) if shown else []


def ranges_of(ground: Ground, modalities: Sequence[str]) -> Floats:
    """Return the data range of each modality by the auxiliary patients, or for want of them by the members."""
    return _ranges((ground.auxiliary if len(ground.auxiliary) else ground.members).channels(modalities))


def ssim_of(modalities: Sequence[str], ranges: Floats) -> Callable[[Any, Cohort], Floats]:
    """Return the masked SSIM of guesses with the samples of a cohort, mean over the modalities guessed, by sample."""
    return lambda guess, cohort: _by_modality(masked_ssim, guess, cohort.channels(modalities), ranges)


def paired_ssim(images: Any, truth: Cohort, ranges: Floats) -> Floats:
    """Return the masked SSIM of every image with every sample, mean over modalities, shape (images, samples)."""
    return np.stack([_by_modality(masked_ssim, np.repeat(image[None], len(truth), axis=0), truth, ranges) for image in images])


def _ranges(cohort: Cohort) -> Floats:
    """Return the data range of each modality: 0.5th to 99.5th percentile inside the brains of a cohort."""
    spread = []
    for i in range(len(cohort.modalities)):
        low, high = np.percentile(cohort.images[:, i][cohort.brain], [0.5, 99.5])
        spread.append(max(float(high - low), 1e-6))
    return np.array(spread)


def _by_modality(metric: Callable[..., Floats], guess: Any, truth: Cohort, ranges: Floats) -> Floats:
    scores = [metric(guess[:, i], truth.images[:, i], truth.brain, ranges[i]) for i in range(len(truth.modalities))]
    return np.asarray(np.mean(scores, axis=0))


def _numbers(images: Any, guess: Any, truth: Cohort, ranges: Floats) -> dict[str, Raw]:
    """Return the scores that are shown beside leakage: means over patients of the mean over samples and modalities."""
    patients = [s.patient for s in truth.samples]

    def mean(metric: Callable[..., Floats], shown: Any, unit: str = "") -> Raw:
        return patient_mean(_by_modality(metric, shown, truth, ranges), patients, unit)

    def squared(g: Any, t: Any, b: Any, _: float) -> Floats:
        return masked_mse(g, t, b)

    error, blind = mean(squared, images), mean(squared, guess)
    found = {
        "mse": error, "mse_of_chance": blind, "mse_leakage": _mse_leakage(error, blind),
        "psnr": mean(masked_psnr, images, "dB"), "nmi": mean(lambda g, t, b, _: masked_nmi(g, t, b), images),
    }  # fmt: skip
    scales = ms_ssim_scales(truth.shape)
    if not scales:
        sides = " x ".join(map(str, truth.shape))
        return found | {"ms_ssim": Raw(value=None, reason=f"its window of 11 voxels does not fit samples of {sides}")}
    unit = f"{scales} of 5 scales" if scales < 5 else "5 scales"
    return found | {"ms_ssim": mean(lambda g, t, b, r: ms_ssim(g, t, b, r, scales=scales), images, unit)}


def _mse_leakage(error: Raw, blind: Raw) -> Raw:
    """Return 1 - MSE / MSE of chance: leakage by the squared error, whose anchor is 0."""
    if error.value is None or not blind.value:
        return Raw(value=None, reason="chance has no squared error to compare with")
    return Raw(value=1 - error.value / blind.value, n=error.n)


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
