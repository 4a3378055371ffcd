"""What an adversary could say of images without the messages: the guesses that chance is chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from leakaudit.cohorts.cohort import Cohort, regions
from leakaudit.engine.endpoints import Ground, choose_chance, positions
from leakaudit.scoring.chance import image_baselines, position_mean, stretched
from leakaudit.scoring.checks import Floats
from leakaudit.scoring.holdings import MaskTranslation, Translation, fit_masks, fit_translation, painted

__all__ = ["BlindImages"]

_HELD, _MASKED = "translated-holdings", "translated-masks"
_STRETCHED = "-contrast"
"""Added to the name of a translation whose contrast is stretched: a regression washes it out, and SSIM rewards it."""
_MADE_OF = {_HELD: "own images", _MASKED: "known masks"}


class BlindImages:
    """Guesses about some modalities; what is fitted on auxiliary patients is fitted once.

    Guesses whose names begin with "translated" differ from patient to patient: they are made of something of the targets
    themselves, other images that the adversary's seats hold of them, or masks that it is told.

    Args:
        ground: What the adversary owns, holds and is told.
        modalities: What is guessed.
    """

    def __init__(self, ground: Ground, modalities: Sequence[str]) -> None:
        self._ground, self._modalities = ground, modalities
        self._auxiliary = ground.auxiliary.channels(modalities)

    def about(self, targets: Cohort) -> dict[str, Floats]:
        """Return the guesses about a cohort with all its modalities by name, each (targets, modalities, *spatial)."""
        return self._validation if targets is self._ground.validation else self._made(targets)

    def told(self, guesses: Mapping[str, Floats], score: Callable[[Any, Cohort], Floats]) -> tuple[str, Floats] | None:
        """Return of what the best guess is made that differs from patient to patient, and that guess; None where there is none.

        Args:
            guesses: What `about` gave.
            score: By which one of several is chosen on the validation patients, larger is better.
        """
        mine = _told(guesses)
        if not mine:
            return None
        name = choose_chance(self._ground, lambda cohort: _told(self.about(cohort)), score)
        return _MADE_OF[name.removesuffix(_STRETCHED)], mine[name]

    def _made(self, targets: Cohort) -> dict[str, Floats]:
        ground, auxiliary = self._ground, self._auxiliary
        flat = {"flat": np.zeros((len(targets), len(self._modalities), *targets.shape))}
        if ground.owned in ("none", "noise") or not len(auxiliary):
            return flat | ({_MASKED: painted(regions(targets.labels), self._modalities)} if ground.masks else {})
        at, mine = positions(auxiliary), positions(targets)
        found = flat | image_baselines(auxiliary.images, auxiliary.brain, at, mine)
        made = {}
        if ground.held:
            made[_HELD] = self._translation.apply(targets.channels(ground.held).images)
        if ground.masks:
            made[_MASKED] = self._of_masks.apply(regions(targets.labels), mine)
        if made:
            inside = position_mean(auxiliary.brain, at, mine) >= 0.5
            for name, guess in made.items():
                more = np.stack([stretched(image, brain) for image, brain in zip(guess, inside, strict=True)])
                found |= {name: guess, name + _STRETCHED: more}
        return found

    @cached_property
    def _validation(self) -> dict[str, Floats]:
        return self._made(self._ground.validation)

    @cached_property
    def _translation(self) -> Translation:
        return fit_translation(self._ground.auxiliary.channels(self._ground.held).images, self._auxiliary.images)

    @cached_property
    def _of_masks(self) -> MaskTranslation:
        return fit_masks(self._auxiliary.images, regions(self._auxiliary.labels), positions(self._auxiliary))


def _told(guesses: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: guess for name, guess in guesses.items() if name.startswith("translated")}
