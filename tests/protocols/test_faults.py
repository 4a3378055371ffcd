"""Sites that leave, diverge, or send what is no number: who is asked, what is averaged, and what the notes say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from leakaudit.defenses import Chain, Defense, Local
from leakaudit.engine.specs import as_json
from leakaudit.errors import UserError
from leakaudit.facts import Absence, CohortFacts, ProtocolFacts, SeatFacts
from leakaudit.models import load_task
from leakaudit.models.params import NetworkParams, TrainingParams
from leakaudit.plugins import DefenseParams
from leakaudit.protocols import Holdings, Schedule
from leakaudit.protocols.federated import Federated, average
from leakaudit.protocols.params import FederatedParams
from leakaudit.wire import Message, NotFiniteError, Seat, Secret, Wire

SITES = ("site-0", "site-1", "site-2")
COHORT = CohortFacts(modalities=("flair",), shape=(16, 16), members=9, auxiliary=0, sites=SITES, records=9)
NOBODY = "no update arrived, and the model stayed as it was"


def params(*dropouts: dict[str, Any], rounds: int = 3, training: dict[str, Any] | None = None, **more: Any) -> FederatedParams:
    fields = {"batch_size": 3, **(training or {})}
    network = NetworkParams(channels=[4, 8])
    return FederatedParams(network=network, training=TrainingParams(**fields), rounds=rounds, dropouts=list(dropouts), **more)


def leaves(site: int, round_: int, when: str = "before", returns: int | None = None) -> dict[str, Any]:
    return {"site": SITES[site], "round": round_, "when": when, "returns": returns}


class Asker(Defense[Any]):
    """At the aggregator: asks everybody whose update arrived, and hears who answers."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(None, seat)
        self.asked: list[list[str]] = []
        self.heard: list[list[str]] = []

    def aggregate(self, inbox):
        self.asked.append([m.sender for m in inbox])
        answers = yield [
            Message(channel="control", sender="aggregator", receiver=m.sender, round=m.round, step=0, tensors={}) for m in inbox
        ]
        self.heard.append([m.sender for m in answers])
        return None


class Answering(Defense[Any]):
    def answer(self, message: Message) -> Message | None:
        return Message(channel="control", sender=self.seat.id, receiver="aggregator", round=message.round, step=0, tensors={})


class Run:
    """A tiny federated training of three sites.

    Args:
        chosen: The protocol's parameters.
        guards: Gives a seat's defense.
        rows: Images at each site.
        loud: Sites whose images are of this size (others: 1).
    """

    def __init__(
        self, chosen: FederatedParams, guards: Callable[[Seat], Defense[Any]] | None = None, *, rows: Sequence[int] = (3, 3, 3),
        loud: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.protocol, secret, self.messages = Federated(chosen, COHORT), Secret.from_seed(3), list[Message]()
        task = load_task(self.protocol.task())
        self.guards: dict[str, Defense[Any]] = {}
        parties = {}
        for facts, count in zip(self.protocol.facts.seats, (*rows, 0), strict=True):
            seat = Seat(facts, secret.branch(facts.id), shared=secret.branch("shared"), protocol=self.protocol.facts)
            self.guards[facts.id] = guards(seat) if guards else Defense(None, seat)
            holds = _holds(facts, count, (loud or {}).get(facts.id, 1.0))
            parties[facts.id] = self.protocol.party(seat, task, Chain([self.guards[facts.id]], seat), holds)
        self.start = parties["aggregator"].state()
        self.wire = Wire(parties, secret.branch("wire"), [self])
        schedule = Schedule(("row",), [0], chosen.rounds, 1, Holdings(tokens=(), units=torch.zeros(0)).sampling, secret)
        self.protocol.run(self.wire, schedule)
        self.model, self.parties = parties["aggregator"].state(), parties

    def record(self, message: Message) -> None:
        self.messages.append(message)

    def rounds(self, channel: str, sender: str, receiver: str) -> list[int]:
        return [m.round for m in self.messages if (m.channel, m.sender, m.receiver) == (channel, sender, receiver)]

    def averaged(self) -> dict[str, torch.Tensor]:
        """Return the model that follows from the updates that crossed, averaged round by round."""
        model = dict(self.start)
        for round_ in range(self.protocol.params.rounds):
            mean = average([m for m in self.messages if (m.channel, m.round) == ("update", round_)])
            model = {k: v + mean[k] if k in mean else v for k, v in model.items()}
        return model


def _holds(facts: SeatFacts, rows: int, size: float) -> Holdings:
    if facts.role != "site":
        return Holdings(tokens=(), units=torch.zeros(0).long())
    draw = torch.Generator().manual_seed(int(facts.id[-1]))
    return Holdings(
        tokens=tuple(f"{facts.id}-{i}" for i in range(rows)), units=torch.arange(rows),
        images=size * torch.randn(rows, 1, 16, 16, generator=draw),
        regions=(torch.rand(rows, 3, 16, 16, generator=draw) > 0.7).float(),
    )  # fmt: skip


def asking(seat: Seat) -> Defense[Any]:
    return Asker(seat) if seat.role == "aggregator" else Answering(None, seat)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[k], other[k]) for k in one)


