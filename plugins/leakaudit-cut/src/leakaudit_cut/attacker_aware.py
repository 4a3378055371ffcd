"""Training against an inverter of one's own (ResSFL: Li et al., CVPR 2022, arXiv 2205.04007)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from leakaudit.defenses import Defense
from leakaudit.wire import Message
from leakaudit_cut.params_learned import AttackerAwareParams

__all__ = ["AttackerAware", "InnerInverter", "ssim"]

_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


def ssim(a: Tensor, b: Tensor, window: int = 7, data_range: float = 4.0) -> Tensor:
    """Return the mean structural similarity of two batches over uniform windows (Wang et al. 2004), differentiable.

    Args:
        a: Shape (n, channels, *spatial) with 2 or 3 spatial axes.
        b: The same shape.
        window: Side of the window.
        data_range: Range of the values; z-scored images lie mostly within 4.
    """
    pool = _POOL[a.dim() - 2]
    mean_a, mean_b = pool(a, window, 1), pool(b, window, 1)
    var_a, var_b = pool(a * a, window, 1) - mean_a**2, pool(b * b, window, 1) - mean_b**2
    shared = pool(a * b, window, 1) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return value.mean()


class InnerInverter(nn.Module):
    """A small decoder of all levels, brought to the image's size.

    Args:
        channels: Channels of all levels together.
        width: Channels inside.
        modalities: Channels of the image.
        dims: Spatial axes.
    """

    def __init__(self, channels: int, width: int, modalities: int, dims: int) -> None:
        super().__init__()
        conv = _CONVOLUTION[dims]
        self.layers = nn.Sequential(
            conv(channels, width, 3, padding=1), nn.LeakyReLU(0.1), conv(width, width, 3, padding=1), nn.LeakyReLU(0.1),
            conv(width, modalities, 3, padding=1),
        )  # fmt: skip

    def forward(self, levels: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """Return images of `size` from the levels."""
        return self.layers(torch.cat([functional.interpolate(z, size=size, mode="nearest") for z in levels], dim=1))  # type: ignore[no-any-return]


class AttackerAware(Defense[AttackerAwareParams]):
    """Trains an inverter beside the encoder and adds its success, where it is above a threshold, to the client's loss."""

    _inverter: InnerInverter | None = None
    _optimizer: torch.optim.Optimizer | None = None

    def penalty(self, x: Tensor, sent: Message) -> Tensor | None:
        """Teach the inner attacker on this batch, then return its weighted success through what is sent."""
        levels = [t.float() for name, t in sent.tensors.items() if self.params.levels is None or name in self.params.levels]
        if self.params.strength == 0 or not levels:
            return None
        size = tuple(x.shape[2:])
        inverter, optimizer = self._attacker(levels, x)
        seen = [z.detach() for z in levels]
        for _ in range(self.params.steps):
            optimizer.zero_grad()
            (1 - ssim(inverter(seen, size), x)).backward()
            optimizer.step()
        for parameter in inverter.parameters():
            parameter.requires_grad_(False)
        success = ssim(inverter(levels, size), x)
        for parameter in inverter.parameters():
            parameter.requires_grad_(True)
        return self.params.strength * (success - self.params.threshold).clamp(min=0)

    def _attacker(self, levels: list[Tensor], x: Tensor) -> tuple[InnerInverter, torch.optim.Optimizer]:
        if self._inverter is None or self._optimizer is None:
            with torch.random.fork_rng(devices=[]):
                generator = self.seat.rng("inner attacker")
                torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
                channels = sum(z.shape[1] for z in levels)
                self._inverter = InnerInverter(channels, self.params.width, x.shape[1], x.dim() - 2).to(x.device)
            self._optimizer = torch.optim.Adam(self._inverter.parameters(), lr=self.params.learning_rate)
        return self._inverter, self._optimizer
