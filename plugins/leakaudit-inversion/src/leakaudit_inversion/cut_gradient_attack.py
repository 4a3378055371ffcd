"""`gradient-inversion`: images of patients from the gradients that a server returns to its clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, EvidenceError, View
from leakaudit.cohorts import Cohort, regions
from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit.threats import Channel
from leakaudit_inversion.answers import Answers, prior_images
from leakaudit_inversion.cut_gradient_exchange import exchange_of
from leakaudit_inversion.cut_gradient_params import GradientInversionParams
from leakaudit_inversion.cut_gradient_reading import Read, Reader, reader_of
from leakaudit_inversion.cut_gradient_search import Hunt
from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.observed import Observed, first_message, gathered
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.setting import attacked_clients, held_modalities, seeded
from leakaudit_inversion.source import HOLDINGS, Auxiliary, Holdings, Source, held_out_rows
from leakaudit_inversion.stance import Stage
from leakaudit_inversion.training import train_decoders

__all__ = ["GradientInversion"]

_CHUNK = 16
"""Samples decoded at once."""
_CHANNEL: Channel = "cut-gradient"
_GROUP_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Decoders of one stage, by level or `"joint"`, and how observations become their input; one reader per observation."""

    decoders: Mapping[str, Decoder]
    pooling: Pooling
    readers: Sequence[Reader]


