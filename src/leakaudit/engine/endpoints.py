"""From evidence to numbers: score, chance and anchor of every patient, for each endpoint of each piece of evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leakaudit.attacks.evidence import EvidenceError, Images, Masks, Values
from leakaudit.cohorts.cohort import REGIONS, Cohort, regions
from leakaudit.scoring.chance import choose, image_baselines, mask_baselines
from leakaudit.scoring.checks import average_by_patient
from leakaudit.scoring.holdings import fit_translation
from leakaudit.scoring.identity import identify, masked_ncc, patient_similarity
from leakaudit.scoring.images import masked_mse, masked_psnr, masked_ssim
from leakaudit.scoring.segmentation import sample_dice

__all__ = ["Endpoint", "Ground", "Picture", "score_images", "score_masks", "score_values"]

Floats = NDArray[np.float64]
PICTURES = 4
GALLERY = 100
"""Patients in a gallery at most, so that rank-1 means the same in small and large cohorts."""


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
class Picture:
    """Original, reconstruction and chance image of one patient, first modality, (H, W), scaled to [0, 1]."""

    patient: str
    original: Floats
    reconstruction: Floats
    chance: Floats
    score: float


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


def _positions(cohort: Cohort) -> list[int]:
    return [s.position for s in cohort.samples]


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
    found: dict[str, Any] = flat | image_baselines(auxiliary.images, auxiliary.brain, _positions(auxiliary), _positions(targets))
    if ground.held:
        held, mine = ground.auxiliary.channels(ground.held), targets.channels(ground.held)
        found["translated-holdings"] = np.stack(
            [fit_translation(held.images, auxiliary.images[:, i]).apply(mine.images) for i in range(len(modalities))], axis=1
        )
    return found


def _choose(ground: Ground, chance: Callable[[Cohort], dict[str, Any]], score: Callable[[Any, Cohort], Floats]) -> str:
    """Choose the baseline on the validation patients; with none, the first in the alphabet that uses the auxiliary set."""
    if not len(ground.validation):
        return min(chance(ground.members.take([0])), key=lambda name: (name == "flat", name))
    patients = [s.patient for s in ground.validation.samples]
    guesses = chance(ground.validation)
    return choose({n: average_by_patient(score(g, ground.validation), patients)[1] for n, g in guesses.items()}).name


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

    name = _choose(ground, chance_of, ssim)
    guess = chance_of(whole)[name]
    score, blind = ssim(evidence.images, whole), ssim(guess, whole)
    error, blind_error = (_by_modality(lambda g, t, b, r: masked_mse(g, t, b), g, truth, ranges) for g in (evidence.images, guess))
    raw = {
        "ssim": float(score.mean()), "ssim_chance": float(blind.mean()), "mse": float(error.mean()),
        "mse_chance": float(blind_error.mean()), "mse_leakage": float(1 - error.sum() / blind_error.sum()),
        "psnr_db": float(_by_modality(masked_psnr, evidence.images, truth, ranges).mean()),
    }  # fmt: skip
    found = [_endpoint("fidelity", patients, score, blind, np.ones_like(score), name, raw)]
    identity = _identity(evidence.images, truth, ground)
    endpoints = [e for e in (*found, identity, *_canary(evidence.images, truth, ground)) if e is not None]
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


def _endpoint(
    name: str, patients: Sequence[str], score: Floats, chance: Floats, anchor: Floats, chance_name: str,
    raw: dict[str, float] | None = None,
) -> Endpoint:  # fmt: skip
    keys, s = average_by_patient(score, patients)
    c, a = average_by_patient(chance, patients)[1], average_by_patient(anchor, patients)[1]
    return Endpoint(name=name, patients=keys, score=s, chance=c, anchor=a, chance_name=chance_name, raw=raw or {})


def _identity(images: Any, truth: Cohort, ground: Ground) -> Endpoint | None:
    """Return rank-1 re-identification in a gallery of other visits (of the same visit where there is no other)."""
    source = ground.gallery if ground.gallery is not None else ground.members
    attacked = list(truth.patients)
    have = set(source.patients)
    if not set(attacked) <= have or len(have) < 2:
        return None
    others = [p for p in source.patients if p not in set(attacked)]
    chosen = set((attacked + others)[: max(GALLERY, len(attacked))])
    gallery = source.channels(truth.modalities).where(lambda s: s.patient in chosen)
    at, there = np.array(_positions(truth)), np.array(_positions(gallery))
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


def _canary(images: Any, truth: Cohort, ground: Ground) -> list[Endpoint]:
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
    return [_endpoint("canary", patients, np.array(read), half, np.array(best), "fair coin")]


def score_masks(evidence: Masks, rows: Sequence[int], ground: Ground) -> list[Endpoint]:
    """Score stolen masks: Dice per region against the best prior mask; patients without the region are left out of it."""
    truth = ground.members.take(rows)
    if evidence.masks.shape[2:] != truth.shape:
        raise EvidenceError(f"evidence {evidence.name!r}: masks of {evidence.masks.shape[2:]}, the cohort has {truth.shape}")
    prior = regions(ground.auxiliary.labels)

    def chance_of(cohort: Cohort) -> dict[str, Any]:
        return dict(mask_baselines(prior, _positions(ground.auxiliary), _positions(cohort)))

    endpoints = []
    for column, region in enumerate(REGIONS):

        def dice(guess: Any, cohort: Cohort, column: int = column) -> Floats:
            scores = sample_dice(np.asarray(guess) > 0.5, regions(cohort.labels) > 0, list(REGIONS)).values[:, column]
            return np.nan_to_num(scores, nan=0.0)

        there = [i for i in range(len(truth)) if regions(truth.labels[i : i + 1])[0, column].any()]
        if not there:
            continue
        some = truth.take(there)
        name = _choose(ground, chance_of, dice)
        score, blind = dice(evidence.masks[there], some), dice(chance_of(some)[name], some)
        patients = [s.patient for s in some.samples]
        endpoints.append(_endpoint(f"mask-{region}", patients, score, blind, np.ones_like(score), name))
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
    return [_endpoint(evidence.quantity, patients, score(evidence.values), score(blind), np.zeros(len(truth)), "median")]


def rows_of(about: Sequence[str], truth: Mapping[str, int], name: str) -> list[int]:
    """Return the member's row behind each token.

    Raises:
        EvidenceError: A token is unknown.
    """
    unknown = [t for t in about if t not in truth]
    if unknown:
        raise EvidenceError(f"evidence {name!r} is about {len(unknown)} targets that were never in the view")
    return [truth[t] for t in about]
