"""Secure aggregation as a defense: masks at the sites, the exact sum at the aggregator, and what sites refuse to answer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from leakaudit.defenses import Ask, Defense
from leakaudit.errors import UserError
from leakaudit.models import Tensors
from leakaudit.wire import Message, Seat
from leakaudit_updates.secure_deal import Deal
from leakaudit_updates.secure_params import SecureAggregationParams, masking_sites
from leakaudit_updates.secure_ring import decode, encode, scaled
from leakaudit_updates.secure_unmask import Shares, unmask

__all__ = ["ARRIVED", "OWN", "PAIRS", "WEIGHT", "SecureAggregation"]

WEIGHT = "secure-aggregation.weight"
"""Tensor of an update: the site's weight, masked like the rest, so that the aggregator learns the total alone."""
ARRIVED = "secure-aggregation.arrived"
"""Tensor of a question: whether each site's update arrived, shape (sites,), bool."""
OWN, PAIRS = "secure-aggregation.own", "secure-aggregation.pairs"
"""Tensors of an answer: see `Shares`."""


class SecureAggregation(Defense[SecureAggregationParams]):
    """Lets the aggregator learn the weighted sum of the sites' updates and nothing else (Bonawitz et al., CCS 2017).

    A site encodes its update, times its weight, in fixed point and adds masks that are uniform over int64: one with each other
    site, which cancel in the sum, and one of its own. What does not cancel the aggregator takes off with shares that it asks
    of the sites whose updates arrived: of each self mask, and of the pairwise seeds of sites whose update is missing. A site
    never hands out both for one site, so an aggregator that lies about who dropped out cannot unmask anybody's update.

    Key agreement and the exchange of shares are simulated by what honest seats share (see `Deal`). An adversary's seat shares
    nothing, and a replica masks with fresh random numbers.
    """

    def __init__(self, params: SecureAggregationParams, seat: Seat) -> None:
        super().__init__(params, seat)
        self.sites = (seat.id,) if seat.protocol is None else masking_sites(seat.protocol)
        self.needed = params.needed(len(self.sites))
        self._deal: Deal | None = None
        self._round = -1
        self._told: Tensor | None = None
        self._types: dict[str, torch.dtype] = {}

    # At a site ----------------------------------------------------------------------------------------------------

    def outgoing(self, message: Message) -> Message | None:
        """Return an update masked; other channels pass.

        An update that is a replica's (round -1) is masked afresh each time, and where it has a gradient, it is sent as floating
        point, the same numbers, so that the gradient passes. A second update in one round is withheld: its masks would be those
        of the first, and the difference would show both.
        """
        if message.channel == "model":
            self._types = {k: t.dtype for k, t in message.tensors.items()}
        if message.channel != "update":
            return message
        deal = Deal(self._key(message.round), len(self.sites), self.needed)
        if message.round >= 0:
            if message.round <= self._round:
                self.seat.log.warning("secure-aggregation: withheld a second update of round %d", message.round)
                return None
            self._deal, self._round, self._told = deal, message.round, None
        self._note_clipping(message.tensors)
        bits = self.params.scale_bits
        exact = {k: scaled(t, message.weight, bits, self.params.clip) for k, t in message.tensors.items()}
        exact[WEIGHT] = torch.tensor([message.weight * 2.0**bits], dtype=torch.float64, device=self.seat.device)
        return replace(message, tensors=self._masked(exact, deal), weight=1.0)

    def _masked(self, exact: Tensors, deal: Deal) -> dict[str, Tensor]:
        draw, names = self.seat.rng("secure-aggregation rounding"), sorted(exact)
        sizes = [exact[name].numel() for name in names]
        masks = deal.mask(self.sites.index(self.seat.id), sum(sizes)).split(sizes)
        sent: dict[str, Tensor] = {}
        for name, mask in zip(names, masks, strict=True):
            t = exact[name]
            # Rounded to the nearest, a running variance that falls to almost 0 could end below it.
            upward = name.rpartition(".")[2] == "running_var"
            masked = encode(t, len(self.sites), draw, upward=upward) + mask.reshape(t.shape).to(t.device)
            sent[name] = masked.double() + (t - t.detach()) if t.requires_grad else masked
        return sent

    def answer(self, message: Message) -> Message | None:
        """Return this site's shares if it may hand them out; else stay silent, and say in the log why."""
        arrived = message.tensors.get(ARRIVED)
        if arrived is None:
            return None
        refusal = self._refusal(message, arrived)
        if refusal is not None:
            self.seat.log.warning("secure-aggregation: refused a question of %r: %s", message.sender, refusal)
            return None
        assert self._deal is not None
        self._told = arrived
        given = Shares.of(self._deal, self.sites.index(self.seat.id), _numbers(arrived))
        return Message(
            channel="control", sender=self.seat.id, receiver=message.sender, round=message.round, step=message.step,
            tensors={OWN: given.own, PAIRS: given.pairs},
        )  # fmt: skip

    def _refusal(self, message: Message, arrived: Tensor) -> str | None:
        """Return why a question must not be answered, or None if it may be."""
        if arrived.dtype != torch.bool or arrived.shape != (len(self.sites),):
            return f"it does not say of each of the {len(self.sites)} sites whether its update arrived"
        if self._deal is None or message.round != self._round:
            return f"this site sent no update in round {message.round}, or a later one since"
        if not arrived[self.sites.index(self.seat.id)]:
            return "it says that this site's update did not arrive, but it was sent"
        if int(arrived.sum()) < max(self.needed, self.params.min_sites):
            return f"it names {int(arrived.sum())} updates, and {max(self.needed, self.params.min_sites)} are needed"
        if self._told is not None and not torch.equal(arrived, self._told):
            return "it names other updates than an earlier question in this round"
        return None

    def _key(self, round_: int) -> bytes:
        # A replica's message has no round, and an adversary's seat agrees with nobody: both draw a key of their own.
        with contextlib.suppress(PermissionError):
            if round_ >= 0:
                halves = [self.seat.shared_seed(f"secure-aggregation {round_} {half}") for half in range(2)]
                return b"".join(half.to_bytes(8, "little") for half in halves)
        draw = self.seat.rng("secure-aggregation replica")
        return bytes(torch.randint(256, (16,), generator=draw, device=self.seat.device).tolist())

    def _note_clipping(self, tensors: Tensors) -> None:
        beyond = sum(int((t.detach().abs() > self.params.clip).sum()) for t in tensors.values() if t.is_floating_point())
        if beyond:
            self.seat.log.warning("secure-aggregation: %d entries of an update were clipped to %g", beyond, self.params.clip)

    # At the aggregator --------------------------------------------------------------------------------------------

    def aggregate(self, inbox: Sequence[Message]) -> Ask:
        """Ask the sites whose updates arrived for shares, and return the exact weighted mean of what they encoded.

        Raises:
            UserError: Too few updates or answers arrived, or they do not fit each other.
        """
        updates = {m.sender: m for m in inbox}
        senders = [site for site in self.sites if site in updates]
        least = max(self.needed, self.params.min_sites)
        where = f"secure-aggregation, round {inbox[0].round}" if inbox else "secure-aggregation"
        if len(senders) < least:
            raise UserError(
                f"{where}: {len(senders)} of {len(self.sites)} sites sent an update, and {least} are needed. Let more sites take "
                "part (participation and dropouts of the protocol), or lower threshold or min_sites."
            )
        _alike([updates[s] for s in senders])
        arrived = torch.tensor([site in updates for site in self.sites])
        answers = yield [
            Message(
                channel="control", sender=self.seat.id, receiver=site, round=inbox[0].round, step=inbox[0].step,
                tensors={ARRIVED: arrived},
            )
            for site in senders
        ]  # fmt: skip
        shares = self._shares(answers, senders)
        if len(shares) < self.needed:
            raise UserError(
                f"{where}: {len(shares)} of {len(senders)} sites handed out shares of the masks, and {self.needed} are needed; the "
                "updates of this round stay masked. See the sites' log for what they refused."
            )
        enough = dict(list(shares.items())[: self.needed])
        return self._mean(self.total([updates[s] for s in senders], _numbers(arrived), enough), updates[senders[0]])

    def total(self, updates: Sequence[Message], arrived: Sequence[int], shares: Mapping[int, Shares]) -> Tensor:
        """Return the exact sum of what sites encoded, all tensors in one row, sorted by name; int64.

        Args:
            updates: Their masked updates.
            arrived: Their numbers, in the same order, ascending.
            shares: Shares by number of their holder, as many as the threshold.
        """
        masked = torch.stack([torch.cat([m.tensors[k].flatten() for k in sorted(m.tensors)]) for m in updates]).sum(dim=0)
        return unmask(masked, len(self.sites), arrived, shares)

    def _shares(self, answers: Sequence[Message], senders: Sequence[str]) -> dict[int, Shares]:
        shapes = {OWN: (len(senders), 16), PAIRS: (len(self.sites) - len(senders), len(senders), 16)}
        found: dict[int, Shares] = {}
        for m in answers:
            fits = {k: (tuple(t.shape), t.dtype) for k, t in m.tensors.items()} == {k: (s, torch.uint8) for k, s in shapes.items()}
            if m.sender in senders and fits:
                found[self.sites.index(m.sender)] = Shares(own=m.tensors[OWN], pairs=m.tensors[PAIRS])
        return found

    def _mean(self, total: Tensor, like: Message) -> Tensors:
        shapes = {k: like.tensors[k].shape for k in sorted(like.tensors)}
        parts = total.split([shape.numel() for shape in shapes.values()])
        sums = {k: part.reshape(shape) for (k, shape), part in zip(shapes.items(), parts, strict=True)}
        weight = float(decode(sums.pop(WEIGHT), 1.0, self.params.scale_bits))
        if weight <= 0:
            raise UserError(f"secure-aggregation: the sites' weights add up to {weight:g}; expected more than 0")
        return {k: decode(t, weight, self.params.scale_bits).to(self._type(k)) for k, t in sums.items()}

    def _type(self, name: str) -> torch.dtype:
        # Means of integers (batch counters) are no integers, in the plain average neither.
        known = self._types.get(name, torch.float32)
        return known if known.is_floating_point else torch.float32


def _numbers(flags: Tensor) -> list[int]:
    found: list[int] = torch.nonzero(flags).flatten().tolist()
    return found


def _alike(updates: Sequence[Message]) -> None:
    """Check that updates are masked and have the same tensors.

    Raises:
        UserError: They are not.
    """
    shapes = {k: t.shape for k, t in updates[0].tensors.items()}
    for message in updates:
        bare = [k for k, t in message.tensors.items() if t.dtype != torch.int64]
        if bare or WEIGHT not in message.tensors:
            raise UserError(
                f"secure-aggregation: {message.sender!r} sent {bare[0] if bare else 'an update'!r} without mask. Every site needs "
                "the defense, as the last of its chain."
            )
        if {k: t.shape for k, t in message.tensors.items()} != shapes:
            raise UserError(
                f"secure-aggregation: the updates of {updates[0].sender!r} and {message.sender!r} do not have the same tensors; "
                "masks cancel only between updates that are alike."
            )
