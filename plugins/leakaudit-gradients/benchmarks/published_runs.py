"""Several passes over several batches (Dimitrov et al. 2022), and the imprint module (Fowl et al. 2022), for `published.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from leakaudit_gradients.imprint import cuts, invert
from leakaudit_gradients.imprint_params import Fit
from leakaudit_gradients.imprint_task import Imprint, Plan, query_vector
from leakaudit_gradients.localrun import LocalRun
from leakaudit_gradients.matching import Goal
from leakaudit_gradients.method import PRESETS, Method
from published_data import CLASSES, Scale, digit_net, digits, photographs, wide
from published_search import Found, local_run, one_hot, psnr_table, searched
from torch import Tensor, nn

__all__ = ["Imprinted", "Sites", "attacked_sites", "imprinted", "sites"]

RATE = 0.1
"""Learning rate of sites."""
METHOD = replace(PRESETS["smooth-unet"], iterations=500, start="noise")
"""How their updates are inverted: the published distance, the cosine, found nothing here by Adam in 100 iterations."""


@dataclass(frozen=True, kw_only=True)
class Sites:
    """What sites have and send.

    Attributes:
        x: Images (sites, samples, 1, H, W) on [0, 1]; sample i is in batch i // size of the first pass.
        labels: (sites, samples): every batch holds one sample of each of `size` classes, so that a pass over other batches has the
            same labels at every step.
        run: Their batches, as the adversary knows them.
        updates: What they send.
        network: What they train.
    """

    x: Tensor
    labels: Tensor
    run: LocalRun
    updates: dict[str, Tensor]
    network: nn.Sequential


@cache
def sites(count: int = 4, batches: int = 2, size: int = 2, passes: int = 3, seed: int = 0) -> Sites:
    """Return sites that went over their digits several times, shuffled anew in each pass among samples of one class."""
    images, numbers = digits(400, seed + 5)
    draw = np.random.default_rng(seed)
    x, labels = [], []
    for _ in range(count):
        classes = draw.choice(CLASSES, size, replace=False)
        rows = np.stack([draw.choice(np.flatnonzero(numbers.numpy() == c), batches, replace=False) for c in classes], axis=1)
        x.append(images[rows.reshape(-1)])
        labels.append(numbers[rows.reshape(-1)])
    run, scale = LocalRun.of(batches * size, size, passes), Scale.of(images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = wide(digit_net())
    simulate = local_run(network, run, RATE)
    sent = []
    for some, told in zip(x, labels, strict=True):
        seen = [some.unflatten(0, (batches, size))]
        for _ in range(passes - 1):
            order = np.stack([draw.permutation(batches) for _ in range(size)], axis=1)
            seen.append(seen[0][order, np.arange(size)])
        sent.append(simulate(scale.forward(torch.cat(seen).flatten(0, 1)), one_hot(told).repeat(passes, 1)))
    updates = {name: torch.stack([one[name].detach() for one in sent]) for name in sent[0]}
    return Sites(x=torch.stack(x), labels=torch.stack(labels), run=run, updates=updates, network=network)


def attacked_sites(made: Sites, view: str, invariance: float = 1.0, method: Method = METHOD) -> Found:
    """Invert the updates of sites.

    Args:
        made: The sites; the labels of every step are known.
        view: `passes`: every pass is simulated, with images of its own; `one order`: all passes are simulated as if they went
            through the samples in one order; `one gradient`: the update is taken for one gradient on all samples.
        invariance: Weight of what passes have in common whatever the order, for `passes`.
        method: How to search.
    """
    run = {
        "passes": made.run, "one order": replace(made.run, same_order=True),
        "one gradient": LocalRun.of(made.run.samples, made.run.samples, 1),
    }[view]  # fmt: skip
    scale = Scale.of(digits(400, 99)[0])
    goal = Goal(
        updates=made.updates, simulate=local_run(made.network, run, RATE), run=run, masks=one_hot(made.labels),
        bounds=scale.bounds(),
    )  # fmt: skip
    return searched(goal, made.x, scale, replace(method, invariance=invariance))


@dataclass(frozen=True, kw_only=True)
class Imprinted:
    """What an imprint module gave away.

    Attributes:
        psnr: PSNR in dB of what was read from the bin of each image, (images,).
        alone: Whether the image was alone in its bin, (images,).
    """

    psnr: Tensor
    alone: Tensor

    def __str__(self) -> str:
        """Return both as a line of a table."""
        own = self.psnr[self.alone]
        return (
            f"{int(self.alone.sum())} of {len(self.psnr)} alone in their bins, PSNR of these {own.mean():.2f} dB "
            f"({own.min():.2f} to {own.max():.2f}), {(own > 60).float().mean():.0%} above 60; of all {self.psnr.mean():.2f} dB"
        )


def imprinted(count: int = 64, bins: int = 128, side: int = 32, fit: Fit = "laplace") -> Imprinted:
    """Read photographs from one gradient of a classifier behind an imprint module, cross-entropy, one step on all of them.

    The cuts are quantiles of a random query of 400 other crops.

    Args:
        count: Images in the step.
        bins: Rows of the module.
        side: Pixels along each side.
        fit: Distribution that is fitted to the query.
    """
    x, labels = photographs(count, 3, attacked=True, side=side)
    own, _ = photographs(400, 4, attacked=False, side=side)
    shape = tuple(x.shape[1:])
    h = query_vector(shape, "random", 7)
    values = (own.flatten(1).double() @ h).numpy()
    spread = float(values.std())
    plan = Plan(
        shape=shape, query="random", seed=7, cuts=cuts(values, bins, fit, float(h.norm())), scale=1 / spread, gain=0.1,
        divisor=spread,
    )  # fmt: skip
    module = Imprint(plan)
    behind = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten())
    network = nn.Sequential(module, behind, nn.Linear(behind(x[:1]).shape[1], CLASSES))
    F.cross_entropy(network(x), labels).backward()
    weight, bias = module.linear.weight, module.linear.bias
    assert weight.grad is not None
    assert bias.grad is not None
    found = invert((weight.grad, bias.grad), (weight.detach(), bias.detach()), module.divisor, shape)
    with torch.no_grad():
        places = (module.linear(x.flatten(1) / module.divisor) > 0).sum(dim=1) - 1
    psnr = torch.from_numpy(np.diag(psnr_table(found.images[places].clamp(0, 1), x)).copy())
    return Imprinted(psnr=psnr, alone=(places[:, None] == places[None]).sum(dim=1) == 1)
