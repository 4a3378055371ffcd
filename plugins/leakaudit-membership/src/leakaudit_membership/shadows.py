"""What shadow models say of patients, next to what the deployed model says."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort
from leakaudit.errors import UserError
from leakaudit_membership.calibration import Floats
from leakaudit_membership.gauge import Averages, in_order

__all__ = ["candidates_of", "logit_confidence", "membership", "owned_of", "shadow_signals"]


def logit_confidence(loss: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of the probability p = exp(-loss), which is nearly normal over models (Carlini et al. 2022)."""
    return -torch.log(torch.expm1(loss.double().clamp(1e-9, 500)))


def candidates_of(view: View, attack: str) -> tuple[Cohort, tuple[str, ...]]:
    """Return the candidates and the tokens that evidence must be about.

    Raises:
        UserError: There are no candidates or no shadow models.
    """
    if view.candidates is None or not view.shadows:
        missing = "candidates" if view.candidates is None else "shadow models"
        raise UserError(f"{attack} compares candidate patients with shadow models, and the view holds no {missing}")
    return view.candidates, tuple(t.token for t in view.targets if t.kind == "candidate")


def owned_of(view: View, attack: str) -> tuple[Cohort, tuple[str, ...]]:
    """Return the patients that the adversary owns, and their tokens.

    Raises:
        UserError: It owns none.
    """
    if view.auxiliary is None:
        raise UserError(
            f"{attack} compares candidates with patients of the adversary's own, and the view holds no auxiliary patients"
        )
    return view.auxiliary, view.auxiliary.patients


def shadow_signals(view: View, gauge: Averages, tokens: tuple[str, ...]) -> Floats:
    """Return what every shadow model says of some patients, shape (shadows, patients) or (shadows, patients, features)."""
    return np.stack([in_order(gauge.predicted(view.predictor(s)), tokens) for s in view.shadows])


def membership(view: View, tokens: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return whether every shadow model was trained on every patient, a candidate or the adversary's own, (shadows, patients)."""
    return np.array([[token in {*shadow.members, *shadow.own} for token in tokens] for shadow in view.shadows])
