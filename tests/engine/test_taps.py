"""What a training writes down: channels, rounds, last crossings, rows of attacked patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from leakaudit.engine.taps import Tapping, Taps
from leakaudit.protocols.schedule import Sampling, Schedule
from leakaudit.threats import Tap
from leakaudit.wire import Message, Secret
from leakaudit.wire.recording import MessageLog

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


SCHEDULE_TOKENS = tuple("abcdef")


def recorded(folder: Path, end: tuple[int, int] | None, *, stoppable: bool) -> list[tuple[int, str]]:
    """Return (round, sample) of what is on disk after a training of three rounds that may have stopped at `end`."""
    schedule = Schedule(SCHEDULE_TOKENS, range(6), 3, 4, Sampling(), Secret.from_seed(0))
    tapping = Tapping([Tap(channel="activation")], folder, set("abc"), schedule, stoppable=stoppable)
    for round_ in range(3):
        for step, batch in enumerate(schedule.batches(round_)):
            if end is None or (round_, step) <= end:
                tapping.record(message(round_, step, batch))
    tapping.close(end)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name], "nothing else is left behind"
    return sorted((e["round"], token) for e in MessageLog(folder).entries for token in e["samples"])


@pytest.mark.parametrize("stoppable", [False, True])
def test_a_whole_training_leaves_the_same_with_and_without_a_detector(tmp_path: Path, stoppable: bool) -> None:
    assert recorded(tmp_path / "messages", None, stoppable=stoppable) == [(2, "a"), (2, "b"), (2, "c")]


def test_after_an_alarm_the_last_crossings_are_those_before_it(tmp_path: Path) -> None:
    found = recorded(tmp_path / "messages", (1, 0), stoppable=True)
    assert sorted(token for _, token in found) == ["a", "b", "c"]
    crossed = Schedule(SCHEDULE_TOKENS, range(6), 3, 4, Sampling(), Secret.from_seed(0)).batches(1)[0]
    assert found == sorted((1 if token in crossed else 0, token) for token in "abc")


def test_an_alarm_in_the_middle_of_a_batch_leaves_each_party_its_own_last_crossing(tmp_path: Path) -> None:
    schedule = Schedule(("a", "b"), range(2), 2, 2, Sampling(), Secret.from_seed(0))
    tapping = Tapping([Tap(channel="activation")], tmp_path / "messages", {"a", "b"}, schedule, stoppable=True)
    for round_, senders in ((0, ("client-0", "client-1")), (1, ("client-0",))):
        for sender in senders:
            tapping.record(replace(message(round_, 0, ("a", "b")), sender=sender))
    tapping.close((1, 0))
    assert {(e["sender"], e["round"]) for e in MessageLog(tmp_path / "messages").entries} == {("client-0", 1), ("client-1", 0)}
