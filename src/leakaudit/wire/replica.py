"""A replica: a party's public computation without its data. The one way to be adaptive."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from leakaudit.models.task import Tensors

__all__ = ["Replica"]


class Replica:
    """What a party computes, with its defenses under fresh randomness; differentiable.

    Args:
        send: The computation, `send(**inputs) -> tensors`. What it takes and gives is the protocol's to say.
        module: The network behind it; None where only queries are granted.
        defended: Whether the party's defenses are part of it.
    """

    def __init__(self, send: Callable[..., Tensors], *, module: nn.Module | None = None, defended: bool = True) -> None:
        self._send = send
        self.module = module
        self.defended = defended
        self.calls = 0

    def send(self, **inputs: Tensor) -> Tensors:
        """Return what the party would send for these inputs."""
        self.calls += 1
        return self._send(**inputs)
