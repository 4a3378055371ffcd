"""What an adversary could say of images without the messages: the guesses that chance is chosen from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import Cohort, regions
from leakaudit.engine.endpoints import Ground, choose_chance, positions
from leakaudit.scoring.chance import image_baselines
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.holdings import fit_translation, images_of_masks

__all__ = ["KNOWING", "blind_images", "told_images"]

KNOWING = {"translated-holdings": "own images", "translated-masks": "known masks"}
"""Guesses that differ from patient to patient, and what of the targets they are made of: other images of the same patients that the
adversary's seats hold, or masks that it is told."""
_HELD, _MASKED = KNOWING


def blind_images(ground: Ground, modalities: Sequence[str], targets: Cohort) -> dict[str, Any]:
    """Return the guesses about `targets` by name, each (targets, modalities, *spatial).

    Args:
        ground: The truth, and what the adversary owns, holds and is told.
        modalities: What is guessed.
        targets: With all their modalities.
    """
    auxiliary = ground.auxiliary.channels(modalities)
    flat = {"flat": np.zeros((len(targets), len(modalities), *targets.shape))}
    if ground.owned in ("none", "noise") or not len(ground.auxiliary):
        return flat
    at, mine = positions(auxiliary), positions(targets)
    found: dict[str, Any] = flat | image_baselines(auxiliary.images, auxiliary.brain, at, mine)
    if ground.held:
        held, shown = ground.auxiliary.channels(ground.held), targets.channels(ground.held)
        found[_HELD] = np.stack(
            [fit_translation(held.images, auxiliary.images[:, i]).apply(shown.images) for i in range(len(modalities))], axis=1
        )
    if ground.masks:
        found[_MASKED] = images_of_masks(auxiliary.images, regions(auxiliary.labels), at, regions(targets.labels), mine)
    return found


def told_images(
    ground: Ground, modalities: Sequence[str], targets: Cohort, score: Callable[[Any, Cohort], Floats]
) -> tuple[str, Any] | None:
    """Return what an adversary makes of what it has of the targets themselves: of what, and (targets, modalities, *spatial).

    Args:
        ground: As in `blind_images`.
        modalities: What is guessed.
        targets: With all their modalities.
        score: By which one of several guesses is chosen on the validation patients, larger is better.

    Returns:
        None where it has nothing of theirs.
    """

    def knowing(cohort: Cohort) -> dict[str, Any]:
        return {name: guess for name, guess in blind_images(ground, modalities, cohort).items() if name in KNOWING}

    guesses = knowing(targets)
    if not guesses:
        return None
    name = choose_chance(ground, knowing, score) if len(guesses) > 1 else next(iter(guesses))
    return KNOWING[name], guesses[name]
