"""Toys that read images off the shallowest level by a linear fit on auxiliary patients, and guess at any other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F

from leakaudit.attacks import Attack, Images, View
from leakaudit_depths.params import Reading, Tapping

SEAT = "client-0"


def patches(level: torch.Tensor) -> torch.Tensor:
    """Return for every pixel the 3 x 3 pixels around it and a one, (n, pixels, features)."""
    found = F.unfold(level.float(), 3, padding=1).transpose(1, 2)
    return torch.cat([found, torch.ones_like(found[..., :1])], dim=2)


def read(view: View, name: str, about: tuple[str, ...], works: bool = True) -> Images:
    """Return images read off one level."""
    owned = view.auxiliary
    assert owned is not None
    modalities = view.facts.seat(SEAT).modalities
    images = torch.from_numpy(np.array(owned.channels(modalities).images))
    found: Mapping[str, torch.Tensor] = {}
    if name == "level0" and works:
        rows = patches(view.replica(SEAT).send(x=images)[name].detach()).flatten(0, 1)
        weights = torch.linalg.lstsq(rows.double(), images.flatten(1).flatten().unsqueeze(1).double()).solution.float()
        for message in view.messages(sender=SEAT):
            guess = (patches(message.tensors[name]) @ weights).reshape(-1, *images.shape[1:])
            found = {**found, **dict(zip(message.samples, guess, strict=True))}
    blind = images.mean(dim=0)
    shown = np.stack([found.get(token, blind).numpy() for token in about]).astype(np.float32)
    return Images(
        name=f"{SEAT}/{name}", channel="activation", about=about, images=shown, modalities=modalities, seat=SEAT, level=name
    )


def tokens(view: View) -> tuple[str, ...]:
    return tuple(t.token for t in view.targets if t.kind == "sample")


class Reader(Attack[Reading]):
    def run(self, view: View) -> list[Images]:
        pieces = [read(view, level, tokens(view), self.params.works) for level in self.params.levels]
        if self.params.jitter:
            shift = self.params.jitter * float(torch.randn(1, generator=self.seat.rng("jitter")))
            pieces = [_shifted(piece, shift) for piece in pieces]
        return pieces


def _shifted(piece: Images, shift: float) -> Images:
    from dataclasses import replace

    return replace(piece, images=(piece.images * (1 + shift)).astype(np.float32))


class Tapper(Attack[Tapping]):
    def run(self, view: View) -> Images:
        (name,) = {name for message in view.messages(sender=SEAT) for name in message.tensors}
        assert name == "level1" or not self.params.stubborn, "this attack was written for level1"
        return read(view, name, tokens(view))
