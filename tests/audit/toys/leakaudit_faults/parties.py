from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from leakaudit.attacks import Attack, Scores, View
from leakaudit.defenses import Defense
from leakaudit.wire import Message, Party
from leakaudit_faults.params import Counting, Failing, Spoiling


class Counter(Attack[Counting]):
    def run(self, view: View) -> Scores:
        return _scores(view, "output")


class FailingSite(Attack[Failing]):
    def play(self, honest: Party) -> Party:
        return _Failing(honest, self.params.how)

    def run(self, view: View) -> Scores:
        return _scores(view, "model")


class _Failing(Party):
    def __init__(self, honest: Party, how: str) -> None:
        self._honest, self._how = honest, how

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        sent = list(self._honest.reply(inbox))
        if not inbox or inbox[0].round < 1:
            return sent
        if self._how == "exits":
            os._exit(3)
        if self._how == "raises":
            raise RuntimeError("the site gave up")
        return [_spoiled(m) for m in sent]

    def state(self) -> dict[str, torch.Tensor]:
        return {}


class Spoiler(Defense[Spoiling]):
    def outgoing(self, message: Message) -> Message:
        wanted = (message.channel, message.sender) == ("update", self.params.site) and message.round >= 1
        return _spoiled(message) if wanted else message


def _spoiled(message: Message) -> Message:
    return replace(message, tensors={k: t * torch.nan for k, t in message.tensors.items()})


def _scores(view: View, channel: str) -> Scores:
    tokens = tuple(t.token for t in view.targets if t.kind == "candidate")
    return Scores(name="count", channel=channel, about=tokens, scores=np.arange(len(tokens), dtype=np.float32))