class GradientInversion(Attack[GradientInversionParams]):
    """Inverts the gradients dL/dz that cross the cut, by a learned map or by a search.

    Roth et al. (Split-U-Net, DeCaF 2022, arXiv 2208.10553) count gradients beside activations among what a split leaks. The
    learned map is the inverter of He et al. (ACSAC 2019) on simulated gradients; the search matches gradients (Zhu, Liu and
    Han, NeurIPS 2019, arXiv 1906.08935), here those of activations, in which every sample has a row of its own.
    """

    _fitted: dict[torch.dtype, dict[str, _Fitted]] | None = None

    def fit(self, view: View) -> None:
        """Train the decoders on the adversary's own patients; a search learns nothing beforehand.

        Raises:
            UserError: The view holds no auxiliary patients to learn from.
        """
        self._fitted = {}
        if self.params.method == "learn":
            self._decoders(view, torch.float32)

    def _decoders(self, view: View, form: torch.dtype) -> dict[str, _Fitted]:
        """Return the decoders by stage for a number format of the wire, which only messages show."""
        assert self._fitted is not None
        if form not in self._fitted:
            cohort = view.auxiliary
            if cohort is None or not len(cohort):
                raise UserError(
                    "gradient-inversion learns from auxiliary patients, and the adversary owns none: raise data.auxiliary"
                )
            rows = held_out_rows(cohort, self.params.validation, self.seat.rng("held-out patients"))
            stages = self.params.stages(view.facts.rounds)
            self._fitted[form] = {stage.suffix: self._fit(view, cohort, stage, form, *rows) for stage in stages}
        return self._fitted[form]

    def _fit(self, view: View, cohort: Cohort, stage: Stage, form: torch.dtype, train: Tensor, held_out: Tensor) -> _Fitted:
        wanted = tuple(m for client in attacked_clients(self.params, view) for m in client.modalities)
        samples = Auxiliary.of(cohort, wanted, held_modalities(view), noise=view.threat.auxiliary == "noise")
        receivers = self.params.receivers(view.facts, view.threat.plays)
        generator = self.seat.rng(f"decoders{stage.suffix}")
        with seeded(generator, view.device):
            exchanges = [exchange_of(view, round_, receivers, form) for round_ in stage.rounds]
            order = [seat.id for seat in view.facts.seats_of("client")]
            readers = [reader_of(exchange, order, receivers) for exchange in exchanges]
            senders = [Read(exchange, reader) for exchange, reader in zip(exchanges, readers, strict=True)]
            source = Source(
                senders, samples, randomized=any(d.stochastic for d in view.defenses), device=view.device, generator=generator,
                inputs=_whole(view, cohort),
            )  # fmt: skip
            return _Fitted(train_decoders(self.params, source, train, held_out, generator), source.pooling, readers)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per attacked client, stage and endpoint, about every target whose gradients came back."""
        if self._fitted is None:
            self.fit(view)
        evidence: list[Evidence] = []
        clients = attacked_clients(self.params, view)
        receivers = self.params.receivers(view.facts, view.threat.plays)
        for stage in self.params.stages(view.facts.rounds):
            first = first_message(view, receivers[0], stage, _CHANNEL)
            if first is None:
                continue
            form = next(iter(first.tensors.values())).dtype
            endpoints = self.params.endpoints(tuple(first.tensors))
            hunt = self._hunt(view, stage, form) if self.params.method == "optimize" else None
            answers = [Answers(client, stage, tuple(endpoints), _CHANNEL) for client in clients]
            for observed in _returned(view, receivers, tuple(first.tensors), stage):
                if hunt is None:
                    self._decode(view, self._decoders(view, form)[stage.suffix], observed, answers, clients)
                else:
                    _search(hunt, endpoints, observed.take(0, len(observed), view.device), answers, clients)
            for client, found in zip(clients, answers, strict=True):
                evidence += found.evidence(view, partial(_unseen, view, client))
        return evidence

    def _decode(
        self, view: View, fitted: _Fitted, observed: Observed, answers: Sequence[Answers], clients: Sequence[SeatFacts]
    ) -> None:
        holdings = Holdings.of(view)
        for start in range(0, len(observed), _CHUNK):
            some = observed.take(start, start + _CHUNK, view.device)
            draws = [
                {name: reader(name, g) for name, g in draw.items()} for reader, draw in zip(fitted.readers, some.draws, strict=True)
            ]
            merged = fitted.pooling.merge(draws, some.seen)
            if holdings is not None:
                merged[HOLDINGS] = holdings.take(some.tokens, view.device)
            for name, decoder in fitted.decoders.items():
                with torch.no_grad():
                    images = decoder({level: merged[level] for level in decoder.levels})
                parts = images.split([len(client.modalities) for client in clients], dim=1)
                for found, part in zip(answers, parts, strict=True):
                    found.add(name, some.tokens, part)

    def _hunt(self, view: View, stage: Stage, form: torch.dtype) -> Hunt:
        return Hunt(view, self.params, stage, form, self.seat.rng(f"search{stage.suffix}"))


def _search(
    hunt: Hunt, endpoints: Mapping[str, tuple[str, ...]], observed: Observed, answers: Sequence[Answers],
    clients: Sequence[SeatFacts],
) -> None:  # fmt: skip
    for name, levels in endpoints.items():
        images = hunt.images(observed, levels)
        for found, client in zip(answers, clients, strict=True):
            found.add(name, observed.tokens, images[:, [hunt.searched.index(m) for m in client.modalities]])


def _whole(view: View, cohort: Cohort) -> Tensor:
    """Return what all parties hold of some samples: images of all modalities, then the masks, (n, channels, *spatial)."""
    images = np.asarray(cohort.channels(view.modalities).images, dtype=np.float32)
    return torch.from_numpy(np.concatenate([images, regions(np.asarray(cohort.labels))], axis=1))


def _returned(view: View, receivers: Sequence[str], levels: tuple[str, ...], stage: Stage) -> Iterator[Observed]:
    """Yield what came back about targets, group by group; of each level the channels of all receivers beside each other.

    Raises:
        EvidenceError: One receiver got gradients of other samples than another.
    """
    size = _GROUP_BYTES // len(receivers)
    for group in zip(*(gathered(view, c, levels, stage, size, _CHANNEL) for c in receivers), strict=True):
        if any(other.tokens != group[0].tokens for other in group):
            raise EvidenceError("the clients got cut gradients of different samples; attack from the position of one client")
        draws = [
            {name: torch.cat([observed.draws[back][name] for observed in group], dim=1) for name in levels}
            for back in range(len(stage.rounds))
        ]
        yield replace(group[0], draws=tuple(draws))


def _unseen(view: View, client: SeatFacts, tokens: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return images of targets of which nothing came back in a stage."""
    if view.auxiliary is None:
        raise EvidenceError(f"nothing came back about {len(tokens)} targets in a round; grant auxiliary patients to guess them")
    return prior_images(view, client, tokens)
