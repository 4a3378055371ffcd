"""Updates as a few thousand features, and the sites that are made up to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit.models import Tensors

__all__ = ["MadeUp", "Sketch", "made_up"]

_FOLDS = 10


class Sketch:
    """A count sketch of every tensor: each entry is added, with a random sign, to one of `width` sums.

    Inner products are kept on average (Charikar, Chen and Farach-Colton 2002). Small tensors stay as they are, and no large one
    crowds them out.

    Args:
        like: One update, for names and shapes.
        width: Most features of a tensor.
        generator: Draws places and signs.
    """

    def __init__(self, like: Tensors, width: int, generator: torch.Generator) -> None:
        self._width, self._drawn = width, dict[str, tuple[Tensor, Tensor]]()
        self._names = sorted(like)
        for name in self._names:
            size = like[name].numel()
            if size > width:
                places, signs = (
                    torch.randint(high, (size,), generator=generator, device=generator.device) for high in (width, 2)
                )  # fmt: skip
                self._drawn[name] = places.to(like[name].device), (2.0 * signs - 1).to(like[name])

    def __call__(self, updates: Tensors) -> Tensor:
        """Return features (n, d) of updates whose tensors are (n, *shape)."""
        return torch.cat([self._shortened(name, updates[name].flatten(1)) for name in self._names], dim=1)

    def _shortened(self, name: str, flat: Tensor) -> Tensor:
        if name not in self._drawn:
            return flat
        places, signs = self._drawn[name]
        return flat.new_zeros(len(flat), self._width).index_add_(1, places, flat * signs)


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """Sites made of auxiliary samples.

    Attributes:
        rows: (n, samples), the auxiliary samples of each.
        folds: (n,), no patient is in two folds.
    """

    rows: Tensor
    folds: tuple[int, ...]


def made_up(patients: Sequence[str], samples: int, repeats: int, generator: torch.Generator) -> MadeUp:
    """Return sites that begin with each auxiliary sample, `repeats` times.

    With one sample per site every patient is a fold; with several, patients are dealt to up to ten folds and a site stays
    inside one, so that leaving a fold out leaves its patients out. A site larger than its fold has samples twice.

    Args:
        patients: Patient of each auxiliary sample; at least two different ones.
        samples: Samples of one site.
        repeats: Sites that begin with each sample.
        generator: Source of randomness.
    """
    names = sorted(set(patients))
    count = len(names) if samples == 1 else max(2, min(_FOLDS, len(names) // (2 * samples)))
    dealt = torch.randperm(len(names), generator=generator, device=generator.device).tolist()
    fold_of = {names[place]: number % count for number, place in enumerate(dealt)}
    rows, folds = [], []
    for first in list(range(len(patients))) * repeats:
        fold = fold_of[patients[first]]
        others = [i for i, p in enumerate(patients) if fold_of[p] == fold and i != first]
        order = torch.randperm(len(others), generator=generator, device=generator.device).tolist()
        site = [first, *(others[i] for i in order)]
        rows.append((site * -(-samples // len(site)))[:samples])
        folds.append(fold)
    return MadeUp(rows=torch.tensor(rows), folds=tuple(folds))
