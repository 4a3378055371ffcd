"""Trains the decoders of one client, all on the same batches so that the client's replica is asked once a step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.losses import reconstruction_loss
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.source import HOLDINGS, Auxiliary, Source

__all__ = ["train_decoders"]

_EXAMPLES = 32
_HELD_OUT = 48
"""Most held-out samples on which decoders are compared."""
_SHARES = ((1.0, 0.0), *((own, blind) for own in (1.0, 0.75, 0.5, 0.25, 0.0) for blind in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)))
"""Shares of what is decoded and of the mean image that are tried, the decoder alone first; beyond 1 contrast is stretched."""
_CHECKS = 10
"""How often in a training the decoders are compared with their best so far; `patience` counts these."""


@dataclass(slots=True)
class _Best:
    loss: float
    state: dict[str, Tensor]
    check: int


def train_decoders(
    params: ModelInversionParams, source: Source, train: Tensor, held_out: Tensor, generator: torch.Generator
) -> dict[str, Decoder]:
    """Return a trained decoder for each endpoint, by level or `"joint"`.

    Nothing but auxiliary patients decides when a decoder is good or training ends: victims are not looked at.

    Args:
        params: The attack's parameters.
        source: What the client's replica sends for auxiliary samples.
        train: Rows of `source` to train on.
        held_out: Rows on which the best state of each decoder is chosen; where there are none, the last state stays.
        generator: The adversary's randomness.
    """
    order = _Rows(train, params.batch_size, generator)
    examples = source.send(train[:_EXAMPLES])
    decoders = _fresh(params, source, examples, train, generator)
    if not decoders:
        return {}
    weights = [p for decoder in decoders.values() for p in decoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=params.learning_rate)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / params.iterations)))
    judge = _Judge(params, source, held_out[:_HELD_OUT])
    every = max(1, params.iterations // _CHECKS)
    needed = {level for decoder in decoders.values() for level in decoder.levels}
    for step in range(params.iterations):
        rows = order.next()
        truth, sent = source.samples.take(rows, source.device), source.batch(rows, needed)
        optimizer.zero_grad()
        for decoder in decoders.values():
            # One backward per decoder keeps the memory of one graph at a time.
            reconstruction_loss(decoder(sent), truth.images, truth.brain, params.loss).backward()
        optimizer.step()
        cosine.step()
        if (step + 1) % every == 0 or step + 1 == params.iterations:
            judge.compare(decoders)
            if params.patience is not None and judge.idle >= params.patience:
                break
    judge.restore(decoders)
    judge.mix(decoders)
    return {name: decoder.eval() for name, decoder in decoders.items()}


def _fresh(
    params: ModelInversionParams, source: Source, examples: Mapping[str, Tensor], train: Tensor, generator: torch.Generator
) -> dict[str, Decoder]:
    images = source.samples.images
    prior = images[train].mean(dim=0)
    shape, modalities = tuple(images.shape[2:]), images.shape[1]
    decoders = {}
    beside = tuple(name for name in examples if name == HOLDINGS)
    for name, levels in params.endpoints(tuple(name for name in examples if name != HOLDINGS)).items():
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            chosen = {level: examples[level].cpu() for level in (*levels, *beside)}
            decoder = Decoder(chosen, shape, modalities, width=params.width, blocks=params.blocks, prior=prior)
        decoders[name] = decoder.to(source.device)
    return decoders


class _Rows:
    """Passes over rows in random order, batch by batch."""

    def __init__(self, rows: Tensor, batch: int, generator: torch.Generator) -> None:
        self._rows, self._batch, self._generator = rows, min(batch, len(rows)), generator
        self._left = rows[:0]

    def next(self) -> Tensor:
        if len(self._left) < self._batch:
            g = self._generator
            self._left = self._rows[torch.randperm(len(self._rows), generator=g, device=g.device).cpu()]
        batch, self._left = self._left[: self._batch], self._left[self._batch :]
        return batch


class _Judge:
    """Keeps the best state of each decoder on held-out auxiliary samples, whose messages are drawn once."""

    def __init__(self, params: ModelInversionParams, source: Source, rows: Tensor) -> None:
        self._params, self._device = params, source.device
        batches = list(rows.split(params.batch_size)) if len(rows) else []
        self._truth: list[Auxiliary] = [source.samples.take(b, source.device) for b in batches]
        self._sent = [source.send(b) for b in batches]
        self._best: dict[str, _Best] = {}
        self._checks = 0

    @property
    def idle(self) -> int:
        """How many comparisons ago any decoder was better than before."""
        return self._checks - max((best.check for best in self._best.values()), default=self._checks)

    def compare(self, decoders: Mapping[str, Decoder]) -> None:
        if not self._sent:
            return
        self._checks += 1
        for name, decoder in decoders.items():
            loss = self._loss(decoder)
            if name not in self._best or loss < self._best[name].loss:
                self._best[name] = _Best(loss, copy.deepcopy(decoder.state_dict()), self._checks)

    def _loss(self, decoder: Decoder) -> float:
        total, count = 0.0, 0
        with torch.no_grad():
            for truth, sent in zip(self._truth, self._sent, strict=True):
                value = reconstruction_loss(decoder(sent), truth.images, truth.brain, self._params.loss)
                total, count = total + float(value) * len(truth), count + len(truth)
        return total / count

    def restore(self, decoders: Mapping[str, Decoder]) -> None:
        for name, best in self._best.items():
            decoders[name].load_state_dict(best.state)

    def mix(self, decoders: Mapping[str, Decoder]) -> None:
        """Choose for each decoder how much of the mean image is added; nothing where no patients are held out."""
        if not self._sent:
            return
        for decoder in decoders.values():
            losses = {}
            for shares in _SHARES:
                decoder.mix(*shares)
                losses[shares] = self._loss(decoder)
            decoder.mix(*min(_SHARES, key=losses.__getitem__))