# Who leaves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "trained", "answered"),
    [
        (leaves(1, 1), [0], [0]), (leaves(1, 1, "after"), [0, 1], [0]), (leaves(1, 0, returns=2), [2], [2]),
        (leaves(1, 0, "after", returns=2), [0, 2], [2]), (leaves(1, 1, "after", returns=2), [0, 1, 2], [0, 2]),
        (leaves(1, 0), [], []),
    ],
)  # fmt: skip
def test_a_site_that_left_is_not_asked_and_everybody_else_goes_on(fault: Any, trained: list[int], answered: list[int]) -> None:
    run = Run(params(fault), asking)
    assert run.rounds("model", "aggregator", "site-1") == run.rounds("update", "site-1", "aggregator") == trained
    assert run.rounds("control", "site-1", "aggregator") == answered
    assert run.rounds("control", "aggregator", "site-1") == trained, "whoever left after its update is asked in vain"
    for site in ("site-0", "site-2"):
        assert run.rounds("update", site, "aggregator") == run.rounds("control", site, "aggregator") == [0, 1, 2]
    assert same(run.model, run.averaged()), "the aggregate is over those whose updates arrived"
    assert list(run.wire.notes.values()) == [[fault["round"]]]
    (note,) = run.wire.notes
    assert "site 'site-1' left" in note
    assert ("for good" in note) == (fault["returns"] is None)


def test_several_sites_leave_and_one_of_them_twice() -> None:
    run = Run(params(leaves(0, 0, returns=1), leaves(0, 2), leaves(2, 1)))
    assert [run.rounds("update", site, "aggregator") for site in SITES] == [[1], [0, 1, 2], [0]]
    assert same(run.model, run.averaged())
    assert "round 0: site 'site-0' left before it was asked, until round 1" in run.protocol.facts.extra["dropouts"]


def test_without_faults_nothing_is_noted_and_nothing_stated() -> None:
    run = Run(params())
    assert run.wire.notes == {}
    assert "dropouts" not in run.protocol.facts.extra


