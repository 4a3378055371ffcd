"""What the adversary learns from: its auxiliary patients and what a client's replica would send for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import View
from leakaudit.cohorts import Cohort
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.setting import held_modalities
from leakaudit_inversion.span import Sender

__all__ = ["HOLDINGS", "Auxiliary", "Holdings", "Source", "held_out_rows"]

HOLDINGS = "holdings"
"""Name under which a colluding client's own images enter a decoder, beside the levels."""
_CACHE_BYTES = 256 * 2**20
"""Most memory for activations that are kept instead of computed anew at every step."""
_PROBE = 4


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """Auxiliary samples as a seat would hold them.

    Attributes:
        images: (n, modalities, *spatial).
        brain: (n, 1, *spatial), zeros and ones.
        held: What a colluding client would hold of them, (n, its modalities, *spatial); None without collusion.
    """

    images: Tensor
    brain: Tensor
    held: Tensor | None = None

    @staticmethod
    def of(cohort: Cohort, modalities: tuple[str, ...], held: tuple[str, ...] = (), *, noise: bool = False) -> Auxiliary:
        """Return the samples of a cohort with a seat's modalities.

        Args:
            cohort: Auxiliary patients.
            modalities: Those of the attacked seat.
            held: Those of the colluding seats.
            noise: The images are noise: who owns no patient knows no brain mask either, and learns from the whole image.
        """
        own = cohort.channels(modalities)
        images = torch.from_numpy(np.array(own.images, dtype=np.float32))
        brain = torch.from_numpy(np.array(own.brain, dtype=np.float32)).unsqueeze(1)
        beside = torch.from_numpy(np.array(cohort.channels(held).images, dtype=np.float32)) if held else None
        return Auxiliary(images, torch.ones_like(brain) if noise else brain, beside)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor, device: torch.device) -> Auxiliary:
        """Return some samples on `device`."""
        held = None if self.held is None else self.held[rows].to(device)
        return Auxiliary(self.images[rows].to(device), self.brain[rows].to(device), held)


@dataclass(frozen=True, slots=True)
class Holdings:
    """The images of the members that the adversary's own seats hold, by token."""

    images: Tensor
    rows: Mapping[str, int]

    @staticmethod
    def of(view: View) -> Holdings | None:
        """Return what the adversary's seats hold in a view, None where they hold no image."""
        modalities = held_modalities(view)
        if not modalities or view.holdings is None:
            return None
        cohort = view.holdings.channels(modalities)
        rows = {sample.patient: i for i, sample in enumerate(cohort.samples)}
        return Holdings(torch.from_numpy(cohort.images.copy()).float(), rows)

    def take(self, tokens: Sequence[str], device: torch.device) -> Tensor:
        """Return the images of some targets, (n, held modalities, *spatial), on `device`."""
        return self.images[[self.rows[token] for token in tokens]].to(device)


def held_out_rows(cohort: Cohort, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the rows held out, parted by patient; nothing is held out of a single patient."""
    patients = cohort.patients
    count = min(round(share * len(patients)), len(patients) - 1)
    order = torch.randperm(len(patients), generator=generator, device=generator.device).tolist()
    apart = {patients[i] for i in order[:count]}
    held = torch.tensor([sample.patient in apart for sample in cohort.samples], dtype=torch.bool)
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


class Source:
    """Gives what would be observed of auxiliary samples: one send per round that is observed, merged into one input.

    A randomized defense is met with fresh randomness at every step, so that a decoder learns to see through it rather than
    one realization of it. Where two sends of the same images are identical, and no defense is declared randomized, each
    sample is sent once and kept.

    Args:
        spans: The client, or whoever else sends, during each observed round, the last first.
        samples: Auxiliary samples.
        randomized: Whether a defense of this client is declared randomized.
        device: Where to compute.
        generator: Draws when in its round a sample is sent.
        inputs: What is sent of each sample, (n, channels, *spatial); by default the images to be reconstructed.
    """

    def __init__(
        self, spans: Sequence[Sender], samples: Auxiliary, *, randomized: bool, device: torch.device, generator: torch.Generator,
        inputs: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.spans, self.samples, self.device = tuple(spans), samples, device
        self._inputs = samples.images if inputs is None else inputs
        self._generator = generator
        self.pooling = Pooling()
        self._kept: dict[str, Tensor] = {}
        self._have = torch.zeros(len(samples), dtype=torch.bool)
        self._keep = self._probe() and not randomized

    def _probe(self) -> bool:
        """Find out how observations are to be merged, and return whether a sample's can be kept."""
        rows = torch.arange(min(_PROBE, len(self.samples)))
        first, second = (self._sent(self.spans[0], rows) for _ in range(2))
        self.pooling = Pooling.of(first, second)
        size = sum(t[0].numel() * t.element_size() for t in first.values()) * len(self.samples)
        # Two samples alone must give what they give in company, or keeping them one by one would be wrong.
        alone = self._sent(self.spans[0], rows[:1])
        apart = all(torch.allclose(alone[k], first[k][:1], atol=1e-4) for k in first)
        return apart and size <= _CACHE_BYTES and all(torch.equal(first[k], second[k]) for k in first)

    def _sent(self, span: Sender, rows: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return span.send(self._inputs[rows].to(self.device))

    def _observed(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the merged observations of some samples, sent at one random place of each round."""
        g = self._generator
        for span in self.spans:
            if span.moves:
                span.go(float(torch.rand((), generator=g, device=g.device)))
        return self.pooling.merge([self._sent(span, rows) for span in self.spans])

    def send(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what would be observed of some samples, drawn anew; with a colluding client, what it holds of them too."""
        return self._beside(self._observed(rows), rows)

    def batch(self, rows: Tensor, levels: Collection[str] | None = None) -> Mapping[str, Tensor]:
        """Return what would be observed of some samples, kept where that is the same every time.

        Args:
            rows: The samples.
            levels: Levels that are needed; default all. Others may be left out.
        """
        if not self._keep:
            return self.send(rows)
        new = rows[~self._have[rows]]
        if len(new):
            for name, t in self._observed(new).items():
                if name not in self._kept:
                    self._kept[name] = t.new_zeros(len(self.samples), *t.shape[1:])
                self._kept[name][new] = t
            self._have[new] = True
        return self._beside({name: t[rows] for name, t in self._kept.items() if levels is None or name in levels}, rows)

    def _beside(self, merged: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        if self.samples.held is not None:
            merged[HOLDINGS] = self.samples.held[rows].to(self.device)
        return merged
