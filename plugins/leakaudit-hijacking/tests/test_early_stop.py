"""What is left where a detector stops the training after few batches, or a client never sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from leakaudit.attacks import EvidenceError, View
from leakaudit.defenses import Defense
from leakaudit.plugins import DefenseParams
from leakaudit.plugins.targets import target_of
from leakaudit.wire import Alarm, Message

HIJACK: dict[str, Any] = {
    "preset": "quick", "pilot_iterations": 2, "decoder_width": 4, "critic_width": 4, "critic_blocks": 0,
}  # fmt: skip
RIDE: dict[str, Any] = {"preset": "quick", "decoder_width": 4, "discriminator_width": 4, "discriminator_blocks": 0}
ATTACKS = [("feature-space-hijack", HIJACK), ("sdar", RIDE), ("pcat", RIDE)]
ALL = ["client-0/level0", "client-0/level1", "client-1/level0", "client-1/level1"]


class TripwireParams(DefenseParams):
    """Which message is the tripwire, and what happens to it."""

    channel: str = Field(description="Channel of the message.")
    seat: str = Field(description="Seat that sends or gets it.")
    at: tuple[int, int] | None = Field(None, description="Its round and step; every message of a training by default.")
    does: Literal["raise", "withhold"] = Field("raise", description="What happens.")


class Tripwire(Defense[TripwireParams]):
    """Stops the training at one message, or withholds it."""

    def outgoing(self, message: Message) -> Message | None:
        return self._checked(message)

    def incoming(self, message: Message) -> Message | None:
        return self._checked(message)

    def _checked(self, message: Message) -> Message | None:
        place, p = (message.round, message.step), self.params
        if message.round < 0 or (message.channel, self.seat.id) != (p.channel, p.seat) or p.at not in (None, place):
            return message
        if p.does == "withhold":
            return None
        raise Alarm("tripwire", "the tripwire was touched", 1.0)


def tripwire(**params: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": "tripwire", "target": target_of(Tripwire), "params_target": target_of(TripwireParams), "params": params,
            "seats": ["client", "label-holder"], "stochastic": False, "detector": True,
        }
    ]  # fmt: skip


def shuffled(found: Any) -> list[Any]:
    return list(found.attack.run(View(found.view._folder, "messages-shuffled")))


@pytest.mark.parametrize(("name", "params"), ATTACKS)
@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
def test_an_alarm_in_the_first_batch_leaves_evidence_about_those_who_crossed(
    small: Any, tmp_path: Path, labels: str, name: str, params: Any
) -> None:
    world = small(labels=labels, defenses=tripwire(channel="cut-gradient", seat="client-0", at=[0, 0]))
    found = world.attacked(name, tmp_path, **params)
    assert found.trained.alarm["batches"] == 1
    images, about = found.images(), {t.token for t in found.view.targets}
    assert list(images) == ALL
    assert len(about) == 4  # a batch: two of six members never crossed
    assert all(set(e.about) == about for e in images.values())
    assert {e.name for e in shuffled(found)} >= set(ALL)


@pytest.mark.parametrize(("name", "params"), ATTACKS)
def test_after_an_alarm_everybody_is_read_from_the_last_crossing_before_it(
    small: Any, tmp_path: Path, name: str, params: Any
) -> None:
    world = small(rounds=3, defenses=tripwire(channel="cut-gradient", seat="client-1", at=[1, 0]))
    found = world.attacked(name, tmp_path, **params)
    seen = {(m.round, m.step): len(m.samples) for m in found.view.messages(sender="client-0")}
    assert max(seen) == (1, 0)
    assert sum(seen.values()) == len(found.view.targets) == 6
    assert [len(e.about) for e in found.images().values()] == [6] * 4


@pytest.mark.parametrize(("name", "params"), ATTACKS)
def test_an_alarm_before_the_server_was_asked_leaves_nothing_to_decode_with(
    small: Any, tmp_path: Path, name: str, params: Any
) -> None:
    world = small(defenses=tripwire(channel="activation", seat="client-1", at=[0, 0]))
    found = world.attacked(name, tmp_path, **params)
    assert found.view.targets  # client-0 had sent
    with pytest.raises(EvidenceError, match="learned nothing"):
        found.evidence()


@pytest.mark.parametrize("labels", ["server", "u-shaped"])
def test_a_client_that_never_sends_is_not_hijacked_and_the_other_is(small: Any, tmp_path: Path, labels: str) -> None:
    world = small(labels=labels, defenses=tripwire(channel="activation", seat="client-1", does="withhold"))
    found = world.attacked("feature-space-hijack", tmp_path / "hijack", **HIJACK)
    assert list(found.images()) == ALL[:2]
    assert found.images()["client-0/level0"].images.shape == (6, 1, 16, 16)
    honest, hijacked = world.honest().states["client-0"], found.trained.states["client-0"]
    assert any((honest[k] != hijacked[k]).any() for k in honest)  # it was answered, though the honest server had nothing to say
    with pytest.raises(EvidenceError, match="learned nothing"):
        world.attacked("feature-space-hijack", tmp_path / "none", clients=["client-1"], **HIJACK).evidence()
    with pytest.raises(EvidenceError, match="learned nothing"):
        world.attacked("sdar", tmp_path / "sdar", **RIDE).evidence()


def test_masks_that_never_came_are_missed_where_decoders_need_them(small: Any, tmp_path: Path) -> None:
    wire = tripwire(channel="label", seat="labels", at=[1, 0])
    found = small(labels="sent", training={"batch_size": 6}, defenses=wire).attacked("sdar", tmp_path, **RIDE)
    with pytest.raises(EvidenceError, match="nothing to decode"):
        found.evidence()