def test_who_leaves_when_is_a_public_fact() -> None:
    facts = params(leaves(0, 1), leaves(2, 0, "after", returns=2)).facts(COHORT)
    assert facts.absences == (Absence(seat="site-0", first=1), Absence(seat="site-2", first=1, returns=2, silent=0))
    assert [facts.away(r) for r in range(3)] == [(), ("site-0", "site-2"), ("site-0",)]
    assert [facts.silent(r) for r in range(3)] == [("site-2",), (), ()]
    assert ProtocolFacts.from_json(json.loads(json.dumps(as_json(facts)))) == facts
    assert facts.drawn is None
    assert params(participation=0.5).facts(COHORT).drawn == 2
    assert params().facts(COHORT).absences == ()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_round_with_nobody_left_keeps_the_model(when: str) -> None:
    run = Run(params(*(leaves(i, 1, when, returns=3 if i else None) for i in range(3)), rounds=4), asking)
    silent = [1] if when == "before" else []
    assert run.wire.notes[NOBODY] == ([1, 2] if when == "before" else [2])
    assert run.rounds("update", "site-1", "aggregator") == [r for r in (0, 1, 3) if r not in silent]
    assert run.guards["aggregator"].asked == [list(SITES)] * (1 if when == "before" else 2) + [["site-1", "site-2"]]
    if when == "after":
        assert run.guards["aggregator"].heard[1] == []
    assert same(run.model, run.averaged())


def test_when_everybody_leaves_at_once_the_first_model_is_the_last() -> None:
    run = Run(params(*(leaves(i, 0) for i in range(3))))
    assert same(run.model, run.start)
    assert [m.channel for m in run.messages] == ["model"], "the model is released all the same"
    assert run.wire.notes[NOBODY] == [0, 1, 2]


def test_sites_are_drawn_as_if_nobody_had_left() -> None:
    half = {"participation": 0.5, "rounds": 6}
    plain, faulty = Run(params(**half)), Run(params(leaves(1, 1), **half))
    for site in ("site-0", "site-2"):
        assert faulty.rounds("update", site, "aggregator") == plain.rounds("update", site, "aggregator")
    assert faulty.rounds("update", "site-1", "aggregator") == [r for r in plain.rounds("update", "site-1", "aggregator") if r < 1]
    assert plain.rounds("update", "site-1", "aggregator") != faulty.rounds("update", "site-1", "aggregator")


class Counting(Defense[DefenseParams]):
    planned = 0

    def train(self, local: Local) -> Local:
        self.planned = local.steps
        return local


