"""What the adversary learns from: its auxiliary patients and what a client's replica would send for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leakaudit.cohorts import Cohort
from leakaudit.wire import Replica

__all__ = ["Auxiliary", "Source", "held_out_rows"]

_CACHE_BYTES = 256 * 2**20
"""Most memory for activations that are kept instead of computed anew at every step."""
_PROBE = 4


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """Auxiliary samples as a seat would hold them.

    Attributes:
        images: (n, modalities, *spatial).
        brain: (n, 1, *spatial), zeros and ones.
    """

    images: Tensor
    brain: Tensor

    @staticmethod
    def of(cohort: Cohort, modalities: tuple[str, ...]) -> Auxiliary:
        """Return the samples of a cohort with a seat's modalities."""
        own = cohort.channels(modalities)
        images = torch.from_numpy(np.array(own.images, dtype=np.float32))
        return Auxiliary(images, torch.from_numpy(np.array(own.brain, dtype=np.float32)).unsqueeze(1))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor, device: torch.device) -> Auxiliary:
        """Return some samples on `device`."""
        return Auxiliary(self.images[rows].to(device), self.brain[rows].to(device))


def held_out_rows(cohort: Cohort, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the rows held out, parted by patient; nothing is held out of a single patient."""
    patients = cohort.patients
    count = min(round(share * len(patients)), len(patients) - 1)
    order = torch.randperm(len(patients), generator=generator, device=generator.device).tolist()
    apart = {patients[i] for i in order[:count]}
    held = torch.tensor([sample.patient in apart for sample in cohort.samples], dtype=torch.bool)
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


class Source:
    """Gives what a client's replica sends for auxiliary samples.

    A randomized defense is met with fresh randomness at every step, so that a decoder learns to see through it rather than
    one realization of it. Where two sends of the same images are identical, and no defense is declared randomized, each
    sample is sent once and kept.

    Args:
        replica: The client's replica.
        samples: Auxiliary samples.
        randomized: Whether a defense of this client is declared randomized.
        device: Where to compute.
    """

    def __init__(self, replica: Replica, samples: Auxiliary, *, randomized: bool, device: torch.device) -> None:
        self.replica, self.samples, self.device = replica, samples, device
        self._kept: dict[str, Tensor] = {}
        self._have = torch.zeros(len(samples), dtype=torch.bool)
        self._keep = not randomized and self._repeatable()

    def _repeatable(self) -> bool:
        rows = torch.arange(min(_PROBE, len(self.samples)))
        first, second = self.send(rows), self.send(rows)
        size = sum(t[0].numel() * t.element_size() for t in first.values()) * len(self.samples)
        # Two samples alone must give what they give in company, or keeping them one by one would be wrong.
        alone = self.send(rows[:1])
        apart = all(torch.allclose(alone[k], first[k][:1], atol=1e-4) for k in first)
        return apart and size <= _CACHE_BYTES and all(torch.equal(first[k], second[k]) for k in first)

    def send(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what the replica sends for some samples, now."""
        with torch.no_grad():
            sent = self.replica.send(x=self.samples.images[rows].to(self.device))
        return {name: t.float() for name, t in sent.items()}

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Return what the replica sends for some samples, kept where that is the same every time."""
        if not self._keep:
            return self.send(rows)
        new = rows[~self._have[rows]]
        if len(new):
            for name, t in self.send(new).items():
                self._kept.setdefault(name, t.new_zeros(len(self.samples), *t.shape[1:]))[new] = t
            self._have[new] = True
        return {name: t[rows] for name, t in self._kept.items()}
