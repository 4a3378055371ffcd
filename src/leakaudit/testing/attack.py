"""Checks of attacks: what they ask for, and a tiny audit under every protocol they apply to."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from leakaudit.attacks import Attack, Evidence, EvidenceError, Images, Masks, Scores, Values, View
from leakaudit.attacks.evidence import load_evidence
from leakaudit.engine.attackrun import checked
from leakaudit.engine.cells.train import NotDeterministicError
from leakaudit.engine.plan import Pairing, Plan
from leakaudit.engine.reasons import sentence
from leakaudit.engine.training import build
from leakaudit.engine.views import REAL
from leakaudit.facts import ProtocolFacts, SeatFacts
from leakaudit.plugins.descriptors import AttackInfo
from leakaudit.plugins.params import AttackParams
from leakaudit.testing.results import UntriedError, ViolationError
from leakaudit.testing.stage import Stage, as_in_a_cell
from leakaudit.testing.subject import Subject, all_facts
from leakaudit.threats import NotApplicable, Requires
from leakaudit.wire import Seat, Secret

__all__ = ["deterministic", "evidence", "own_randomness", "passive", "requires", "runs", "scorable", "trains"]

_KINDS = {"images": Images, "masks": Masks, "scores": Scores, "values": Values}


def requires(subject: Subject) -> None:
    """`requires(facts)` is pure, and what it asks for can be had from the seats it plays."""
    info, params = cast("AttackInfo", subject.plugin.info), cast("AttackParams", subject.params)
    for name, facts in all_facts().items():
        try:
            asked, again = params.requires(facts), params.requires(facts)
        except Exception as error:
            fix = "return Requires, or NotApplicable(reason=...) where the attack has no meaning."
            raise ViolationError(f"requires() raised under {name}: {sentence(error)}.", fix) from error
        if asked != again:
            raise ViolationError(f"requires() gave two answers to the same facts of {name}.", "make it depend on facts alone.")
        if isinstance(asked, NotApplicable):
            if not asked.reason.strip():
                raise ViolationError(f"NotApplicable under {name} gives no reason.", "say in one sentence what is missing.")
        elif isinstance(asked, Requires):
            problem = _inconsistent(asked, facts, info)
            if problem:
                raise ViolationError(f"under {name}, {problem}.", "mend requires(), or return NotApplicable(reason=...) there.")
        else:
            raise ViolationError(f"requires() returned a {type(asked).__name__} under {name}.", "return Requires or NotApplicable.")


def _inconsistent(asked: Requires, facts: ProtocolFacts, info: AttackInfo) -> str | None:
    """Return what in a `Requires` contradicts itself or the facts."""
    threat = asked.threat
    seen = facts.sees(threat.plays)
    unseen = [c for c in threat.channels if c not in seen]
    if not threat.plays:
        return "the threat model plays no role"
    if unseen:
        return f"{' and '.join(threat.plays)} neither sends nor receives on the channel {unseen[0]!r}"
    beside = [tap.channel for tap in asked.taps if tap.channel not in threat.channels]
    if beside:
        return f"it taps {beside[0]!r}, which is not among the channels of its threat model"
    if not set(threat.channels) <= set(info.channels):
        return f"its threat model uses channels ({', '.join(threat.channels)}) that the descriptor does not list"
    if asked.plays_in_training and not facts.played(threat.plays):
        return f"it plays in training, but no seat has the role {' or '.join(threat.plays)}"
    if "replies" in threat.alters and not asked.plays_in_training:
        return "it alters replies without plays_in_training"
    if asked.canaries is not None and "cohort" not in threat.alters:
        return 'it crafts canaries, but its threat model does not alter "cohort"'
    return None


class _Trial:
    """The attack in a tiny audit under every protocol it applies to."""

    def __init__(self, subject: Subject) -> None:
        self.stage = Stage(subject.folder)
        self.plan: Plan = self.stage.plan(attacks=[subject.entry])
        self.pairings = [p for p in self.plan.pairings if p.requires is not None]
        if not self.pairings:
            reasons = "; ".join(dict.fromkeys(p.reason for p in self.plan.pairings if p.reason))
            raise UntriedError(f"it applies to none of the built-in protocols ({reasons}); try it with a recipe of your own")

    def given(self, pairing: Pairing) -> Path:
        """Return the folder that the attack's process was given."""
        return self.stage.views[pairing.attacks[0]]

    def found(self, pairing: Pairing) -> list[Evidence]:
        """Return the evidence from the real messages."""
        entry = self.stage.store.get(pairing.attacks[0])
        assert entry is not None
        return load_evidence(entry.folder / "out" / REAL)


