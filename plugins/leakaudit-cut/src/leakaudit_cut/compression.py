"""Fewer bits and fewer dimensions at the cut: quantization and random projection."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from leakaudit_cut.cut import CutDefense
from leakaudit_cut.params import QuantizationParams, RandomProjectionParams

__all__ = ["Quantization", "RandomProjection", "mix_channels", "quantize"]


def quantize(level: Tensor, bits: int) -> Tensor:
    """Round each sample to 2**bits evenly spaced values between its least and largest entry.

    The gradient passes as if nothing were rounded (straight-through, Bengio et al. 2013), for the client's learning and for
    an attacker who differentiates through the defense alike.

    Args:
        level: Shape (n, ...).
        bits: Bits of each entry.
    """
    flat = level.detach().flatten(1)
    shape = (-1, *[1] * (level.dim() - 1))
    low, high = (v.reshape(shape) for v in (flat.amin(dim=1), flat.amax(dim=1)))
    step = ((high - low) / (2**bits - 1)).clamp(min=torch.finfo(level.dtype).tiny)
    rounded = low + torch.round((level.detach() - low) / step) * step
    passed: Tensor = level + (rounded - level.detach())
    return passed


class Quantization(CutDefense[QuantizationParams]):
    """Sends activations with few bits (uniform, by sample, so that nothing depends on the rest of the batch)."""

    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the rounded levels."""
        return {name: quantize(t, self.params.bits) for name, t in levels.items()}


def mix_channels(matrix: Tensor, level: Tensor) -> Tensor:
    """Return `matrix` (k, channels) times the channels of every voxel, padded with zero channels to the old number."""
    mixed = torch.einsum("kc,nc...->nk...", matrix.to(level), level)
    pad = level.new_zeros(len(level), level.shape[1] - len(matrix), *level.shape[2:])
    return torch.cat([mixed, pad], dim=1)


class RandomProjection(CutDefense[RandomProjectionParams]):
    """Sends a random projection of the channels of every voxel: k orthonormal directions, the same for the whole training.

    The matrix is the client's secret. A replica has it only where the threat model grants what the defense learned
    (`defense-state`); otherwise it draws one of its own, which is what an attacker can know.
    """

    _matrices: dict[str, Tensor] | None = None

    def adapt(self, module: nn.Module) -> nn.Module:
        """Draw the matrices of the module's levels, where it says how many channels these have; the module stays as it is."""
        for i, channels in enumerate(getattr(module, "channels", ())):
            if self.params.levels is None or f"level{i}" in self.params.levels:
                self._matrix(f"level{i}", channels)
        return module

    def change(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the projected levels, with as many channels as before of which the last are zero."""
        return {name: mix_channels(self._matrix(name, t.shape[1]), t) for name, t in levels.items()}

    def _matrix(self, name: str, channels: int) -> Tensor:
        if self._matrices is None:
            self._matrices = {}
        if name not in self._matrices:
            kept = max(1, round(self.params.keep * channels))
            gauss = torch.randn(
                channels, channels, generator=self.seat.rng(f"projection of {name}"), device=self.seat.device, dtype=torch.float32
            )
            self._matrices[name] = torch.linalg.qr(gauss)[0][:kept]
        return self._matrices[name]

    def public_state(self) -> dict[str, Tensor]:
        """Return the matrices by level."""
        return dict(self._matrices or {})

    def load_public_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the matrices of the trained defense."""
        self._matrices = {name: t.to(self.seat.device) for name, t in state.items()}
