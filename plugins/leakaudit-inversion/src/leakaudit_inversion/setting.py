"""Whom to attack, what the adversary holds, and randomness of its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

import torch

from leakaudit.attacks import View
from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit.threats import NotApplicable
from leakaudit_inversion.stance import InversionParams

__all__ = ["at_once", "attacked_clients", "held_modalities", "image_shape", "seeded"]


_VOXELS = 2**20
"""Most voxels of images in one batch on a processor, whose feature maps take about a hundred times their memory."""


def at_once(most: int, shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many images of a shape to search for at once; where there is a GPU, as many as the parameters say."""
    return most if device.type != "cpu" else max(1, min(most, _VOXELS // math.prod(shape)))


def attacked_clients(params: InversionParams, view: View) -> tuple[SeatFacts, ...]:
    """Return the clients that are attacked in a view.

    Raises:
        UserError: The attack has no meaning under the view's protocol.
    """
    surface = params.surface(view.facts)
    if isinstance(surface, NotApplicable):
        raise UserError(surface.reason)
    return surface.clients


def held_modalities(view: View) -> tuple[str, ...]:
    """Return the modalities whose images the adversary's own seats hold, in the cohort's order."""
    seats = [view.facts.seat(seat) for seat in view.facts.played(view.threat.plays)]
    return tuple(m for m in view.modalities if any(m in seat.modalities for seat in seats))


@contextlib.contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Draw torch's global numbers from a stream of the attack's own; afterwards the global stream is as before.

    A defense that draws from the global generator must not make two runs of an attack differ.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def image_shape(
    view: View, client: SeatFacts, send: Callable[[torch.Tensor], Mapping[str, torch.Tensor]], sent: Mapping[str, torch.Tensor]
) -> tuple[int, ...]:
    """Return the spatial shape of a client's images: that of auxiliary ones, else the one that fits what it sends.

    Args:
        view: The adversary's view.
        client: The client.
        send: Gives what it would send for images.
        sent: What it sent, by level, each (n, channels, *spatial).

    Raises:
        UserError: No image of up to 32 times the side of a level gives levels of these sizes.
    """
    if view.auxiliary is not None:
        return view.auxiliary.shape
    sizes = {name: tuple(t.shape[2:]) for name, t in sent.items()}
    finest = max(sizes.values(), key=lambda size: size[0])
    for factor in (1, 2, 4, 8, 16, 32):
        shape = tuple(side * factor for side in finest)
        with torch.no_grad():
            guess = send(torch.zeros(1, len(client.modalities), *shape, device=view.device))
        if all(tuple(guess[name].shape[2:]) == size for name, size in sizes.items()):
            return shape
    raise UserError(f"no image size gives activations of {sizes}; grant auxiliary patients, whose images show it")
