"""What a training writes down: channels, rounds, last crossings, rows of attacked patients."""

from __future__ import annotations

import torch

from leakaudit.engine.taps import Taps
from leakaudit.threats import Tap
from leakaudit.wire import Message

CROSSINGS = {"a": [(0, 0), (1, 1), (2, 0)], "b": [(0, 0), (1, 0)], "c": [(2, 0)]}


def message(round_: int, step: int, samples: tuple[str, ...] = (), channel: str = "activation") -> Message:
    return Message(
        channel=channel, sender="client-0", receiver="server", round=round_, step=step,
        tensors={"level0": torch.zeros(max(1, len(samples)), 1)}, samples=samples,
    )  # type: ignore[arg-type]  # fmt: skip


def test_minus_one_is_the_last_time_each_sample_crosses() -> None:
    taps = Taps([Tap(channel="activation")], {"a", "b"}, CROSSINGS, 3)
    assert taps(message(2, 0, ("c", "a"))) == (None, [1])
    assert taps(message(1, 0, ("b",))) == (None, [0])
    assert taps(message(1, 1, ("a",))) is None


def test_rounds_by_number_and_every_round() -> None:
    assert Taps([Tap(channel="activation", rounds=(0,))], {"a", "b"}, CROSSINGS, 3)(message(0, 0, ("a", "b"))) == (None, [0, 1])
    everything = Taps([Tap(channel="activation", rounds=None)], {"a"}, CROSSINGS, 3)
    assert everything(message(1, 1, ("a",))) == (None, [0])


def test_whole_messages_names_and_unions() -> None:
    whole = Taps([Tap(channel="activation", rounds=None, rows="all", names=("level0",))], set(), CROSSINGS, 3)
    assert whole(message(0, 0, ("a", "b"))) == (("level0",), None)
    both = Taps(
        [Tap(channel="activation", names=("level0",)), Tap(channel="activation", names=("level1",), rounds=(2,))],
        {"a", "c"}, CROSSINGS, 3,
    )  # fmt: skip
    assert both(message(2, 0, ("a", "c"))) == (("level0", "level1"), [0, 1])


def test_messages_without_samples_go_by_round() -> None:
    taps = Taps([Tap(channel="update", rounds=(-1,))], set(), {}, 3)
    assert taps(message(2, 0, channel="update")) == (None, None)
    assert taps(message(1, 0, channel="update")) is None
    assert taps(message(2, 0, channel="model")) is None
