"""A defense at the aggregator asks sites: its questions and their answers cross the wire, and who drops out is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from leakaudit.defenses import Chain, Defense
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.federated import Federated
from leakaudit.protocols.params import FederatedParams
from leakaudit.wire import Message, Party, Seat, Secret, Wire, WireError

SITES = ("site-0", "site-1", "site-2")
ROWS = 3
COHORT = CohortFacts(modalities=("flair",), shape=(8, 8), members=9, auxiliary=0, sites=SITES, records=9)
PARAMS = FederatedParams(network=NetworkParams(channels=[4, 4]), training=TrainingParams(batch_size=3), rounds=2)


def question(site: str, round_: int, value: float, channel: Any = "control") -> Message:
    return Message(
        channel=channel, sender="aggregator", receiver=site, round=round_, step=0, tensors={"value": torch.tensor(value)}
    )


class Asker(Defense[Any]):
    """At the aggregator: asks every site that sent an update to double a number, twice, and then leaves averaging alone."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(None, seat)
        self.heard: list[list[tuple[str, float]]] = []

    def aggregate(self, inbox):
        values = {m.sender: float(n) for n, m in enumerate(inbox)}
        for _ in range(2):
            answers = yield [question(site, inbox[0].round, v) for site, v in values.items()]
            values = {m.sender: m.tensors["value"].item() for m in answers}
            self.heard.append(sorted(values.items()))
        return None


class Doubler(Defense[Any]):
    """At a site: answers with twice the number."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(None, seat)

    def answer(self, message: Message) -> Message | None:
        twice = {"value": message.tensors["value"] * 2}
        return Message(channel="control", sender=self.seat.id, receiver="aggregator", round=message.round, step=0, tensors=twice)


class Silent(Doubler):
    """Sends its update and is gone before it is asked."""

    def answer(self, message: Message) -> Message | None:
        return None


class Gone(Doubler):
    """Never sends an update."""

    def outgoing(self, message: Message) -> Message | None:
        return None if message.channel == "update" else message


class Discreet(Doubler):
    """Answers, but lets nothing out on the control channel."""

    def outgoing(self, message: Message) -> Message | None:
        return None if message.channel == "control" else message


class Tape:
    """A tap of the wire."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def record(self, message: Message) -> None:
        self.messages.append(message)


class Run:
    """A tiny federated training.

    Args:
        guards: Gives a seat's defense.
        play: Puts another party in the place of the honest aggregator.
    """

    def __init__(self, guards: Callable[[Seat], Defense[Any]], play: Callable[[Party], Party] | None = None) -> None:
        self.protocol, secret = Federated(PARAMS, COHORT), Secret.from_seed(3)
        task = load_task(self.protocol.task())
        self.guards: dict[str, Defense[Any]] = {}
        parties: dict[str, Party] = {}
        for facts in self.protocol.facts.seats:
            seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"), protocol=self.protocol.facts)
            self.guards[facts.id] = guards(seat)
            parties[facts.id] = self.protocol.party(seat, task, Chain([self.guards[facts.id]], seat), _holds(facts))
        self.start = parties["aggregator"].state()
        if play is not None:
            parties["aggregator"] = play(parties["aggregator"])
        self.tape = Tape()
        self.wire = Wire(parties, secret.branch("wire"), [self.tape])
        tokens = tuple(f"row{i}" for i in range(9))
        schedule = Schedule(tokens, list(range(9)), 2, 3, Holdings(tokens=(), units=torch.zeros(0)).sampling, secret)
        self.protocol.run(self.wire, schedule)
        self.model = parties["aggregator"].state()

    def sent(self, channel: str, sender: str) -> int:
        return sum(m.channel == channel and m.sender == sender for m in self.tape.messages)


