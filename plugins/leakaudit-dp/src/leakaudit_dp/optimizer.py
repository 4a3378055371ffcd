"""An Opacus optimizer that protects units of one or more rows, knows the empty batch, and counts its steps."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from leakaudit.defenses import Local
from leakaudit_dp.library import DPOptimizer, GradSampleModule

__all__ = ["UnitOptimizer"]


class UnitOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is untyped
    """Clips the gradient of every unit, adds noise to their sum, and divides by the expected number of units.

    A unit's gradient is the sum over its rows (a patient's slices) of the gradients of the rows' losses, so one unit moves
    the sum by at most the clip norm, however many rows it has. Gradient canaries count as units of their own.

    Args:
        optimizer: The optimizer that takes the noised gradient.
        module: The network that gathers per-sample gradients.
        local: Whose units, canaries and expected numbers hold.
        noise: Noise multiplier.
        clip: Clip norm.
        generator: Source of the noise, on the parameters' device.
        log: Where units without a finite gradient are reported.

    Attributes:
        original_optimizer: `optimizer`.
        steps: Noised steps taken so far.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, module: GradSampleModule, local: Local, *,
        noise: float, clip: float, generator: torch.Generator, log: logging.Logger,
    ) -> None:  # fmt: skip
        super().__init__(
            optimizer, noise_multiplier=noise, max_grad_norm=clip, expected_batch_size=local.expected_units,
            loss_reduction="mean", generator=generator,
        )  # fmt: skip
        self.steps = 0
        self._gradients, self._local, self._log = module, local, log
        names = {id(p): name for name, p in module._module.named_parameters()}
        self._named: list[tuple[str, nn.Parameter]] = [(names[id(p)], p) for p in self.params]
        self.attach_step_hook(UnitOptimizer._count)

    def _count(self) -> None:
        self.steps += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and what a forward pass without its backward pass left behind.

        Opacus keeps activations on a stack per layer. Of a batch whose gradient never came (a defense withheld it), they
        would stay there, and the per-sample gradients of the next batch would be lost.
        """
        for layer in self._gradients.modules():
            layer.__dict__.pop("activations", None)
            layer.__dict__.pop("max_batch_len", None)
        for _, p in self._named:
            p.__dict__.pop("_current_grad_sample", None)
            p._forward_counter = 0  # type: ignore[attr-defined]
        super().zero_grad(set_to_none)

    def clip_and_accumulate(self) -> None:
        """Sum rows by unit, append the canaries, and clip."""
        rows = self._local.units()
        canaries = self._local.canary_rows()
        units, place = torch.unique(rows, return_inverse=True)
        for name, p in self._named:
            gradient = self._rows_of(name, p)
            if len(gradient) != len(rows):
                raise RuntimeError(f"{len(gradient)} per-sample gradients of {name!r} for a batch of {len(rows)} rows")
            if len(units) < len(rows):
                gradient = gradient.new_zeros(len(units), *p.shape).index_add_(0, place, gradient)
            extra = [row[name].to(p).reshape(1, *p.shape) if name in row else p.new_zeros(1, *p.shape) for row in canaries]
            p.grad_sample = torch.cat([gradient, *extra]) if extra else gradient  # type: ignore[attr-defined]
        self._leave_out_infinite()
        super().clip_and_accumulate()

    @property
    def grad_samples(self) -> list[Tensor]:
        """Per-row gradients of every parameter; without rows where the batch is empty."""
        return [self._rows_of(name, p) for name, p in self._named]

    def _rows_of(self, name: str, p: Any) -> Tensor:
        if p.grad_sample is None:
            rows = len(self._local.units())
            if rows:
                raise RuntimeError(f"no per-sample gradient of {name!r} for a batch of {rows} rows: did its backward pass run?")
            return torch.zeros(0, *p.shape, device=p.device, dtype=p.dtype)
        gradient: Tensor = self._get_flat_grad_sample(p).to(p.dtype)
        return gradient

    def _leave_out_infinite(self) -> None:
        # One unit's overflow must not reach the others: its contribution is zero, which is within the clip norm.
        stacked: list[Tensor] = [p.grad_sample for _, p in self._named]  # type: ignore[attr-defined]
        norms = torch.stack([g.reshape(len(g), p.numel()).norm(dim=1) for g, (_, p) in zip(stacked, self._named, strict=True)])
        bad = ~torch.isfinite(norms.norm(dim=0))
        if bad.any():
            self._log.warning("%d of %d units had no finite gradient and were left out of a step", int(bad.sum()), len(bad))
            for gradient in stacked:
                gradient[bad] = 0
