"""One training step of all parties, as replicas: images and masks in, the gradients that come back to clients out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from leakaudit.attacks import View
from leakaudit.models import SegmentationTask
from leakaudit_inversion.span import Span, span_of

__all__ = ["Exchange", "exchange_of"]


class Exchange:
    """What clients receive for a batch: the clients' levels meet in the server, the loss is taken, and gradients return.

    A sample's loss depends on no other sample of its batch, so that its gradient depends on its own images and mask alone
    (unless the network normalizes over the batch), and on the size of the batch only by its scale.

    Args:
        clients: Replicas of the image clients by id, in the order of their ids, during one round.
        channels: Channels of `send`'s input that each client holds.
        server: The server's replica.
        labels: The label holder's replica in a U-shaped split; None where the server computes the loss.
        loss: Logits and masks to one loss per sample.
        masks: First channel of `send`'s input that is a mask.
        receivers: Clients whose gradients are seen.
        batch: Samples in the victims' batches: their mean loss is differentiated.
        form: Number format of the wire.
    """

    def __init__(
        self, clients: Mapping[str, Span], channels: Mapping[str, Sequence[int]], server: Span, labels: Span | None, *,
        loss: Callable[[Tensor, Tensor], Tensor], masks: int, receivers: Sequence[str], batch: int,
        form: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self._clients, self._channels, self._server, self._labels = clients, channels, server, labels
        self._loss, self._masks, self._receivers, self._batch, self._form = loss, masks, tuple(receivers), batch, form
        self._seats = [*clients.values(), server, *([labels] if labels is not None else [])]
        for seat in self._seats:
            seat.freeze()

    @property
    def moves(self) -> bool:
        """Whether any party's weights before and after the round differ."""
        return any(seat.moves for seat in self._seats)

    def go(self, place: float) -> None:
        """Set all weights to those at `place` of the round."""
        for seat in self._seats:
            seat.go(place)

    def send(self, x: Tensor) -> dict[str, Tensor]:
        """Return dL/dz by level, those of all receivers beside each other: (n, receivers * channels, *spatial).

        Args:
            x: Images of all clients followed by the masks, (n, modalities + regions, *spatial). Where gradients of `x` are
                asked for, the result can be differentiated.
        """
        follow = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            sent = {c: self._levels(c, x, follow) for c in self._clients}
            wanted = [(c, name) for c in self._receivers for name in sent[c]]
            given = self._server.replica.send(**{f"{c}.{name}": z for c, levels in sent.items() for name, z in levels.items()})
            gradients = self._back(given, x[:, self._masks :], [sent[c][name] for c, name in wanted], follow)
        found: dict[str, list[Tensor]] = {}
        for (_, name), g in zip(wanted, gradients, strict=True):
            found.setdefault(name, []).append(self._carried(g))
        return {name: torch.cat(parts, dim=1) for name, parts in found.items()}

    @property
    def server(self) -> nn.Module | None:
        """The server's network."""
        return self._server.replica.module

    def levels_of(self, client: str) -> Callable[[Tensor], dict[str, Tensor]]:
        """Return what a client sends for its images, by level: gradients have these sizes."""
        return self._clients[client].send

    def _levels(self, client: str, x: Tensor, follow: bool) -> dict[str, Tensor]:
        with torch.set_grad_enabled(follow):
            sent = self._clients[client].send(x[:, list(self._channels[client])])
            # Copies: the way from one level of the client to its next is not the server's, who takes each as a leaf.
            sent = {name: self._carried(z).clone() for name, z in sent.items()}
        return sent if follow else {name: z.detach().requires_grad_() for name, z in sent.items()}

    def _back(self, given: Mapping[str, Tensor], masks: Tensor, wanted: Sequence[Tensor], follow: bool) -> Sequence[Tensor]:
        if self._labels is None:
            loss = self._loss(given["logits"].float(), masks).sum() / self._batch
            return torch.autograd.grad(loss, wanted, create_graph=follow)
        arrived = self._carried(given["features"]).clone()
        features = arrived if follow else arrived.detach().requires_grad_()
        logits = self._labels.replica.send(features=features)["logits"].float()
        (returned,) = torch.autograd.grad(self._loss(logits, masks).sum() / self._batch, features, create_graph=follow)
        return torch.autograd.grad(given["features"], wanted, grad_outputs=self._carried(returned), create_graph=follow)

    def _carried(self, t: Tensor) -> Tensor:
        """Return a tensor as it arrives in the wire's format; gradients pass as if it were not rounded."""
        return t if self._form == torch.float32 else t + (t.to(self._form).float() - t).detach()


def exchange_of(view: View, round_: int, receivers: Sequence[str], form: torch.dtype = torch.float32) -> Exchange:
    """Return the exchange of a view's parties during a round.

    Args:
        view: The adversary's view.
        round_: The round.
        receivers: Clients whose gradients are seen.
        form: Number format of the wire.
    """
    facts = view.facts
    clients = facts.seats_of("client")
    u_shaped = any((f.channel, f.sender, f.receiver) == ("activation", "server", "label-holder") for f in facts.flows)
    holders = [seat.id for seat in facts.seats_of("label-holder")] if u_shaped else []
    (server,) = facts.seats_of("server")
    task = view.task
    size = task.training.batch_size if isinstance(task, SegmentationTask) else 1
    return Exchange(
        {seat.id: span_of(view, seat.id, round_) for seat in clients},
        {seat.id: [view.modalities.index(m) for m in seat.modalities] for seat in clients},
        span_of(view, server.id, round_),
        span_of(view, holders[0], round_) if holders else None,
        loss=task.loss, masks=len(view.modalities), receivers=receivers, form=form,
        batch=max(1, min(size, max(seat.records for seat in clients))),
    )  # fmt: skip
