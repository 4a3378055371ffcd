"""Checks of protocols: facts that hold together, and a training of one round."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from leakaudit.engine.places import Place, guard_of
from leakaudit.engine.reasons import sentence
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Trained, Training
from leakaudit.facts import ProtocolFacts, SeatFacts
from leakaudit.plugins.params import ProtocolParams
from leakaudit.testing.results import ViolationError
from leakaudit.testing.stage import Stage, as_in_a_cell
from leakaudit.testing.subject import COHORT, TINY, Subject
from leakaudit.threats import CHANNELS
from leakaudit.wire import Message, Party, Replica, Seat

__all__ = ["deterministic", "facts", "flows", "predictor", "replicas", "riders", "trains"]

_OUTSIDE = ("outsider", "model")


def _tiny(subject: Subject) -> dict[str, Any]:
    """Return the example's parameters, made small where they are the defaults."""
    example = dict(subject.examples[0])
    fields = type(subject.params).model_fields
    small = {**TINY, "rounds": 1}
    return {name: value for name, value in small.items() if name in fields} | example


def facts(subject: Subject) -> None:
    """`facts(cohort)` is pure, names its seats once, and says for every flow who sends and who receives."""
    params = cast("ProtocolParams", subject.plugin.info.params.model_validate(_tiny(subject)))
    try:
        found, again = params.facts(COHORT), params.facts(COHORT)
    except Exception as error:
        fix = "let the defaults fit any cohort, or name an example that fits four modalities of 32 x 32 voxels."
        raise ViolationError(f"facts() raised {sentence(error)}.", fix) from error
    if found != again:
        raise ViolationError("facts() gave two answers for one cohort.", "make them depend on the cohort's facts alone.")
    if ProtocolFacts.from_json(json.loads(json.dumps(as_json(found)))) != found:
        raise ViolationError("its facts are not the same after JSON.", "use the fields of ProtocolFacts as they are typed.")
    problem = _inconsistent(found)
    if problem:
        raise ViolationError(f"{problem}.", "mend facts().")


def _inconsistent(found: ProtocolFacts) -> str | None:
    ids = [seat.id for seat in found.seats]
    if not ids or len(set(ids)) < len(ids):
        return f"its seats are {', '.join(ids) or 'nobody'}: every seat needs a name of its own"
    known = (*found.roles, *_OUTSIDE)
    for flow in found.flows:
        stranger = [role for role in (flow.sender, flow.receiver) if role not in known]
        if stranger:
            return f"a flow on {flow.channel!r} names the role {stranger[0]!r}, which no seat has"
        if flow.channel not in CHANNELS:
            return f"there is no channel {flow.channel!r}"
    absent = next((absence.seat for absence in found.absences if absence.seat not in ids), None)
    if absent is not None:
        return f"an absence names the seat {absent!r}, which is not there"
    if found.rounds < 1 or found.spatial_dims != len(COHORT.shape):
        return f"it has {found.rounds} rounds and {found.spatial_dims} spatial dimensions for images of {COHORT.shape}"
    held = {m for seat in found.seats for m in seat.modalities}
    if not held or not any(seat.labels for seat in found.seats):
        return "no seat holds images, or no seat holds masks"
    return None


class _Trial:
    """A training of one round, and what it left."""

    def __init__(self, subject: Subject) -> None:
        self.stage = Stage(subject.folder)
        self.entry = {"use": subject.plugin.qualified, "name": "under-test", "params": _tiny(subject)}
        self.trained: Trained | None = None

    def training(self, seed: int = 0) -> Training:
        """Return the training, ready to run."""
        plan = self.stage.plan(protocols=[self.entry], seed=seed)
        return self.stage.training(plan, plan.baselines[0].trains[0])

    @property
    def left(self) -> Trained:
        """What the training left."""
        assert self.trained is not None
        return self.trained


def _trial(subject: Subject) -> _Trial:
    if "trial" not in subject.memo:
        subject.memo["trial"] = _Trial(subject)
    return cast("_Trial", subject.memo["trial"])


def trains(subject: Subject) -> None:
    """A training of one round runs through the engine."""
    trial = _trial(subject)
    try:
        with as_in_a_cell():
            trial.trained = trial.training().run()
    except Exception as error:
        fix = (
            "its params need rounds and training.batch_size, from which the engine draws the schedule; parties answer every "
            "message they are sent."
        )
        raise ViolationError(f"the training raised {sentence(error)}.", fix) from error
    if set(trial.left.states) != {s.id for s in trial.training().protocol.facts.seats} or not any(trial.left.states.values()):
        raise ViolationError("no party has a state after training.", "return the learned weights from Party.state().")


