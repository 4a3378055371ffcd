"""What shadow models say of patients, next to what the deployed model says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort
from leakaudit.errors import UserError
from leakaudit_membership.calibration import Floats
from leakaudit_membership.gauge import Averages, in_order

__all__ = ["candidates_of", "logit_confidence", "membership", "shadow_signals"]


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


def shadow_signals(view: View, gauge: Averages, tokens: tuple[str, ...]) -> Floats:
    """Return what every shadow model says of some patients, shape (shadows, patients) or (shadows, patients, features)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of weights that are replaced at once
        network = view.task.build().to(view.device).eval()
    return np.stack([in_order(gauge.predicted(_with(network, s.state, view.device)), tokens) for s in view.shadows])


def membership(view: View, tokens: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return whether every shadow model was trained on every candidate, shape (shadows, candidates)."""
    return np.array([[token in set(shadow.members) for token in tokens] for shadow in view.shadows])


def _with(network: nn.Module, state: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    network.load_state_dict({k: v.to(device) for k, v in state.items()})
    return network