def _trial(subject: Subject) -> _Trial:
    if "trial" not in subject.memo:
        subject.memo["trial"] = _Trial(subject)
    return cast("_Trial", subject.memo["trial"])


def trains(subject: Subject) -> None:
    """A tiny training runs to its end with the attack in place."""
    trial = _trial(subject)
    try:
        trial.stage.run(trial.plan, "cohort", "prepare", "train", "record")
    except NotDeterministicError:
        subject.memo["altered"] = True
    except Exception as error:
        fix = "run prepare() and play() on the protocol it failed under; a party answers every message it is sent."
        raise ViolationError(f"training with the attack in place raised {sentence(error)}.", fix) from error


def passive(subject: Subject) -> None:
    """An attack that alters nothing leaves the digest of the training unchanged."""
    if all(p.requires is not None and p.requires.threat.alters for p in _trial(subject).pairings):
        raise UntriedError("its threat model says that it alters the training")
    if subject.memo.get("altered"):
        raise ViolationError(
            "training ended with other weights when the attack rode along, though its threat model alters nothing.",
            'forward honest.reply unchanged and draw only from seat.rng, or say alters=("replies",).',
        )


def runs(subject: Subject) -> None:
    """fit() and run() finish on a real view."""
    trial = _trial(subject)
    try:
        trial.stage.run(trial.plan, "shadows", "attack")
    except EvidenceError as error:
        raise ViolationError(f"{error}.", "return Images, Masks, Scores or Values as their docstrings say.") from error
    except Exception as error:
        fix = "make run() work on what its threat model grants; the view is all it has."
        raise ViolationError(f"the attack raised {sentence(error)}.", fix) from error


def evidence(subject: Subject) -> None:
    """Evidence is of the kinds that the descriptor announced."""
    info, trial = cast("AttackInfo", subject.plugin.info), _trial(subject)
    allowed = tuple(_KINDS[kind] for kind in info.evidence)
    for pairing in trial.pairings:
        for piece in trial.found(pairing):
            if not isinstance(piece, allowed):
                raise ViolationError(
                    f"it returned {type(piece).__name__}, but the descriptor says {', '.join(info.evidence)}.",
                    "list every kind in the descriptor's evidence=(...).",
                )


def scorable(subject: Subject) -> None:
    """The scorer accepts the evidence: every target has a row of the right shape."""
    trial = _trial(subject)
    try:
        trial.stage.run(trial.plan, "score")
    except Exception as error:
        fix = "return one row for every target of the view that the evidence's kind can be about; a patient is never dropped."
        raise ViolationError(f"the evidence could not be scored: {sentence(error)}.", fix) from error


def deterministic(subject: Subject) -> None:
    """The same view gives the same evidence."""
    trial = _trial(subject)
    for pairing in trial.pairings:
        first, second = _replay(trial.given(pairing), 1), _replay(trial.given(pairing), 1)
        subject.memo[pairing.protocol] = first
        if not _equal(first, second):
            raise ViolationError(
                f"two runs on one view of {pairing.protocol} gave different evidence.",
                "draw only from self.seat.rng(purpose), and from nothing that the clock or the system seeds.",
            )


def own_randomness(subject: Subject) -> None:
    """The attack draws from its seat alone: seeding the global generators otherwise changes nothing."""
    trial = _trial(subject)
    for pairing in trial.pairings:
        if not _equal(subject.memo[pairing.protocol], _replay(trial.given(pairing), 2)):
            raise ViolationError(
                f"the evidence under {pairing.protocol} follows a global random generator.",
                "pass generator=self.seat.rng(purpose) wherever numbers are drawn; initialize networks inside "
                "torch.random.fork_rng() with a seed drawn from it.",
            )


def _replay(given: Path, seed: int) -> list[Evidence]:
    """Run the attack again on a copy of its folder, with the global generators seeded by `seed`."""
    with tempfile.TemporaryDirectory() as place, as_in_a_cell(seed):
        folder = Path(place) / "adversary"
        shutil.copytree(given, folder)
        request = json.loads((folder / "request.json").read_text())
        seat = Seat(
            SeatFacts.from_json(request["seat"]), Secret(bytes.fromhex(request["secret"])), device=torch.device("cpu"),
            precision=request["precision"],
        )  # fmt: skip
        attack: Attack[AttackParams] = build(request, seat)
        attack.fit(View(folder / "view", None))
        return [piece for name in request["messages"] for piece in checked(attack.run(View(folder / "view", name)))]


def _equal(first: Sequence[Evidence], second: Sequence[Evidence]) -> bool:
    return len(first) == len(second) and all(
        a.name == b.name and a.about == b.about and np.array_equal(a.array, b.array) for a, b in zip(first, second, strict=True)
    )
