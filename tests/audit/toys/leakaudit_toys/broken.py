"""One attack that fails in whatever way it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from leakaudit.attacks import Attack, Images, Scores, View
from leakaudit.wire import Message, Party
from leakaudit_toys.params import Breaking
from leakaudit_toys.watchers import mean_image


def nothing(message: Message) -> Message:
    tensors = {k: t * np.nan for k, t in message.tensors.items()}
    return replace(message, channel="cut-gradient", sender="server", receiver=message.sender, tensors=tensors)


class Faulty(Party):
    def __init__(self, how: str) -> None:
        self.how = how

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        if self.how == "play-exits":
            os._exit(3)
        if self.how == "play-lies":
            return [replace(inbox[0], sender="client-1", receiver="client-0")]
        if self.how == "play-nan":
            return [nothing(m) for m in inbox]
        raise RuntimeError("the server gave up")

    def state(self) -> dict[str, torch.Tensor]:
        return {}


class Broken(Attack[Breaking]):
    def play(self, honest: Party) -> Party:
        return None if self.params.how == "play-nothing" else Faulty(self.params.how)  # type: ignore[return-value]

    def run(self, view: View) -> object:  # type: ignore[override]
        whole = mean_image(view, "broken")
        n = len(whole.about)
        match self.params.how:
            case "raises":
                raise RuntimeError("the decoder did not converge")
            case "nan":
                return replace(whole, images=np.full_like(whole.images, np.nan))
            case "shape":
                return replace(whole, images=whole.images[..., :-2])
            case "rows":
                return replace(whole, images=whole.images[:-1])
            case "tokens":
                return replace(whole, about=tuple(f"{i:012x}" for i in range(n)))
            case "missing":
                return replace(whole, about=whole.about[:-1], images=whole.images[:-1])
            case "twice":
                return replace(whole, about=(*whole.about, whole.about[0]), images=np.concatenate([whole.images, whole.images[:1]]))
            case "channel":
                return replace(whole, channel="update")
            case "seat":
                return replace(whole, seat="client-77")
            case "scores":
                return Scores(name="broken", channel="activation", about=whole.about, scores=np.zeros(n, dtype=np.float32))
            case "none":
                return None
            case "nothing":
                return []
            case "hangs":
                time.sleep(600)
            case "exits":
                os._exit(3)
            case "quits":
                raise SystemExit(0)
            case "files":
                return Lying(whole)
        return whole


class Lying(list[Images]):
    """A sequence that is not what it seems."""

    def __init__(self, piece: Images) -> None:
        super().__init__([piece])

    def __iter__(self) -> object:  # type: ignore[override]
        raise KeyboardInterrupt
