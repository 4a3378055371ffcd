"""Toys that put identifiers, paths, arrays and tensors into everything they can write."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import numpy as np

from leakaudit.attacks import Attack, Images, View
from leakaudit.defenses import Defense
from leakaudit.wire import Alarm, Message, Party
from leakaudit_leaky.params import Chatting, Shouting
from leakaudit_leaky.words import ADDRESS, NAME, NUMBER, PATH


class Rider(Party):
    def __init__(self, honest: Party, raises: bool) -> None:
        self.honest, self.raises = honest, raises

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        print(f"riding on {PATH} of {ADDRESS}")
        if self.raises:
            raise RuntimeError(f"cannot ride on {PATH}: {next(iter(inbox[0].tensors.values()))}")
        return self.honest.reply(inbox)


class Loud(Attack[Shouting]):
    def play(self, honest: Party) -> Party:
        return Rider(honest, self.params.how == "play-raises")

    def run(self, view: View) -> Images:
        owned = view.auxiliary
        assert owned is not None
        about = tuple(t.token for t in view.targets if t.kind == "sample")
        sent = next(iter(view.messages())).tensors
        tensor = next(iter(sent.values()))
        match self.params.how:
            case "raises":
                raise RuntimeError(f"the scan of {NAME} ({NUMBER}) at {PATH} does not fit; ask {ADDRESS}")
            case "array":
                raise ValueError(f"{NAME} has {np.asarray(owned.images[0, 0])!r} at {PATH}")
            case "tensor":
                raise ValueError(tensor)
            case "floats":
                raise ValueError("bad values " + " ".join(f"{v:.6f}" for v in tensor.flatten()[:40].tolist()))
            case "lines":
                raise ValueError(f"first line\npatient: {NAME}\n  number: {NUMBER}\n{tensor.tolist()}")
            case "chain":
                try:
                    raise KeyError(f"{NAME} {NUMBER}")
                except KeyError as error:
                    raise LookupError(f"no key for {PATH}") from error
            case "unicode":
                (NAME.encode() + b"\xff").decode()
            case "prints":
                print(f"working on {PATH} of {NAME}: {tensor}")
                print(f"{NUMBER} {ADDRESS}", file=sys.stderr)
                warnings.warn(f"{NAME} looks strange: {tensor.flatten()[:30].tolist()}", stacklevel=1)
        shape = (len(about), *owned.images.shape[1:])
        images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        name = self.params.called
        return Images(name=name, channel="activation", about=about, images=images, modalities=owned.modalities)


SAID: set[str] = set()
"""What was said in this process: the deployed model has defenses of its own, and must not raise the training's alarm again."""


class Chatty(Defense[Chatting]):
    def outgoing(self, message: Message) -> Message:
        first = not SAID
        SAID.add("hello")
        if first:
            warnings.warn(f"training on {NAME} {NUMBER} from {PATH}", stacklevel=1)
            print(f"first batch of {NAME}: {next(iter(message.tensors.values()))}")
        if self.params.raises:
            raise FloatingPointError(f"{NAME} overflows: {next(iter(message.tensors.values()))}")
        if self.params.alarm and first:
            raise Alarm("leaky-detector", f"the scan of {NAME} ({NUMBER}) in {PATH} is odd", 1.0)
        return message
