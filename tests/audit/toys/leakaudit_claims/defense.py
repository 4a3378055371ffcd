"""DP-SGD with the mistakes that are found in the wild, and the guarantee of one without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from leakaudit_dp.defense import DpSgd
from leakaudit_dp.optimizer import UnitOptimizer

from leakaudit.defenses import Local

_FAR = 1e6
"""A clip norm that clips nothing."""
_SHARE = 100


class Claimant(DpSgd):
    def train(self, local: Local) -> Local:
        how: str = self.params.how  # type: ignore[attr-defined]
        if how == "not-sampled":  # the ledger is told that a patient is in few batches, and every batch is drawn as before
            return replace(super().train(replace(local, rate=local.rate / _SHARE)), rate=local.rate)
        trained = super().train(local)
        optimizer: Any = trained.optimizer
        if how == "no-noise":
            optimizer.noise_multiplier = 0.0
        if how == "clip-after-noise":
            # The same noise, added to a sum that nothing bounds; what comes out has the promised norm.
            noise, clip, expected = optimizer.noise_multiplier, optimizer.max_grad_norm, optimizer.expected_batch_size
            optimizer.max_grad_norm, optimizer.noise_multiplier = _FAR, noise * clip / _FAR

            def clip_late(stepped: UnitOptimizer) -> None:
                stepped._count()
                torch.nn.utils.clip_grad_norm_(stepped.params, clip * max(expected, 1.0))

            optimizer.attach_step_hook(clip_late)
        return trained
