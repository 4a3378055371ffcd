"""`model-inversion`: a decoder learned on auxiliary patients turns activations back into images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from leakaudit.attacks import Attack, Evidence, View
from leakaudit.cohorts import Cohort
from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit_inversion.answers import Answers, prior_images
from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.observed import Observed, gathered
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.setting import attacked_clients, held_modalities, seeded
from leakaudit_inversion.source import HOLDINGS, Auxiliary, Holdings, Source, held_out_rows
from leakaudit_inversion.span import spans_of
from leakaudit_inversion.stance import Stage
from leakaudit_inversion.training import train_decoders

__all__ = ["ModelInversion"]

_CHUNK = 16
"""Samples decoded at once."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Decoders of one client and stage, by level or `"joint"`, and how observations become their input."""

    client: SeatFacts
    stage: Stage
    decoders: Mapping[str, Decoder]
    pooling: Pooling


class ModelInversion(Attack[ModelInversionParams]):
    """Learned inverter of He et al. (ACSAC 2019), trained on what defended clients send for auxiliary patients."""

    _fitted: Sequence[_Fitted] | None = None

    def fit(self, view: View) -> None:
        """Train the decoders of every attacked client on its replicas and the adversary's own patients.

        Raises:
            UserError: The view holds no auxiliary patients.
        """
        if view.auxiliary is None or not len(view.auxiliary):
            raise UserError("model-inversion learns from auxiliary patients, and the adversary owns none: raise data.auxiliary")
        rows = held_out_rows(view.auxiliary, self.params.validation, self.seat.rng("held-out patients"))
        self._fitted = [
            self._fit(view, view.auxiliary, client, stage, *rows)
            for client in attacked_clients(self.params, view)
            for stage in self.params.stages(view.facts.rounds)
        ]

    def _fit(self, view: View, cohort: Cohort, client: SeatFacts, stage: Stage, train: Tensor, held_out: Tensor) -> _Fitted:
        samples = Auxiliary.of(cohort, client.modalities, held_modalities(view), noise=view.threat.auxiliary == "noise")
        randomized = any(d.stochastic and client.role in d.seats for d in view.defenses)
        generator = self.seat.rng(f"decoders of {client.id}{stage.suffix}")
        with seeded(generator, view.device):
            source = Source(
                spans_of(view, client.id, stage), samples, randomized=randomized, device=view.device, generator=generator
            )
            decoders = train_decoders(self.params, source, train, held_out, generator)
        return _Fitted(client, stage, decoders, source.pooling)

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per client, stage and decoder, about every target whose rows cross the wire."""
        if self._fitted is None:
            self.fit(view)
        assert self._fitted is not None
        holdings = Holdings.of(view)
        evidence: list[Evidence] = []
        for fitted in self._fitted:
            levels = {level for decoder in fitted.decoders.values() for level in decoder.levels if level != HOLDINGS}
            answers = Answers(fitted.client, fitted.stage, tuple(fitted.decoders))
            for observed in gathered(view, fitted.client.id, tuple(sorted(levels)), fitted.stage):
                for start in range(0, len(observed), _CHUNK):
                    _decode(fitted, observed.take(start, start + _CHUNK, view.device), holdings, answers)
            evidence += answers.evidence(view, partial(prior_images, view, fitted.client))
        return evidence


def _decode(fitted: _Fitted, observed: Observed, holdings: Holdings | None, answers: Answers) -> None:
    merged = fitted.pooling.merge(observed.draws, observed.seen)
    if holdings is not None:
        merged[HOLDINGS] = holdings.take(observed.tokens, next(iter(merged.values())).device)
    with torch.no_grad():
        for name, decoder in fitted.decoders.items():
            answers.add(name, observed.tokens, decoder({level: merged[level] for level in decoder.levels}))
