"""`likelihood-inversion`: the image whose activations explain best what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from leakaudit.attacks import Attack, Evidence, View
from leakaudit.facts import SeatFacts
from leakaudit_inversion.answers import Answers
from leakaudit_inversion.explain import Habits, explained, habits_of
from leakaudit_inversion.guess import Guess
from leakaudit_inversion.observed import first_message, gathered
from leakaudit_inversion.params import LikelihoodInversionParams
from leakaudit_inversion.search import Search
from leakaudit_inversion.setting import at_once, attacked_clients, seeded
from leakaudit_inversion.span import Track
from leakaudit_inversion.stance import Stage
from leakaudit_inversion.tuning import choose_tv

__all__ = ["LikelihoodInversion"]

_PULL = 1e-2
"""Weight of brightness and contrast where nothing is random."""
_QUIET, _NOISY = 1e-2, 1e-1
"""Weight of the prior where no auxiliary patient is there to choose it on: without noise, and more per its relative variance."""


@dataclass(slots=True)
class _Fitted:
    """What is learned of a client and stage without its messages."""

    client: SeatFacts
    stage: Stage
    track: Track
    tv: dict[str, float]


class LikelihoodInversion(Attack[LikelihoodInversionParams]):
    """Regularized maximum likelihood of He et al. (ACSAC 2019), through the defended replica, many targets at once."""

    _fitted: Sequence[_Fitted] | None = None

    def fit(self, view: View) -> None:
        """Choose the weight of the prior on auxiliary patients, where there are any."""
        self._fitted = [
            self._fit(view, client, stage)
            for client in attacked_clients(self.params, view)
            for stage in self.params.stages(view.facts.rounds)
        ]

    def _fit(self, view: View, client: SeatFacts, stage: Stage) -> _Fitted:
        track = Track(view, client.id, stage)
        fitted = _Fitted(client, stage, track, {})
        if self.params.tv != "auto" or view.auxiliary is None:
            return fitted
        generator = self.seat.rng(f"prior for {client.id}{stage.suffix}")
        guess = Guess(view, client, track, {}, generator)
        assert guess.samples is not None
        with seeded(generator, view.device):
            probe = guess.probe()
            habits = habits_of(track, probe)
            with torch.no_grad():
                endpoints = self.params.endpoints(tuple(track.last(probe[:1])))
            prior, start = guess.prior(0.0, 1, _pull(habits)), guess.samples.images.mean(dim=0)
            fitted.tv = choose_tv(
                track,
                guess.samples,
                start,
                prior,
                endpoints,
                len(stage.rounds),
                self._how(habits),
                habits,
                at_once(self.params.targets, guess.shape, view.device),
                generator,
            )
        return fitted

    def _how(self, habits: Habits) -> Search:
        params = self.params
        return Search(
            iterations=params.iterations, learning_rate=params.learning_rate, smoothing=params.smoothing,
            draws=1 if habits.steady else params.draws, steady=habits.steady, pooling=habits.pooling,
        )  # fmt: skip

    def run(self, view: View) -> Sequence[Evidence]:
        """Return one `Images` per client, stage and endpoint, about every target whose rows cross the wire."""
        if self._fitted is None:
            self.fit(view)
        assert self._fitted is not None
        evidence: list[Evidence] = []
        for fitted in self._fitted:
            generator = self.seat.rng(f"search for {fitted.client.id}{fitted.stage.suffix}")
            with seeded(generator, view.device):
                evidence += self._run(view, fitted, generator)
        return evidence

    def _run(self, view: View, fitted: _Fitted, generator: torch.Generator) -> list[Evidence]:
        first = first_message(view, fitted.client.id, fitted.stage)
        if first is None:
            return []
        guess = Guess(view, fitted.client, fitted.track, first.tensors, generator)
        habits = habits_of(fitted.track, guess.probe())
        endpoints = self.params.endpoints(tuple(first.tensors))
        answers = Answers(fitted.client, fitted.stage, tuple(endpoints))
        for observed in gathered(view, fitted.client.id, tuple(first.tensors), fitted.stage):
            some = observed.take(0, len(observed), view.device)
            start = guess.images(some.tokens)
            for name, levels in endpoints.items():
                prior = guess.prior(self._weight(fitted, name, levels, habits), len(some), _pull(habits))
                images = explained(
                    fitted.track, some.draws, some.seen, some.place, levels, start, prior, self._how(habits), habits.noise,
                    at_once(self.params.targets, guess.shape, view.device),
                )  # fmt: skip
                answers.add(name, some.tokens, images)
        return answers.evidence(view, lambda tokens: guess.images(tokens).cpu().numpy())

    def _weight(self, fitted: _Fitted, name: str, levels: Sequence[str], habits: Habits) -> float:
        """Return the weight of the prior: as given, as chosen on auxiliary patients, or by a rule of thumb without them."""
        if self.params.tv != "auto":
            return self.params.tv
        noise = min(habits.noise[level] for level in levels) / len(fitted.stage.rounds)
        return fitted.tv.get(name, _QUIET + _NOISY * noise)


def _pull(habits: Habits) -> float:
    """Return the weight of brightness and contrast.

    Where activations do not tell the scale of an image, the randomness of the steps under a randomized defense makes it grow,
    which takes a stronger pull.
    """
    return _PULL if habits.steady else 100 * _PULL
