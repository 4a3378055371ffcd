"""Endpoints of stolen masks and of guessed properties."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import EvidenceError, Masks, Values
from leakaudit.cohorts.cohort import REGIONS, Cohort, regions
from leakaudit.engine.endpoints import Endpoint, Ground, choose_chance, endpoint_of, patient_mean, positions
from leakaudit.engine.evidence_matrix import Exchange, distinct, middle_rows
from leakaudit.engine.unordered import same_matching
from leakaudit.scoring.chance import mask_baselines
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.exchange import dice_pairs
from leakaudit.scoring.segmentation import sample_dice

__all__ = ["paired_dice", "score_masks", "score_values"]

_LEAST = 1e-4
"""Share of the brain that stands for an absent tumor: it keeps the logarithm finite."""


def score_masks(
    evidence: Masks, rows: Sequence[int], ground: Ground, *, shown: bool = True, groups: Sequence[int] = ()
) -> list[Endpoint]:
    """Score stolen masks: Dice per region against the best prior mask; patients without the region are left out of it.

    Args:
        evidence: The masks.
        rows: Row among the members behind each mask.
        ground: The truth.
        shown: Whether raw numbers and exchanged evidence are wanted, too.
        groups: Update of each row, where masks were matched to the samples behind it: chance is then matched in the same way, and
            nothing is exchanged.

    Raises:
        EvidenceError: Shapes do not fit the cohort.
    """
    truth = ground.members.take(rows)
    if evidence.masks.shape[2:] != truth.shape:
        raise EvidenceError(f"evidence {evidence.name!r}: masks of {evidence.masks.shape[2:]}, the cohort has {truth.shape}")
    prior = regions(ground.auxiliary.labels)

    def chance_of(cohort: Cohort) -> dict[str, Any]:
        if not len(prior):
            return {"empty": np.zeros((len(cohort), len(REGIONS), *cohort.shape), dtype=bool)}
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
        guess = chance_of(some)[name]
        if groups:
            mine = [groups[i] for i in there]
            guess = guess[same_matching(mine, partial(_paired, guess, some))]
        score, blind = dice(evidence.masks[there], some), dice(guess, some)
        patients = [s.patient for s in some.samples]
        more: dict[str, Any] = {}
        if shown:
            more["raw"] = {"dice": patient_mean(score, patients), "dice_of_chance": patient_mean(blind, patients)}
            more["exchange"] = (
                None if groups else _exchange_masks(evidence.masks[there][:, column] > 0.5, guess[:, column], some, column)
            )
        endpoints.append(endpoint_of(f"mask-{region}", patients, score, blind, np.ones_like(score), name, **more))
    return endpoints


def paired_dice(masks: Any, truth: Cohort) -> Floats:
    """Return the Dice of every guess with every sample, mean over regions (0 where absent), shape (guesses, samples)."""
    true = regions(truth.labels) > 0
    found = [sample_dice(np.repeat(np.asarray(m)[None] > 0.5, len(true), axis=0), true, list(REGIONS)).values for m in masks]
    return np.stack([np.nan_to_num(f, nan=0.0).mean(axis=1) for f in found])


def _paired(masks: Any, truth: Cohort, guesses: Sequence[int], samples: Sequence[int]) -> Floats:
    return paired_dice(masks[list(guesses)], truth.take(list(samples)))


def _exchange_masks(masks: Any, guess: Any, truth: Cohort, column: int) -> Exchange | None:
    rows = middle_rows(truth)
    if len(rows) < 2:
        return None
    true = regions(truth.labels[rows])[:, column] > 0
    scores, chance = (distinct(np.asarray(m)[rows], lambda x: dice_pairs(x, true)) for m in (masks, guess))
    return Exchange.of([truth.samples[i].patient for i in rows], truth, scores, chance)


def score_values(
    evidence: Values, rows: Sequence[int], ground: Ground, *, shown: bool = True, groups: Sequence[Sequence[int]] = ()
) -> list[Endpoint]:
    """Score guessed tumor volumes (share of brain voxels): minus the absolute error of the logarithm.

    Args:
        evidence: The values.
        rows: Row among the members behind each value.
        ground: The truth.
        shown: Whether raw numbers and exchanged evidence are wanted, too.
        groups: For each value about an update, the rows of all samples behind it: the truth is then their mean, the blind guess
            the mean of other patients, and nothing is exchanged.

    Raises:
        EvidenceError: There are no auxiliary patients that a blind guess could be made of.
    """
    if not len(ground.auxiliary):
        raise EvidenceError(
            f"evidence {evidence.name!r}: chance of {evidence.quantity} needs auxiliary patients; the split has none"
        )
    truth = ground.members.take(rows)
    patients = [s.patient for s in truth.samples]
    shares = [_volume(ground.members.take(list(g))).mean() for g in groups] if groups else _volume(truth)
    true, guessed = _logarithm(shares), _logarithm(np.asarray(evidence.values, dtype=np.float64))
    name, middle = ("mean", np.mean) if groups else ("median", np.median)
    guess = float(_logarithm(middle(_volume(ground.auxiliary))))
    score, blind = -np.abs(guessed - true), -np.abs(guess - true)
    more: dict[str, Any] = {}
    if shown:
        unit = "times too large or too small"
        more["raw"] = {
            "error_factor": patient_mean(np.exp(-score), patients, unit),
            "error_factor_of_chance": patient_mean(np.exp(-blind), patients, unit),
        }
        more["exchange"] = None if groups else _exchange_values(guessed, guess, true, truth)
    return [endpoint_of(evidence.quantity, patients, score, blind, np.zeros(len(truth)), name, **more)]


def _exchange_values(guessed: Floats, median: float, true: Floats, truth: Cohort) -> Exchange | None:
    rows = middle_rows(truth)
    if len(rows) < 2:
        return None
    scores = -np.abs(guessed[rows][:, None] - true[rows][None])
    chance = np.broadcast_to(-np.abs(median - true[rows])[None], scores.shape)
    return Exchange.of([truth.samples[i].patient for i in rows], truth, scores, chance)


def _volume(cohort: Cohort) -> Floats:
    axes = tuple(range(1, cohort.labels.ndim))
    return np.asarray((cohort.labels > 0).sum(axis=axes) / cohort.brain.sum(axis=axes))


def _logarithm(share: Any) -> Floats:
    return np.asarray(np.log(np.maximum(share, _LEAST)))
