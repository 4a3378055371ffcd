"""What an attacker does where messages tell nothing, and what one who does not know the defense is granted."""

from __future__ import annotations

from typing import Any

import torch
from leakaudit_inversion.losses import reconstruction_loss
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.source import Auxiliary, Source
from leakaudit_inversion.training import train_decoders

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import SplitParams
from leakaudit.threats import Requires

COHORT = CohortFacts(modalities=("flair", "t1"), shape=(16, 16), members=8, auxiliary=4, sites=("site-0",), records=8)


class Noise(Source):
    """What arrives has nothing to do with the images."""

    def __init__(self, samples: Auxiliary) -> None:
        self.samples, self.device = samples, torch.device("cpu")
        self._draw = torch.Generator().manual_seed(0)

    def send(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"level0": torch.randn(len(rows), 4, *self.samples.images.shape[2:], generator=self._draw)}

    def batch(self, rows: torch.Tensor, levels: Any = None) -> Any:
        return self.send(rows)


def test_where_messages_tell_nothing_the_blind_guess_is_returned() -> None:
    draw = torch.Generator().manual_seed(3)
    shared = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 20, 20, generator=draw), 5, 1) * 4
    images = shared + 0.3 * torch.randn(24, 1, 16, 16, generator=draw)
    samples, held_out = Auxiliary(images, torch.ones_like(images)), torch.arange(6)
    params = ModelInversionParams(iterations=20, batch_size=4)
    made = train_decoders(params, Noise(samples), torch.arange(6, 24), held_out, torch.Generator().manual_seed(1))
    decoder = made["level0"]
    assert decoder.get_buffer("shares")[1] > 0
    with torch.no_grad():
        guess = decoder(Noise(samples).send(held_out))
    truth, brain = images[held_out], samples.brain[held_out]
    mean = decoder.get_buffer("prior").expand_as(guess)
    own = reconstruction_loss(guess, truth, brain, params.loss)
    assert own <= 1.05 * reconstruction_loss(mean, truth, brain, params.loss)
    assert own < 0.7 * reconstruction_loss(torch.zeros_like(guess), truth, brain, params.loss)


def test_who_does_not_know_the_defense_is_not_granted_it() -> None:
    needs = ModelInversionParams(adaptive=False).requires(SplitParams().facts(COHORT))
    assert isinstance(needs, Requires)
    assert needs.threat.knows == ("architecture", "weights", "sample-ids")
