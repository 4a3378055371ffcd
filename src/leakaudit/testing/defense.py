"""Checks of defenses: what they ask for, and tiny trainings under every protocol they apply to."""

from __future__ import annotations

import random
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from leakaudit.engine.places import guard_of
from leakaudit.engine.reasons import sentence
from leakaudit.engine.training import Trained, Training
from leakaudit.errors import UserError
from leakaudit.facts import ProtocolFacts, SeatFacts
from leakaudit.plugins.descriptors import DefenseInfo
from leakaudit.plugins.params import DefenseParams
from leakaudit.testing.defense_trial import OtherNoise, OtherWire, trial_of
from leakaudit.testing.results import UntriedError, ViolationError
from leakaudit.testing.stage import as_in_a_cell
from leakaudit.testing.subject import TINY, Subject, all_facts
from leakaudit.threats import CHANNELS, Needs, NotApplicable, Unit
from leakaudit.wire import Alarm, Replica

__all__ = [
    "claim", "deterministic", "empty_batches", "guarantee", "needs", "own_randomness", "replica", "stochastic", "trains",
]  # fmt: skip


def needs(subject: Subject) -> None:
    """`needs(facts)` is pure, and names seats, channels and a unit that fit."""
    info, params = cast("DefenseInfo", subject.plugin.info), cast("DefenseParams", subject.params)
    for name, facts in all_facts().items():
        try:
            asked, again = params.needs(facts), params.needs(facts)
        except Exception as error:
            fix = "return Needs, or NotApplicable(reason=...) where the defense has no meaning."
            raise ViolationError(f"needs() raised under {name}: {sentence(error)}.", fix) from error
        if asked != again:
            raise ViolationError(f"needs() gave two answers to the same facts of {name}.", "make it depend on facts alone.")
        if isinstance(asked, NotApplicable):
            if not asked.reason.strip():
                raise ViolationError(f"NotApplicable under {name} gives no reason.", "say in one sentence what is missing.")
        elif isinstance(asked, Needs):
            problem = _inconsistent(asked, facts, info)
            if problem:
                raise ViolationError(f"under {name}, {problem}.", "mend needs(), or return NotApplicable(reason=...) there.")
        else:
            raise ViolationError(f"needs() returned a {type(asked).__name__} under {name}.", "return Needs or NotApplicable.")


def _inconsistent(asked: Needs, facts: ProtocolFacts, info: DefenseInfo) -> str | None:
    """Return what in a `Needs` contradicts itself, the descriptor or the facts."""
    nobody = [role for role in asked.seats if role not in facts.roles]
    if not asked.seats:
        return "no seat carries the defense"
    if nobody:
        return f"no party has the role {nobody[0]!r}; there are {', '.join(facts.roles)}"
    if not set(asked.channels) <= set(info.channels):
        return f"it acts on channels ({', '.join(asked.channels)}) that the descriptor does not list"
    if info.claim == "none" and asked.unit is not None:
        return f"it protects a {asked.unit}, but the descriptor claims nothing"
    return None


def trains(subject: Subject) -> None:
    """A tiny training completes with the defense, and its model answers with numbers."""
    trial = trial_of(subject)
    for baseline in trial.baselines:
        training = trial.training(baseline)
        try:
            with as_in_a_cell():
                trained = training.run()
                logits = training.predict(training.predictor(trained.states, trained.public), training.cohort.images[:2])
        except Exception as error:
            fix = (
                "keep every method the identity where it has nothing to do; refuse a network with a UserError that names the layer."
            )
            raise ViolationError(f"training under {baseline.protocol} raised {sentence(error)}.", fix) from error
        if trained.alarm is not None:
            raise ViolationError(
                f"it raised an alarm in an honest training under {baseline.protocol}: {trained.alarm['reason']}.",
                "raise Alarm only when an attack is there.",
            )
        if not torch.isfinite(logits).all():
            raise ViolationError(
                f"the model trained under {baseline.protocol} answers with values that are not finite.",
                "keep what it sends finite, also for a constant message.",
            )
        trial.trained[baseline.protocol] = trained


def deterministic(subject: Subject) -> None:
    """The same seed gives the same training, bit by bit."""
    trial = trial_of(subject)
    for baseline in trial.baselines:
        with as_in_a_cell():
            again = trial.training(baseline).run()
        if again.digest() != trial.trained[baseline.protocol].digest():
            raise ViolationError(
                f"two trainings under {baseline.protocol} with one seed ended with different weights.",
                "draw only from self.seat.rng(purpose), and from nothing that the clock or the system seeds.",
            )


def own_randomness(subject: Subject) -> None:
    """The defense draws from its seat alone: other states of the global generators change nothing."""
    trial = trial_of(subject)
    for baseline in trial.baselines:
        training = trial.training(baseline)
        training.secret = OtherWire(training.secret.key)
        with as_in_a_cell(seed=1):
            random.random()
            np.random.random()
            other = training.run()
        if other.digest() != trial.trained[baseline.protocol].digest():
            raise ViolationError(
                f"the training under {baseline.protocol} follows a global random generator.",
                "pass generator=self.seat.rng(purpose) wherever numbers are drawn; an attacker can guess a global seed.",
            )


def stochastic(subject: Subject) -> None:
    """A defense draws fresh randomness exactly if its descriptor says that it is stochastic."""
    trial, says = trial_of(subject), cast("DefenseInfo", subject.plugin.info).stochastic
    changed = []
    for baseline in trial.baselines:
        with as_in_a_cell():
            other = trial.variant(baseline, OtherNoise).run()
        if other.digest() != trial.trained[baseline.protocol].digest():
            changed.append(baseline.protocol)
    if says and not changed:
        raise ViolationError(
            "the descriptor says stochastic, but another seed of its seat changes nothing.",
            "draw from self.seat.rng(purpose), say stochastic=False, or give an example whose parameters switch the noise on.",
        )
    if changed and not says:
        raise ViolationError(
            f"the training under {changed[0]} depends on the seed of its seat, but the descriptor does not say so.",
            "say stochastic=True: an adversary may then average repeated observations.",
        )


