"""Site-level DP: a whole site is the unit. Its update is clipped as one, and noise is added centrally or at the site.

Sensitivity. The released sum of a round is that of the clipped updates with equal weights, divided by the number of sites that
were asked. Neighbors are a federation with a site and one in which that site is asked and contributes nothing (an update of 0,
or none); the draw of sites and the divisor are the same in both. The sum then moves by at most the clip norm. Weights by samples
would break this: a weight multiplies a site's bound, changes everybody's share, and shows how many samples a site has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from leakaudit.defenses import Defense, Guarantee
from leakaudit.errors import UserError
from leakaudit.models import Tensors
from leakaudit.threats import Channel
from leakaudit.wire import Message, Seat
from leakaudit_dp.accounting import accountant_name, conversion, noise_for, spent
from leakaudit_dp.bounding import bounded, counts, noised, possible
from leakaudit_dp.params_site import SiteDpParams

__all__ = ["SiteDp"]

_ALWAYS = (
    "neighbors: without a site means that it is still asked in the same rounds and contributes nothing; replacing a site by "
    "another moves twice as much, so that half the noise multiplier counts",
    "which sites are asked in which round is public and drawn without regard to their data; no amplification is claimed for it",
    "a patient's data are at one site only; another site's update is another unit",
    "the random numbers are unpredictable (a pseudo-random generator in floating point, not a cryptographic one)",
    "settings were not tuned on these sites, or their tuning is counted elsewhere",
)
_CENTRAL = (
    "the aggregator is trusted: it receives every site's update as it is, adds the noise and keeps it secret",
    "a site's update is seen by the aggregator alone",
)


class SiteDp(Defense[SiteDpParams]):
    """Clips a site's whole update and noises it, at the aggregator or at the site (McMahan et al. 2018, arXiv 1710.06963).

    The divisor is fixed by who was asked, not by who answered: their estimator with a constant denominator. One defense lives
    as long as its seat, so the ledger runs over all rounds and is never restarted.

    Args:
        params: Its parameters.
        seat: A site, or the aggregator in central mode.

    Raises:
        UserError: `delta` is no promise for so few sites, or the noise cannot be told.
    """

    def __init__(self, params: SiteDpParams, seat: Seat) -> None:
        super().__init__(params, seat)
        self.noise = _noise(params, seat)
        self._rounds = 0
        self._model: dict[str, Tensor] = {}
        self._asked: set[str] = set()
        self._round = -1
        self._bypassed = False
        self._said: set[str] = set()

    # At a site ----------------------------------------------------------------------------------------------------

    def incoming(self, message: Message) -> Message:
        """Keep the model that arrives: everybody has it, and running variances must stay above 0."""
        if message.channel == "model":
            self._model = dict(message.tensors)
        return message

    def outgoing(self, message: Message) -> Message:
        """Return an update within the clip norm, in local mode with noise, and with the weight 1; note who is sent a model."""
        if message.channel == "model":
            self._note(message)
        if message.channel != "update":
            return message
        sent = self._bounded(message)
        if self.params.mode == "local":
            self._rounds += 1
            sent = possible(noised(sent, self.noise * self.params.clip, self.seat.rng("site-dp")), self._model)
        counters = {name: torch.zeros_like(t) for name, t in message.tensors.items() if counts(name, t)}
        if counters:
            self._say(f"counters are left out of updates (sent as 0): {', '.join(sorted(counters))}")
        if message.weight != 1:
            self._say("every site has the same weight; by its samples, a site's weight would show their number and move its bound")
        return replace(message, tensors={**counters, **sent}, weight=1.0)

    def _bounded(self, message: Message) -> dict[str, Tensor]:
        floats = {name: t for name, t in message.tensors.items() if not counts(name, t)}
        within = bounded(floats, self.params.clip)
        if within is None:
            self.seat.log.warning(
                "site-dp: the update of %r in round %d has values that are not finite and counts as 0",
                message.sender,
                message.round,
            )
            return {name: torch.zeros_like(t) for name, t in floats.items()}
        return within

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.seat.log.info("site-dp: %s", text)

    # At the aggregator --------------------------------------------------------------------------------------------

    def _note(self, message: Message) -> None:
        """Note a model on its way: its tensors, whom it asks, and whether it carries a round that was not noised here."""
        asks = message.receiver != "outsider"
        # The next round's model, or the final one, before anything was added up: another defense made the aggregate.
        if self._asked and (not asks or message.receiver in self._asked or message.round != self._round):
            self._bypassed = True
            self.seat.log.warning("site-dp: the updates of round %d were not added up here, so that no epsilon holds", self._round)
            self._asked = set()
        self._model = dict(message.tensors)
        self._round = message.round
        if asks:
            self._asked.add(message.receiver)

    def aggregate(self, inbox: Sequence[Message]) -> Tensors | None:
        """Return, in central mode, the noised mean: the sum of the clipped updates and noise, over the number of sites asked.

        Every update is clipped here as well, so that the bound does not rest on what other defenses or sites did to it. Of two
        updates of one site the first counts. Whoever was not asked does not count.

        Raises:
            UserError: An update does not fit the model.
        """
        if self.params.mode != "central":
            return None
        asked, self._asked = self._asked, set()
        if not asked:
            return {}
        total = {name: torch.zeros_like(t) for name, t in self._model.items() if not counts(name, t)}
        for message in _one_each(inbox, asked):
            self._check(message, total)
            known = {name: t for name, t in message.tensors.items() if name in total}
            for name, t in self._bounded(replace(message, tensors=known)).items():
                total[name] = total[name] + t
        self._rounds += 1
        released = noised(total, self.noise * self.params.clip, self.seat.rng("site-dp"))
        return possible({name: t / len(asked) for name, t in released.items()}, self._model)

    @staticmethod
    def _check(message: Message, total: Mapping[str, Tensor]) -> None:
        for name, like in total.items():
            found = message.tensors.get(name, like)
            if found.shape != like.shape or not found.is_floating_point():
                raise UserError(
                    f"site-dp: {message.sender!r} sent {name!r} as {str(found.dtype).removeprefix('torch.')} of shape "
                    f"{tuple(found.shape)}; expected floating point of shape {tuple(like.shape)}. With mode: central the "
                    "aggregator must see each update in plain; with secure-aggregation use mode: local."
                )

    # The claim ----------------------------------------------------------------------------------------------------

    def guarantee(self) -> Guarantee | None:
        """Return the claim for all rounds so far; None where nothing was noised, or a round went past this defense."""
        params, central = self.params, self.params.mode == "central"
        if not self._rounds or self._bypassed:
            return None
        epsilon = spent("rdp", noise=self.noise, rate=1.0, steps=self._rounds, delta=params.delta)
        where = "to the sum of the sites' updates, with equal weights" if central else "by the site to its own update"
        return Guarantee(
            mechanism=f"site-level DP ({params.mode}): a site's update clipped to {params.clip:g} as a whole, Gaussian noise "
            f"{self.noise:.4g} times that added {where}, {self._rounds} rounds",
            unit="site",
            neighbors="add-or-remove",
            releases=self._releases(),
            epsilon=epsilon,
            delta=params.delta,
            accountant=accountant_name("rdp"),
            conversion=conversion("rdp"),
            sampling="none: every round counts as if the site took part in it (rate 1)"
            if central
            else "none: every round counts in which the site took part (rate 1)",
            assumes=(*_ALWAYS, *_CENTRAL) if central else _ALWAYS,
        )

    def _releases(self) -> tuple[tuple[Channel, str], ...]:
        # What others compute from a release alone (the next rounds' models, predictions) is covered with it.
        if self.params.mode == "central":
            return (("model", self.seat.id), ("output", "model"))
        covered: tuple[tuple[Channel, str], ...] = (("update", self.seat.id),)
        return (*covered, ("model", "aggregator"), ("output", "model")) if self.seat.role == "site" else covered


def _one_each(inbox: Sequence[Message], asked: set[str]) -> list[Message]:
    """Return the first update of each site that was asked, in the order of their names."""
    first: dict[str, Message] = {}
    for message in inbox:
        if message.sender in asked:
            first.setdefault(message.sender, message)
    return [first[sender] for sender in sorted(first)]


def _noise(params: SiteDpParams, seat: Seat) -> float:
    """Return the noise multiplier.

    Raises:
        UserError: `delta` is no promise for so few sites, or the protocol does not say its rounds.
    """
    protocol = seat.protocol
    if protocol is not None:
        senders = {flow.sender for flow in protocol.flows if flow.channel == "update"}
        sites = len(protocol.seats_of(*senders))
        if params.delta * sites >= 1:
            raise UserError(
                f"site-dp: delta {params.delta:g} is not below 1 / {sites}, the number of sites: publishing one site's data in "
                f"full would satisfy it. Use at most {0.1 / sites:.1g}."
            )
    if params.noise_multiplier is not None:
        return params.noise_multiplier
    assert params.target_epsilon is not None
    rounds = 0 if protocol is None else protocol.rounds
    return noise_for("rdp", epsilon=params.target_epsilon, rate=1.0, steps=rounds, delta=params.delta, name="site-dp")