def test_the_planned_steps_stay_an_upper_bound() -> None:
    run = Run(params(leaves(1, 1), local_epochs=2), lambda seat: Counting(DefenseParams(), seat))
    assert {run.guards[site].planned for site in SITES} == {3 * 2}
    taken = len(run.rounds("update", "site-1", "aggregator")) * 2
    assert taken < run.guards["site-1"].planned


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (leaves(0, 3), "round 3, but the rounds are 0 to 2; the nearest is 2"), (leaves(0, 1, returns=1), "at least 2"),
        (leaves(0, 1, returns=3), "but the last round is 2"), (leaves(0, -1), "greater than or equal to 0"),
        (leaves(0, 1, "during"), "'before' or 'after'"),
    ],
)  # fmt: skip
def test_faults_outside_of_the_training_are_refused(fault: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        params(fault)


def test_nobody_leaves_who_is_away() -> None:
    with pytest.raises(ValidationError, match="left in round 0 and does not come back"):
        params(leaves(0, 1), leaves(0, 0, "after"))
    with pytest.raises(ValidationError, match="is away until round 2"):
        params(leaves(0, 0, returns=2), leaves(0, 1))


def test_an_unknown_site_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no site 'site-02' has patients to train on. Did you mean 'site-2'\?"):
        params({"site": "site-02", "round": 0}).facts(COHORT)


# What diverges --------------------------------------------------------------------------------------------------------

DIVERGING = {"optimizer": "sgd", "learning_rate": 1e30}


def test_a_diverged_training_says_where_and_what_to_change() -> None:
    with pytest.raises(NotFiniteError, match=r"'site-0' diverged in round 0: its update of [a-z]+[^ ]* is not finite") as raised:
        Run(params(training=DIVERGING, local_epochs=3))
    assert "Lower training.learning_rate (1e+30)" in str(raised.value)
    assert "on_bad_update: drop" in str(raised.value)


@pytest.mark.parametrize("state", ["keep", "restart"])
def test_a_site_that_diverges_is_left_out_and_the_others_go_on(state: str) -> None:
    """Its images are so large that their squares are no numbers; its moments would stay so."""
    run = Run(params(on_bad_update="drop", optimizer_state=state), loud={"site-1": 1e38})
    assert run.rounds("update", "site-1", "aggregator") == [], "it is not recorded either"
    assert run.rounds("update", "site-0", "aggregator") == [0, 1, 2]
    assert run.wire.notes == {"the update of site 'site-1' was not finite and was left out": [0, 1, 2]}
    assert same(run.model, run.averaged())
    assert not same(run.model, run.start)
    assert all(torch.isfinite(t).all() for party in run.parties.values() for t in party.state().values())
    assert ("update", "site-1", "aggregator") not in run.wire.traffic


def test_when_all_diverge_the_model_stays() -> None:
    run = Run(params(on_bad_update="drop", training=DIVERGING, local_epochs=3))
    assert same(run.model, run.start)
    assert run.wire.notes[NOBODY] == [0, 1, 2]


class Spoiling(Defense[DefenseParams]):
    """Makes one number of one site's updates infinite, in the second round."""

    def outgoing(self, message: Message) -> Message:
        if (message.channel, message.sender, message.round) != ("update", "site-2", 1):
            return message
        name, first = next(iter(message.tensors.items()))
        spoiled = first.clone()
        spoiled.view(-1)[0] = torch.inf
        return message.carrying({**message.tensors, name: spoiled})


def spoiling(seat: Seat) -> Defense[Any]:
    return Spoiling(DefenseParams(), seat)


def test_what_a_defense_makes_of_an_update_is_refused_by_name() -> None:
    with pytest.raises(NotFiniteError, match=r"'site-2' sent '.*' with values that are not finite \(update, round 1\)") as raised:
        Run(params(), spoiling)
    assert "a defense or an attack" in str(raised.value)


def test_a_bad_update_is_dropped_in_its_round_alone() -> None:
    run = Run(params(on_bad_update="drop"), spoiling)
    assert run.rounds("update", "site-2", "aggregator") == [0, 2]
    assert list(run.wire.notes.values()) == [[1]]
    assert same(run.model, run.averaged())


def test_dropping_is_for_updates_alone() -> None:
    class Broken(Defense[DefenseParams]):
        def outgoing(self, message: Message) -> Message:
            return message.carrying({k: t * torch.nan for k, t in message.tensors.items()})

    def guard(seat: Seat) -> Defense[Any]:
        return Broken(DefenseParams(), seat) if seat.role == "aggregator" else Defense(None, seat)

    with pytest.raises(NotFiniteError, match=r"'aggregator' sent .*model, round 0"):
        Run(params(on_bad_update="drop"), guard)


# No image, one image ------------------------------------------------------------------------------------------------------------


def test_a_site_without_an_image_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="no image to train on"):
        Run(params(), rows=(3, 0, 3))


@pytest.mark.parametrize("normalization", ["instance", "batch", "group"])
@pytest.mark.parametrize("choice", [{"local_epochs": 2}, {"local_steps": 3}])
def test_a_site_with_one_image_trains_like_any_other(normalization: str, choice: dict[str, int]) -> None:
    chosen = params(rounds=2, **choice)
    network = NetworkParams(channels=[4, 8], normalization=normalization)
    run = Run(chosen.model_copy(update={"network": network}), rows=(1, 3, 1))
    (first,) = {m.weight for m in run.messages if (m.channel, m.sender) == ("update", "site-0")}
    assert first == 1
    assert run.rounds("update", "site-0", "aggregator") == [0, 1]
    assert all(torch.isfinite(t).all() for t in run.model.values())
    sent = [m for m in run.messages if (m.channel, m.sender) == ("update", "site-0")]
    assert all(any(t.abs().max() > 0 for t in m.tensors.values()) for m in sent)
