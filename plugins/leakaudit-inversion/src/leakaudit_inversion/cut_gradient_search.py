"""Search for the images of all clients, and masks where they are not known, whose cut gradients are those observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import REGIONS, regions
from leakaudit.facts import SeatFacts
from leakaudit_inversion.answers import prior_images
from leakaudit_inversion.cut_gradient_exchange import Exchange, exchange_of
from leakaudit_inversion.cut_gradient_params import GradientInversionParams
from leakaudit_inversion.cut_gradient_reading import Read, unit
from leakaudit_inversion.observed import Observed
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.prior import Prior, total_variation
from leakaudit_inversion.search import Search, goals_of, search
from leakaudit_inversion.setting import at_once, held_modalities, image_shape, seeded
from leakaudit_inversion.source import Holdings
from leakaudit_inversion.span import Route, parts_of
from leakaudit_inversion.stance import Stage

__all__ = ["Hunt", "Unknown", "held_masks"]

_PULL = 1e-2
"""Weight of brightness and contrast, which instance normalization hides."""
_GRAIN, _SPREAD = 0.1, 0.7
"""Standard deviations, for who owns no images, of a grainy gray start and of images over all voxels."""
_SHARE = 0.05
"""Share of voxels in a region for who has seen no mask; and the least and largest certainty about a voxel at the start."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """What is searched for, and how it completes what is known.

    Attributes:
        modalities: Number of modalities of all clients.
        searched: Channels of the images that are searched for; the adversary holds the others.
        held: (n, other channels, *spatial), the adversary's own images; None where it holds none.
        masks: (n, regions, *spatial) where the adversary holds the masks; None where soft masks are searched for, too.
    """

    modalities: int
    searched: tuple[int, ...]
    held: Tensor | None
    masks: Tensor | None

    def whole(self, x: Tensor) -> Tensor:
        """Return images of all clients and masks for `x`: images searched for, then log-odds of masks searched for."""
        images = x[:, : len(self.searched)]
        known = images if self.held is None else torch.cat([images, self.held], dim=1)
        others = [i for i in range(self.modalities) if i not in self.searched]
        order = [*self.searched, *others]
        masks = torch.sigmoid(x[:, len(self.searched) :]) if self.masks is None else self.masks
        return torch.cat([known[:, [order.index(i) for i in range(self.modalities)]], masks], dim=1)

    def penalty(self, x: Tensor, prior: Prior) -> Tensor:
        """Return the penalty of each target, (n,): that of the images, and the total variation of masks searched for."""
        found = prior(x[:, : len(self.searched)])
        if self.masks is not None:
            return found
        return found + prior.tv * total_variation(torch.sigmoid(x[:, len(self.searched) :])).mean(dim=1)


class Hunt:
    """The search in one stage.

    Args:
        view: The adversary's view.
        params: The attack's parameters.
        stage: Which rounds.
        form: Number format of the wire.
        generator: The adversary's randomness.

    Attributes:
        searched: Modalities that are searched for: those that the adversary does not hold.
    """

    def __init__(
        self, view: View, params: GradientInversionParams, stage: Stage, form: torch.dtype, generator: torch.Generator
    ) -> None:
        held = held_modalities(view)
        self.searched = tuple(m for m in view.modalities if m not in held)
        self._view, self._params, self._generator = view, params, generator
        self._receivers = params.receivers(view.facts, view.threat.plays)
        self._holdings, self._masks = Holdings.of(view), held_masks(view)
        self._rounds: list[list[Exchange]] = [
            parts_of(partial(exchange_of, view, round_, self._receivers, form)) for round_ in stage.rounds
        ]

    def images(self, observed: Observed, levels: Sequence[str]) -> Tensor:
        """Return the images (n, searched modalities, *spatial) whose gradients at `levels` are nearest to those observed."""
        shape = self._shape(observed)
        size = at_once(self._params.targets, shape, self._view.device)
        parts = [observed.take(i, i + size, self._view.device) for i in range(0, len(observed), size)]
        with seeded(self._generator, self._view.device):
            return torch.cat([self._some(part, levels, shape) for part in parts])

    def _some(self, observed: Observed, levels: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        unknown, device = self._unknown(observed.tokens), self._view.device
        draws = [{name: unit(draw[name]) for name in levels} for draw in observed.draws]
        goals = goals_of(draws, observed.seen, levels, Pooling(), {})
        routes = [
            Route([Read(part, _unit) for part in parts], place) for parts, place in zip(self._rounds, observed.place, strict=True)
        ]
        params = self._params
        steady = not any(d.stochastic for d in self._view.defenses)
        how = Search(
            iterations=params.iterations, learning_rate=params.search_rate, smoothing=params.smoothing,
            draws=1 if steady else params.draws, steady=steady,
        )  # fmt: skip
        prior = self._prior(len(observed))
        start = self._start(observed.tokens, shape, soft=unknown.masks is None).to(device)
        models = [lambda x, route=route: route(unknown.whole(x)) for route in routes]
        found, _ = search(models, goals, start, lambda x: unknown.penalty(x, prior), how)
        return found[:, : len(self.searched)]

    def _unknown(self, tokens: Sequence[str]) -> Unknown:
        view = self._view
        return Unknown(
            modalities=len(view.modalities), searched=tuple(view.modalities.index(m) for m in self.searched),
            held=None if self._holdings is None else self._holdings.take(tokens, view.device),
            masks=None if self._masks is None else torch.stack([self._masks[t] for t in tokens]).to(view.device),
        )  # fmt: skip

    def _prior(self, count: int) -> Prior:
        device = self._view.device
        tv = torch.full((count,), self._params.tv, device=device)
        if self._view.auxiliary is None:
            mean = torch.zeros(len(self.searched), device=device)
            return Prior(tv=tv, pull=_PULL, mean=mean, spread=torch.full_like(mean, _SPREAD))
        flat = torch.from_numpy(np.array(self._view.auxiliary.channels(self.searched).images)).flatten(2).to(device)
        return Prior(tv=tv, pull=_PULL, mean=flat.mean(dim=(0, 2)), spread=flat.std(dim=2).mean(dim=0).clamp_min(1e-3))

    def _start(self, tokens: Sequence[str], shape: tuple[int, ...], *, soft: bool) -> Tensor:
        """Return the mean auxiliary image at each target's position, else grainy gray, with log-odds of masks if `soft`."""
        g, auxiliary = self._generator, self._view.auxiliary
        if auxiliary is None:
            images = _GRAIN * torch.randn(len(self.searched), *shape, generator=g, device=g.device).cpu()
            images = images.expand(len(tokens), *images.shape)
            share = torch.full((len(REGIONS), *shape), _SHARE)
        else:
            own = SeatFacts(id="all", role="client", modalities=self.searched)
            images = torch.from_numpy(prior_images(self._view, own, tokens))
            share = torch.from_numpy(regions(np.asarray(auxiliary.labels)).mean(axis=0)).clamp(_SHARE, 1 - _SHARE)
        if not soft:
            return images
        odds = torch.logit(share).expand(len(tokens), *share.shape)
        return torch.cat([images, odds], dim=1)

    def _shape(self, observed: Observed) -> tuple[int, ...]:
        """Return the spatial shape of an image; gradients have the sizes of the levels."""
        client = self._view.facts.seat(self._receivers[0])
        return image_shape(self._view, client, self._rounds[0][0].levels_of(client.id), observed.draws[0])


def held_masks(view: View) -> dict[str, Tensor] | None:
    """Return the masks (regions, *spatial) that the adversary's own seats hold, by token; None where they hold none."""
    seats = [view.facts.seat(seat) for seat in view.facts.played(view.threat.plays)]
    if view.holdings is None or not any(seat.labels for seat in seats):
        return None
    masks = torch.from_numpy(regions(np.asarray(view.holdings.labels)))
    return {sample.patient: mask for sample, mask in zip(view.holdings.samples, masks, strict=True)}


def _unit(_: str, g: Tensor) -> Tensor:
    return unit(g)
