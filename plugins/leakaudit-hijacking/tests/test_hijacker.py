"""The hijacking party: it keeps the protocol, replaces what it should and nothing else, and leaves decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.hijacker import Hijacker, mixed_reply
from leakaudit_hijacking.setting import attacked_levels, pool_of

from leakaudit.errors import UserError
from leakaudit.facts import SeatFacts
from leakaudit.wire import Message, Party, Seat, Secret

TINY: dict[str, Any] = {"preset": "quick", "pilot_iterations": 2, "decoder_width": 4, "critic_width": 4, "critic_blocks": 0}


class Spy(Party):
    """Stands between the hijacker and the honest server, or around the hijacker, and writes down what it says."""

    def __init__(self, party: Party) -> None:
        self.party, self.said = party, list[list[Message]]()

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        sent = list(self.party.reply(inbox))
        self.said.append([m.carrying({k: t.detach().clone() for k, t in m.tensors.items()}) for m in sent])
        return sent

    def state(self) -> Any:
        return self.party.state()


def spied(world: Any, folder: Path, **params: Any) -> tuple[Any, list[list[Message]], list[list[Message]]]:
    """Train hijacked; return the result, what the honest server would have said, and what was said."""
    found: list[Spy] = []

    def play(honest: Party, seat: Seat, chosen: Any) -> Party:
        found.extend([Spy(honest), Spy(Hijacker(Spy(honest), seat, chosen))])
        found[0] = found[1].party.honest  # type: ignore[attr-defined]
        return found[1]

    attacked = world.attacked("feature-space-hijack", folder, play=play, **{**TINY, **params})
    return attacked, found[0].said, found[1].said


@pytest.mark.parametrize("labels", ["server", "sent", "u-shaped"])
def test_it_trains_to_the_end_wherever_the_masks_are_and_leaves_decoders(small: Any, tmp_path: Path, labels: str) -> None:
    attacked = small(labels=labels)
    found = attacked.attacked("feature-space-hijack", tmp_path, **TINY)
    images = found.images()
    assert list(images) == ["client-0/level0", "client-0/level1", "client-1/level0", "client-1/level1"]
    for name, e in images.items():
        assert e.images.shape == (6, 1, 16, 16)
        assert (f"{e.seat}/{e.level}", e.channel, e.ordered) == (name, "activation", True)
        assert e.modalities == ({"client-0": "t1", "client-1": "t2"}[e.seat],)
        assert e.about == tuple(t.token for t in found.view.targets)


def test_a_u_shaped_label_holder_gets_features_and_the_clients_are_answered_after_it(small: Any, tmp_path: Path) -> None:
    _, honest, said = spied(small(labels="u-shaped"), tmp_path)
    for would, did in zip(honest, said, strict=True):
        assert [m.receiver for m in did] == [m.receiver for m in would]
        if did[0].receiver == "labels":
            assert torch.equal(did[0].tensors["features"], would[0].tensors["features"])
        else:
            assert not torch.equal(did[0].tensors["level0"], would[0].tensors["level0"])
    assert {m.receiver for sent in said for m in sent} == {"labels", "client-0", "client-1"}


def test_who_is_not_attacked_gets_the_honest_reply_and_unattacked_levels_get_none(small: Any, tmp_path: Path) -> None:
    _, honest, said = spied(small(), tmp_path, clients=["client-1"], levels=["level1"])
    for would, did in zip(honest, said, strict=True):
        mine = {m.receiver: m.tensors for m in did}
        theirs = {m.receiver: m.tensors for m in would}
        assert all(torch.equal(mine["client-0"][k], theirs["client-0"][k]) for k in theirs["client-0"])
        assert not mine["client-1"]["level0"].any()
        assert mine["client-1"]["level1"].any()


def test_the_adaptive_reply_is_no_longer_than_the_honest_one_and_points_partly_its_way(small: Any, tmp_path: Path) -> None:
    _, honest, said = spied(small(), tmp_path, task_weight=0.5)
    pairs = [(d, w) for did, would in zip(said, honest, strict=True) for d, w in zip(did, would, strict=True)]
    for did, would in pairs:
        mine, theirs = (torch.cat([t.flatten() for t in m.tensors.values()]) for m in (did, would))
        assert mine.norm() <= theirs.norm() * 1.0001
        assert torch.nn.functional.cosine_similarity(mine, theirs, dim=0) > 0.3


def test_replying_honestly_leaves_the_training_bit_identical(small: Any, tmp_path: Path) -> None:
    world = small()
    found = world.attacked("feature-space-hijack", tmp_path, task_weight=1, **TINY)
    assert found.trained.digest() == world.honest().digest()
    assert found.images()


def test_hijacking_changes_the_training(small: Any, tmp_path: Path) -> None:
    world = small()
    assert world.attacked("feature-space-hijack", tmp_path, **TINY).trained.digest() != world.honest().digest()


def test_the_same_seed_gives_the_same_training_and_evidence(small: Any, tmp_path: Path) -> None:
    found = []
    for i in range(2):
        torch.manual_seed(i)
        found.append(small().attacked("feature-space-hijack", tmp_path / str(i), **TINY))
    assert found[0].trained.digest() == found[1].trained.digest()
    first, second = (f.images()["client-0/level0"].images for f in found)
    np.testing.assert_array_equal(first, second)


def test_several_modalities_half_precision_and_uneven_batches(small: Any, tmp_path: Path) -> None:
    world = small(modalities=("flair", "t1", "t2"), clients=[["t2"], ["flair", "t1"]], wire="float16")
    world.spec["sampling"] = {"kind": "poisson"}
    found = world.attacked("feature-space-hijack", tmp_path, draws=2, **TINY).images()
    assert found["client-1/level0"].images.shape[1:] == (2, 16, 16)
    assert found["client-0/level0"].modalities == ("t2",)


def test_one_level_of_a_u_shaped_split(small: Any, tmp_path: Path) -> None:
    found = small(labels="u-shaped").attacked("feature-space-hijack", tmp_path, levels=["level1"], **TINY)
    assert list(found.images()) == ["client-0/level1", "client-1/level1"]


def test_the_published_settings_run(small: Any, tmp_path: Path) -> None:
    found = small(rounds=1).attacked("feature-space-hijack", tmp_path / "hijack", clients=["client-0"], levels=["level1"])
    (client,) = found.party.hijacks.values()
    assert sum(p.numel() for p in client.critics.parameters()) > 12 * 256 * 256 * 9
    assert list(found.images()) == ["client-0/level1"]
    assert list(small(rounds=1).attacked("sdar", tmp_path / "sdar", clients=["client-1"]).images()) == [
        "client-1/level0", "client-1/level1",
    ]  # fmt: skip


def activation(*levels: str) -> Message:
    tensors = {name: torch.ones(2, 3, 4, 4) for name in levels}
    return Message(channel="activation", sender="client-0", receiver="server", round=3, step=5, tensors=tensors, samples=("a", "b"))


def honest_reply(value: float) -> Message:
    tensors = {name: torch.full((2, 3, 4, 4), value) for name in ("level0", "level1")}
    return Message(
        channel="cut-gradient", sender="server", receiver="client-0", round=3, step=5, tensors=tensors, samples=("a", "b")
    )


def test_a_whole_hijack_sends_the_critics_gradient_as_it_is() -> None:
    hijack = {"level1": torch.randn(2, 3, 4, 4)}
    reply = mixed_reply("server", activation("level0", "level1"), hijack, honest_reply(9.0), 0)
    assert reply is not None
    assert (reply.channel, reply.sender, reply.receiver, reply.round, reply.step) == ("cut-gradient", "server", "client-0", 3, 5)
    assert reply.samples == ("a", "b")
    assert torch.equal(reply.tensors["level1"], hijack["level1"])
    assert not reply.tensors["level0"].any()


def test_mixing_scales_the_hijack_to_the_length_of_the_honest_reply() -> None:
    hijack = {"level1": torch.full((2, 3, 4, 4), 1e-6)}
    reply = mixed_reply("server", activation("level0", "level1"), hijack, honest_reply(2.0), 0.25)
    assert reply is not None
    # The honest reply has length 2 sqrt(2 n) over both levels, the hijack is along level 1 alone, of n numbers.
    torch.testing.assert_close(reply.tensors["level0"], torch.full((2, 3, 4, 4), 0.25 * 2))
    torch.testing.assert_close(reply.tensors["level1"], torch.full((2, 3, 4, 4), 0.25 * 2 + 0.75 * 2 * 2**0.5))


def test_an_honest_reply_stays_the_very_message_and_a_missing_one_is_replaced() -> None:
    honest = honest_reply(1.0)
    assert mixed_reply("server", activation("level0", "level1"), {}, honest, 1) is honest
    alone = mixed_reply("server", activation("level0"), {"level0": torch.ones(2, 3, 4, 4)}, None, 0.5)
    assert alone is not None
    assert torch.equal(alone.tensors["level0"], torch.ones(2, 3, 4, 4))


def test_levels_are_ordered_by_size_whatever_the_order_they_arrive_in() -> None:
    sent = {"level1": torch.zeros(2, 8, 4, 4), "level2": torch.zeros(2, 16, 2, 2), "level0": torch.zeros(2, 4, 8, 8)}
    assert list(attacked_levels(sent, None).items()) == [("level0", (4, 8, 8)), ("level1", (8, 4, 4)), ("level2", (16, 2, 2))]
    assert list(attacked_levels(sent, ("level2", "level0"))) == ["level0", "level2"]


def test_it_says_what_it_lacks(small: Any) -> None:
    bare = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0), protocol=small().protocol_facts)
    with pytest.raises(UserError, match="owns none"):
        pool_of(bare, "sdar")


def test_each_client_is_given_the_modalities_that_it_holds(small: Any) -> None:
    world = small(modalities=("flair", "t1", "t2"), clients=[["t2", "t1"], ["flair"]])
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0), protocol=world.protocol_facts, auxiliary=world.cohort)
    pool = pool_of(seat, "sdar")
    images = world.cohort.images
    np.testing.assert_array_equal(pool.images("client-0", [3, 1]).numpy(), images[[3, 1]][:, [2, 1]])
    np.testing.assert_array_equal(pool.images("client-1", [0]).numpy(), images[[0]][:, [0]])


class Withholding(Party):
    """An honest server to which client-1 never sends, so that it says nothing."""

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        return []


@pytest.mark.parametrize(("labels", "turn"), [("server", 0), ("u-shaped", 1)])
def test_a_client_is_answered_in_its_turn_where_another_withholds(small: Any, labels: str, turn: int) -> None:
    world = small(labels=labels)
    seat = Seat(SeatFacts(id="server", role="server"), Secret.from_seed(0), protocol=world.protocol_facts, auxiliary=world.cohort)
    hijacker = Hijacker(Withholding(), seat, FeatureSpaceHijackParams(**TINY))
    tensors = {"level0": torch.randn(2, 4, 16, 16), "level1": torch.randn(2, 8, 8, 8)}
    sent = Message(channel="activation", sender="client-0", receiver="server", round=0, step=0, tensors=tensors, samples=("a", "b"))
    said = [hijacker.reply([sent]), hijacker.reply([])]
    assert [m.receiver for m in said[turn]] == ["client-0"]
    assert not said[1 - turn]
    assert list(hijacker.hijacks) == ["client-0"]