def flows(subject: Subject) -> None:
    """What crossed the wire is what the facts announced."""
    trial = _trial(subject)
    found = trial.training().protocol.facts
    role = {seat.id: seat.role for seat in found.seats}
    announced = {(f.channel, f.sender, f.receiver) for f in found.flows}
    for channel, sender, receiver, _, _ in trial.left.traffic:
        crossed = (channel, role.get(sender, sender), role.get(receiver, receiver))
        if channel != "control" and crossed not in announced:
            raise ViolationError(
                f"{crossed[1]} sent {channel!r} to {crossed[2]}, which its facts do not announce.",
                "list every kind of message in ProtocolFacts.flows: an unlisted one is never audited.",
            )


def deterministic(subject: Subject) -> None:
    """The same seed gives the same weights, and another seed others."""
    trial = _trial(subject)
    with as_in_a_cell(seed=1):
        again, other = trial.training().run(), trial.training(seed=1).run()
    if again.digest() != trial.left.digest():
        raise ViolationError(
            "two trainings with one seed ended with different weights.",
            "build networks with leakaudit.protocols.initial_network and draw from seat.rng(purpose).",
        )
    if other.digest() == trial.left.digest():
        raise ViolationError("another seed gave the same weights.", "derive weights and batches from the seat and the schedule.")


def predictor(subject: Subject) -> None:
    """The deployed model turns images into finite logits of three regions."""
    trial = _trial(subject)
    training = trial.training()
    try:
        with as_in_a_cell():
            model = training.predictor(trial.left.states, trial.left.public)
            logits = training.predict(model, training.cohort.images[:2])
    except Exception as error:
        fix = "take images (n, modalities, *spatial) and return logits (n, 3, *spatial)."
        raise ViolationError(f"the deployed model raised {sentence(error)}.", fix) from error
    expected = (2, 3, *training.cohort.shape)
    if tuple(logits.shape) != expected or not torch.isfinite(logits).all():
        raise ViolationError(
            f"the deployed model answers with shape {tuple(logits.shape)} for {expected}, or not with finite numbers.",
            "return logits (n, 3, *spatial).",
        )


def replicas(subject: Subject) -> None:
    """Every seat has a replica, with its trained weights and without, or says that it computes nothing."""
    trial = _trial(subject)
    training = trial.training()
    for seat in training.protocol.facts.seats:
        guard = guard_of((), training.seat(seat, branch="replica"))
        for state in (None, trial.left.states[seat.id]):
            try:
                with as_in_a_cell():
                    made = training.protocol.replica(seat, training.task, state, guard)
            except NotImplementedError:
                continue
            except Exception as error:
                fix = "return a Replica, or raise NotImplementedError for a seat that computes nothing."
                raise ViolationError(f"the replica of {seat.id!r} raised {sentence(error)}.", fix) from error
            if not isinstance(made, Replica):
                raise ViolationError(f"the replica of {seat.id!r} is a {type(made).__name__}.", "return a Replica.")


def riders(subject: Subject) -> None:
    """Somebody who takes a seat and only looks on changes nothing."""
    trial = _trial(subject)
    for seat in trial.training().protocol.facts.seats:
        training = trial.training()

        def look_on(facts: SeatFacts, training: Training = training) -> Place:
            honest = training.place(facts)
            return replace(honest, party=_Rider(training.seat(facts, branch="onlooker"), honest.party))

        with as_in_a_cell():
            ridden = training.run(play=(seat.id, look_on))
        if ridden.digest() != trial.left.digest():
            raise ViolationError(
                f"training ended with other weights when somebody looked over the shoulder of {seat.id!r}.",
                "let parties talk through the wire alone, and draw from seat.rng(purpose).",
            )


class _Rider(Party):
    """Looks on and draws numbers of its own."""

    def __init__(self, seat: Seat, honest: Party) -> None:
        self.seat, self.honest = seat, honest

    def reply(self, inbox: Sequence[Message]) -> Sequence[Message]:
        """Forward the honest answer."""
        torch.rand(1, generator=self.seat.rng("looking on"))
        return self.honest.reply(inbox)

    def state(self) -> Mapping[str, torch.Tensor]:
        """Return what the honest party learned."""
        return self.honest.state()