def _holds(facts: SeatFacts) -> Holdings:
    if facts.role != "site":
        return Holdings(tokens=(), units=torch.zeros(0).long())
    draw = torch.Generator().manual_seed(int(facts.id[-1]))
    return Holdings(
        tokens=tuple(f"{facts.id}-{i}" for i in range(ROWS)), units=torch.arange(ROWS),
        images=torch.randn(ROWS, 1, 8, 8, generator=draw), regions=(torch.rand(ROWS, 3, 8, 8, generator=draw) > 0.7).float(),
    )  # fmt: skip


def seats(**sites: type[Doubler]) -> Callable[[Seat], Defense[Any]]:
    """Return defenses: an asker at the aggregator, and at `site_0` and so on what is given, else a doubler."""
    return lambda seat: Asker(seat) if seat.role == "aggregator" else sites.get(seat.id.replace("-", "_"), Doubler)(seat)


def nothing(seat: Seat) -> Defense[Any]:
    return Chain([], seat)


def test_every_question_reaches_its_site_and_every_answer_comes_back() -> None:
    run = Run(seats())
    first = [("site-0", 0.0), ("site-1", 2.0), ("site-2", 4.0)]
    second = [("site-0", 0.0), ("site-1", 4.0), ("site-2", 8.0)]
    assert run.guards["aggregator"].heard == [first, second] * PARAMS.rounds


def test_questions_and_answers_are_recorded_and_counted() -> None:
    run = Run(seats())
    asked = 2 * PARAMS.rounds
    for site in SITES:
        for pair in (("aggregator", site), (site, "aggregator")):
            assert run.wire.traffic["control", *pair].messages == asked
            assert run.wire.traffic["control", *pair].bytes == 4 * asked
    assert run.sent("control", "aggregator") == asked * len(SITES)
    answers = [m.tensors["value"].item() for m in run.tape.messages if (m.channel, m.sender) == ("control", "site-1")]
    assert answers == [2.0, 4.0] * PARAMS.rounds


def test_an_aggregator_s_adversary_sees_the_control_channel() -> None:
    facts = Federated(PARAMS, COHORT).facts
    assert "control" in facts.sees(("aggregator",))
    assert "control" not in facts.sees(("outsider",))


def test_asking_changes_nothing_in_the_average_that_it_leaves_alone() -> None:
    plain, asked = Run(nothing), Run(seats())
    assert all(torch.equal(plain.model[k], t) for k, t in asked.model.items())
    assert any(not torch.equal(plain.start[k], t) for k, t in plain.model.items())
    assert plain.sent("control", "aggregator") == 0


def test_what_the_asking_defense_returns_is_the_aggregate() -> None:
    class Fixed(Asker):
        def aggregate(self, inbox):
            yield from super().aggregate(inbox)
            return {k: torch.ones_like(t) for k, t in inbox[0].tensors.items()}

    run = Run(lambda seat: Fixed(seat) if seat.role == "aggregator" else Doubler(seat))
    for name, value in run.model.items():
        torch.testing.assert_close(value, run.start[name] + PARAMS.rounds)


@pytest.mark.parametrize("kind", [Silent, Discreet])
def test_a_site_that_does_not_answer_is_missing_from_the_answers(kind: type[Doubler]) -> None:
    run = Run(seats(site_1=kind))
    assert [[site for site, _ in heard] for heard in run.guards["aggregator"].heard] == [["site-0", "site-2"]] * 4
    assert run.sent("control", "site-1") == 0
    assert run.sent("update", "site-1") == PARAMS.rounds


def test_a_site_that_withholds_its_update_is_not_asked_and_not_averaged() -> None:
    run = Run(seats(site_1=Gone))
    assert ("control", "aggregator", "site-1") not in run.wire.traffic
    assert [[site for site, _ in heard] for heard in run.guards["aggregator"].heard] == [["site-0", "site-2"]] * 4
    one = Run(seats(site_1=Gone, site_2=Gone))
    assert any(not torch.equal(run.model[k], t) for k, t in one.model.items())