def replica(subject: Subject) -> None:
    """A replica with the defense takes the trained weights, sends finite tensors, and passes gradients to its input."""
    trial = trial_of(subject)
    for baseline in trial.baselines:
        training, trained = trial.training(baseline), trial.trained[baseline.protocol]
        for facts in training.protocol.facts.seats:
            if facts.id in baseline.seats and facts.modalities:
                _try_replica(training, trained, facts)


def _try_replica(training: Training, trained: Trained, facts: SeatFacts) -> None:
    guard = guard_of(training.spec["defenses"], training.seat(facts, branch="replica"))
    try:
        with as_in_a_cell():
            guard.load_public_state(trained.public[facts.id])
            made: Replica = training.protocol.replica(facts, training.task, trained.states[facts.id], guard)
            x, sent = _send(made, training, facts)
    except NotImplementedError:
        return
    except Exception as error:
        fix = "adapt() must give the same module again, and outgoing() must work on rows of any number without training first."
        raise ViolationError(f"a replica of {facts.id!r} raised {sentence(error)}.", fix) from error
    total = sum((t.float().sum() for t in sent.values() if t.is_floating_point()), torch.zeros(()))
    if not total.requires_grad or torch.autograd.grad(total, x, allow_unused=True)[0] is None:
        raise ViolationError(
            f"what a replica of {facts.id!r} sends has no gradient with respect to its input, so no attack can adapt to it.",
            "work on the tensors differentiably: no detach(), no numpy, no in-place overwriting in outgoing().",
        )
    if not all(torch.isfinite(t).all() for t in sent.values()):
        raise ViolationError(f"a replica of {facts.id!r} sends values that are not finite.", "guard divisions and logarithms.")


def _send(made: Replica, training: Training, facts: SeatFacts) -> tuple[Tensor, dict[str, Tensor]]:
    shape = (2, len(facts.modalities), *training.cohort.shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    more = {"y": torch.zeros(2, 3, *training.cohort.shape)} if facts.role == "site" else {}
    return x, dict(made.send(x=x, **more))


def guarantee(subject: Subject) -> None:
    """Every guarantee is scoped to seats and channels that exist, and its numbers make sense."""
    trial = trial_of(subject)
    claims = [
        (b, seat, c) for b in trial.baselines for seat, found in trial.trained[b.protocol].guarantees.items() for c in found
    ]  # fmt: skip
    if not claims:
        raise UntriedError("it made no guarantee")
    for baseline, seat, found in claims:
        seats = {s.id for s in baseline.facts.seats} | {"model"}
        where = f"the guarantee of {seat!r} under {baseline.protocol}"
        wrong = [f"{c}/{s}" for c, s in found.releases if c not in CHANNELS or s not in seats]
        if wrong or not found.releases:
            raise ViolationError(
                f"{where} covers {wrong[0] if wrong else 'nothing'}.",
                'give releases as pairs of a channel and the id of a seat ("model" for what the deployed model answers).',
            )
        if not (0 <= found.epsilon < float("inf") and 0 <= found.delta < 1) or found.unit not in get_args(Unit):
            raise ViolationError(
                f"{where} has epsilon {found.epsilon}, delta {found.delta}, unit {found.unit!r}.",
                "return None where no finite epsilon can be claimed.",
            )
        if baseline.unit is not None and found.unit != baseline.unit:
            raise ViolationError(f"{where} is about a {found.unit}, but needs() says {baseline.unit}.", "make them the same.")


def claim(subject: Subject) -> None:
    """`claim` is "none" exactly if guarantee() is None everywhere."""
    trial, says = trial_of(subject), cast("DefenseInfo", subject.plugin.info).claim
    made = [b.protocol for b in trial.baselines if trial.trained[b.protocol].guarantees]
    if says == "none" and made:
        raise ViolationError(
            f"it gives a guarantee under {made[0]}, but its descriptor claims nothing.", "say what it claims in claim=..."
        )
    if says != "none" and not made:
        raise ViolationError(
            f"its descriptor claims {says!r}, but guarantee() is None in every training.",
            'return the Guarantee from the ledger, or say claim="none".',
        )


def empty_batches(subject: Subject) -> None:
    """Trainings survive the empty batches of Poisson sampling."""
    trial = trial_of(subject)
    small = TINY | {"training": {"batch_size": 1}}
    for baseline in trial.baselines:
        spec: dict[str, Any] = dict(trial.training(baseline).spec)
        params = spec["protocol"]["params"] | small | {"network": spec["protocol"]["params"]["network"]}
        spec["protocol"] = spec["protocol"] | {"params": params}
        spec["sampling"] = {"kind": "poisson", "unit": baseline.unit if baseline.unit in ("record", "patient") else "record"}
        plain = trial.training(baseline)
        training = Training(spec, plain.cohort, plain.split, salt=plain.salt)
        try:
            with as_in_a_cell():
                training.run()
        except (Alarm, UserError) as error:
            raise ViolationError(f"with small Poisson batches, {error}", "allow them: DP-SGD in a chain draws so.") from error
        except Exception as error:
            fix = "take a step, or none, when a batch has no rows: its forward and backward pass do not happen."
            raise ViolationError(f"an empty batch under {baseline.protocol} raised {sentence(error)}.", fix) from error
