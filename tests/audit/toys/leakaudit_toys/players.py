"""Toys that act during training: a rider, a rider that cheats, and a hijacker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from leakaudit.attacks import Attack, Images, View
from leakaudit.wire import Message, Party, Seat
from leakaudit_toys.params import Hijacking, Riding
from leakaudit_toys.watchers import mean_image


class RidingParty(Party):
    def __init__(self, honest: Party, seat: Seat, cheats: bool) -> None:
        self.honest, self.seat, self.cheats = honest, seat, cheats
        self.simulator = seat.replica("client-0")
        self.count, self.total, self.drawn = 0, 0.0, 0.0

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        for message in inbox:
            for tensor in message.tensors.values():
                assert tensor.grad_fn is None
                assert not tensor.requires_grad
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
                self.total += float(tensor.double().sum())
        self.count += len(inbox)
        sent = list(self.honest.reply(inbox))
        owned = self.seat.auxiliary
        guess = self.simulator.send(x=torch.from_numpy(np.array(owned.images[:2, :1])))
        self.drawn += float(torch.rand(5).sum() + torch.randn(3, generator=self.seat.rng("extra")).sum() + guess["level0"].sum())
        np.random.rand(2)
        if self.cheats:
            return [m.carrying({k: 1.5 * t for k, t in m.tensors.items()}) for m in sent]
        for message in sent:  # a rider that works in place on what the honest party sends does not reach the others' copy
            assert all(t.grad_fn is None for t in message.tensors.values())
        return sent

    def state(self) -> dict[str, torch.Tensor]:
        numbers = [float(self.count), self.total, self.drawn]
        return {
            "statistics": torch.tensor(numbers, dtype=torch.float64),
            **{f"honest.{k}": t for k, t in self.honest.state().items()},
        }


class Rider(Attack[Riding]):
    def play(self, honest: Party) -> Party:
        return RidingParty(honest, self.seat, self.params.cheats)

    def run(self, view: View) -> Images:
        count, total, drawn = view.own["statistics"].tolist()
        assert count > 0
        assert total != 0
        assert drawn != 0
        server = view.replica("server").module.state_dict()
        assert all(torch.equal(server[k], view.own[f"honest.{k}"]) for k in server)
        return mean_image(view, "ridden")


class HijackingParty(Party):
    def __init__(self) -> None:
        self.answered = 0

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        self.answered += 1
        return [
            Message(
                channel="cut-gradient", sender="server", receiver=m.sender, round=m.round, step=m.step, samples=m.samples,
                tensors={k: t / len(t) for k, t in m.tensors.items()},
            )
            for m in inbox
            if m.channel == "activation"
        ]  # fmt: skip

    def state(self) -> dict[str, torch.Tensor]:
        return {"answered": torch.tensor(float(self.answered))}


class Hijacker(Attack[Hijacking]):
    """Teaches the clients to send nothing: the gradient of half the squared norm of what they send."""

    def play(self, honest: Party) -> Party:
        return HijackingParty()

    def run(self, view: View) -> Images:
        assert view.own["answered"] > 0
        return mean_image(view, "hijacked")