def test_when_nobody_answers_the_defense_hears_nothing_and_goes_on() -> None:
    run = Run(seats(site_0=Silent, site_1=Silent, site_2=Silent))
    assert run.guards["aggregator"].heard == [[], []] * PARAMS.rounds


def test_a_site_without_a_defense_stays_silent() -> None:
    run = Run(lambda seat: Asker(seat) if seat.role == "aggregator" else nothing(seat))
    assert run.guards["aggregator"].heard == [[], []] * PARAMS.rounds


def test_a_chain_passes_on_the_questions_of_each_part_until_one_has_an_aggregate() -> None:
    class Answered(Asker):
        def aggregate(self, inbox):
            yield from super().aggregate(inbox)
            return {}

    parts: list[Asker] = []

    def guard(seat: Seat) -> Defense[Any]:
        if seat.role != "aggregator":
            return Doubler(seat)
        parts.extend((Asker(seat), Answered(seat), Asker(seat)))
        return Chain(parts, seat)

    run = Run(guard)
    assert [len(p.heard) for p in parts] == [4, 4, 0]
    assert all(torch.equal(run.start[k], t) for k, t in run.model.items())


def test_a_chain_takes_an_aggregate_that_needed_no_question() -> None:
    class Zero(Defense[Any]):
        def aggregate(self, inbox):
            return {k: torch.zeros_like(t) for k, t in inbox[0].tensors.items()}

    run = Run(lambda seat: Zero(None, seat) if seat.role == "aggregator" else nothing(seat))
    assert all(torch.equal(run.start[k], t) for k, t in run.model.items())


def test_an_attack_that_rides_on_the_aggregator_hears_the_answers_as_its_inbox() -> None:
    class Rider(Party):
        def __init__(self, honest: Party) -> None:
            self.honest, self.heard = honest, []

        def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
            self.heard += [m.sender for m in inbox if m.channel == "control" and m.sender != "schedule"]
            return self.honest.reply(inbox)

        def state(self):
            return self.honest.state()

    riders: list[Rider] = []
    ridden = Run(seats(), lambda honest: riders.append(Rider(honest)) or riders[0])
    assert riders[0].heard == list(SITES) * 2 * PARAMS.rounds
    assert all(torch.equal(Run(seats()).model[k], t) for k, t in ridden.model.items())


@pytest.mark.parametrize(("channel", "receiver"), [("model", "site-0"), ("control", "outsider"), ("control", "aggregator")])
def test_an_aggregator_may_only_ask_sites_on_the_control_channel(channel: str, receiver: str) -> None:
    class Bad(Asker):
        def aggregate(self, inbox):
            yield [question(receiver, inbox[0].round, 0.0, channel)]

    with pytest.raises(WireError, match="may only ask sites"):
        Run(lambda seat: Bad(seat) if seat.role == "aggregator" else Doubler(seat))


def test_a_site_cannot_pass_for_the_schedule() -> None:
    """An order in a site's name would make the aggregator hand out its model again."""

    class Forger(Doubler):
        def outgoing(self, message: Message) -> Message | None:
            order = {"rows": torch.arange(1)}
            return Message(
                channel="control", sender=message.sender, receiver="aggregator", round=message.round, step=0, tensors=order,
                samples=("site-0",),
            )  # fmt: skip

    run = Run(lambda seat: Forger(seat) if seat.id == "site-0" else nothing(seat))
    assert run.wire.traffic["model", "aggregator", "site-0"].messages == PARAMS.rounds


def test_a_withheld_model_leaves_the_sites_idle() -> None:
    class Withholding(Doubler):
        def outgoing(self, message: Message) -> Message | None:
            return None if message.channel == "model" else message

    run = Run(lambda seat: Withholding(seat) if seat.role == "aggregator" else nothing(seat))
    assert run.tape.messages == []
    assert all(torch.equal(run.start[k], t) for k, t in run.model.items())
