"""Images from the update of an imprint module (Fowl et al. 2022, "Robbing the Fed", arXiv 2110.13057).

Row i of the module is active for images whose query exceeds cut i, and every active row passes the same number on. So between two
rows the gradients differ by what the images of one bin contribute: g x for the weight and g for the bias, where one image is in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from leakaudit.errors import UserError
from leakaudit_gradients.imprint_params import Fit

__all__ = ["Found", "Plausible", "cuts", "invert"]

_FAR = 8.0
"""Spreads below the mean where the first bin begins: every image is in some bin."""
_LEAST = 1e-3
"""Spread of the query over that of white noise of the images' size, below which it tells images not apart."""
_SAME = 0.98
"""Correlation of one image found in two bins, into which it fell at different steps."""
_FAINT = 1e-5
"""Contribution to the bias over the largest of all bins, below which there is nothing but rounding."""


def cuts(values: NDArray[np.float64], bins: int, fit: Fit, noise: float) -> list[float]:
    """Return the lower ends of equally likely bins, ascending; the first is far below everything.

    Args:
        values: (n,), the query of auxiliary images.
        bins: How many.
        fit: Distribution that is fitted.
        noise: Standard deviation of the query, were the voxels of images independent.

    Raises:
        UserError: There are fewer than two auxiliary images, or all have the same query.
    """
    spread = float(values.std()) if len(values) > 1 else 0.0
    if spread < _LEAST * noise or spread == 0:
        raise UserError(
            f"imprint: the query of {len(values)} auxiliary image(s) has a spread of {spread:.2g}, so that it sorts nothing into "
            "bins. Images normalized to one mean need query: random, not mean; raise data.auxiliary if there are fewer than two"
        )
    shares = np.arange(1, bins) / bins
    if fit == "empirical":
        inner = np.quantile(values, shares)
    elif fit == "laplace":
        middle = float(np.median(values))
        inner = stats.laplace.ppf(shares, loc=middle, scale=float(np.abs(values - middle).mean()))
    else:
        inner = stats.norm.ppf(shares, loc=float(values.mean()), scale=float(values.std(ddof=1)))
    return [float(values.mean()) - _FAR * spread, *(float(v) for v in inner)]


@dataclass(frozen=True, kw_only=True)
class Plausible:
    """What an image of the cohort is like, as far as auxiliary images tell: it separates images from mixtures and rounding.

    Attributes:
        low: Least mean square of a modality, (modalities,).
        high: Largest, (modalities,).
    """

    low: Tensor
    high: Tensor

    @staticmethod
    def of(images: Tensor) -> Plausible:
        """Return what images (n, modalities, *spatial) have in common, with some margin."""
        power = images.double().flatten(2).square().mean(dim=2)
        return Plausible(low=0.7 * power.amin(dim=0), high=1.4 * power.amax(dim=0))

    def __call__(self, images: Tensor) -> Tensor:
        """Return which of images (n, modalities, *spatial) could be one, (n,) bool."""
        power = images.double().flatten(2).square().mean(dim=2)
        return ((power >= self.low) & (power <= self.high)).all(dim=1)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One image per bin.

    Attributes:
        images: (bins, *shape), float64; zeros where nothing was found.
        strength: (bins,), size of the bin's contribution to the bias; 0 where nothing was found.
        inside: (bins,) bool, whether the image belongs into the bin it was found in, as mixtures and rounding rarely do.
    """

    images: Tensor
    strength: Tensor
    inside: Tensor

    def best(self, count: int, plausible: Plausible, instead: Tensor) -> Tensor:
        """Return `count` images, the strongest first and each once, and `instead` (an image) for all that were not found."""
        good = self.inside & (self.strength > _FAINT * self.strength.max()) & plausible(self.images)
        order = torch.argsort(torch.where(good, self.strength, -1.0), descending=True, stable=True)
        order = order[: int(good.sum())]
        flat = self.images[order].flatten(1)
        flat = flat - flat.mean(dim=1, keepdim=True)
        flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-300)
        chosen: list[int] = []
        for i in range(len(order)):
            if len(chosen) < count and not (chosen and bool((flat[chosen] @ flat[i] > _SAME).any())):
                chosen.append(i)
        rest = instead.double().expand(count - len(chosen), *instead.shape)
        return torch.cat([self.images[order[chosen]], rest])


def invert(
    change: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor], divisor: float, shape: tuple[int, ...], *, slack: float = 0.01,
    unit: float = 0.0,
) -> Found:  # fmt: skip
    """Return the image of every bin: x = (dW_i - dW_{i+1}) / (db_i - db_{i+1}); of the last bin, dW / db.

    Args:
        change: Gradient, or any multiple of a sum of gradients (an update), of weight (bins, d) and bias (bins,).
        before: Weight and bias where it was taken.
        divisor: What images were divided by before the module.
        shape: Of an image.
        slack: How far an image may lie outside of its bin, in spreads of the query: for bins that move during several local
            steps. What the rounding of weights alone can do comes on top.
        unit: What one unit of a sent update is in `change`; 0 where it is no update but exact.
    """
    (dw, db), (weight, bias) = ((w.double(), b.double()) for w, b in (change, before))
    dw, db = dw - _next(dw), db - _next(db)
    x = torch.nan_to_num(dw / torch.where(db == 0, torch.inf, db)[:, None])
    here = (weight * x).sum(dim=1) + bias
    after = (_next(weight) * x).sum(dim=1) + _next(bias)
    # The middle half of the bins is 1.35 spreads wide; the first bin alone reaches far beyond.
    quarters = torch.quantile(bias, torch.tensor([0.25, 0.75], dtype=torch.float64, device=bias.device))
    free = slack * float(quarters[1] - quarters[0]) / 1.35 + _blur(before, here - bias, db, unit)
    inside = (here >= -free) & (after <= free)
    inside[-1] = here[-1] >= -free[-1]
    images = (divisor * x).reshape(len(x), *shape)
    return Found(images=images, strength=db.abs(), inside=inside)


def _blur(before: tuple[Tensor, Tensor], query: Tensor, db: Tensor, unit: float) -> Tensor:
    """Return by how much rounding blurs the query of each bin's image, (bins,), three standard deviations at least.

    An update is known to half a last digit of the weight. That is one error in every entry of dW and one in db, twice because
    rows are subtracted; the weaker the bin, the more it counts.
    """
    grain, one = (torch.nextafter(w.abs(), torch.full_like(w, torch.inf)).double() - w.abs().double() for w in before)
    error = torch.hypot((before[0].double() * grain).norm(dim=1), query * one)
    return math.sqrt(2) * unit * error / torch.where(db == 0, torch.inf, db.abs())


def _next(rows: Tensor) -> Tensor:
    """Return each row's successor, zeros behind the last."""
    return torch.cat([rows[1:], torch.zeros_like(rows[:1])])
