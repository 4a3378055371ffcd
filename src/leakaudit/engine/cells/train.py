"""Cells `train` and `record`: train once, measure utility, and write down what taps ask for.

A record cell replays a training to write messages down. Its digest must equal the training's: that is the proof that a rider
was passive, and that the training is deterministic.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leakaudit.attacks.contents import load_cohort
from leakaudit.cohorts.cohort import REGIONS, Cohort, regions
from leakaudit.engine.adversary import adversary_secret, owned_cohort
from leakaudit.engine.canaries import coins_of, load_gradients
from leakaudit.engine.cells.cohort import load_patients
from leakaudit.engine.happenings import in_rounds
from leakaudit.engine.information import information
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.places import Place, adversary_seat, played_place
from leakaudit.engine.remote import remote_place
from leakaudit.engine.training import Play, Trained, Training, snapshot_rounds
from leakaudit.facts import SeatFacts
from leakaudit.scoring.segmentation import patient_dice, patient_hd95
from leakaudit.threats import Tap, ThreatModel
from leakaudit.wire.recording import write_tensors

__all__ = ["NotDeterministicError", "open_training", "record", "run"]


class NotDeterministicError(RuntimeError):
    """A replay did not end with the same weights."""


def open_training(spec: Mapping[str, Any], context: Context) -> Training:
    """Set up the training of a spec, with the canaries and the altered task of its prepare cell, if any."""
    patients = load_patients(context.store, spec["cohort"])
    canaries, gradients, altered = None, dict[str, Any](), dict(spec)
    if spec.get("prepare"):
        entry = context.store.get(spec["prepare"])
        if entry is None:
            raise LookupError("the prepare cell is not in the run store")
        altered["task"] = json.loads((entry.folder / "task.json").read_text())
        coins = coins_of(entry.folder)
        if (entry.folder / "canaries").exists():
            canaries = load_cohort(entry.folder / "canaries").where(lambda s: coins[s.patient])
        gradients = {name: found for name, found in load_gradients(entry.folder).items() if coins[name]}
    return Training(altered, patients.cohort, patients.split, canaries, gradients=gradients, salt=patients.salt)


def player(training: Training, attacker: Mapping[str, Any] | None, context: Context) -> tuple[str, Play] | None:
    """Return the seat an attack takes in training, and how; None where it takes none."""
    if not attacker or not attacker["plays_in_training"]:
        return None
    seats = training.protocol.facts.played(tuple(attacker["threat"]["plays"]))
    if not seats:
        raise ValueError(f"the attack plays {attacker['threat']['plays']}, but no party has that role")
    secret = adversary_secret(training.spec, training.salt)
    owned = owned_cohort(training, ThreatModel.from_json(attacker["threat"]).auxiliary, secret)
    lent = secret.branch("replicas in training")

    def play(facts: SeatFacts) -> Place:
        if training.spec.get("isolation") == "strict":
            folder = context.scratch / "adversary"
            folder.mkdir()
            return remote_place(training, facts, attacker, owned, lent, context.child, folder)
        seat = adversary_seat(
            training.protocol, training.task, facts, attacker, training.spec["defenses"],
            secret=training.secret.branch("adversary", facts.id), lent=lent, device=training.device,
            precision=training.spec["precision"], auxiliary=owned,
        )  # fmt: skip
        return played_place(training.place(facts), attacker, seat, training.secret.branch("wire", facts.id))

    return seats[0], play


def alters_replies(attacker: Mapping[str, Any] | None) -> bool:
    """Whether an attack may answer in its seat's place; only then does a training (not a mere recording) have it on board."""
    return attacker is not None and "replies" in attacker["threat"]["alters"]


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Train, measure Dice on the test patients, and store; with `spec["also_record"]`, store those recordings too."""
    training = open_training(spec, context)
    wanted = [r for r in spec["also_record"] if context.store.get(r["key"]) is None]
    recordings = [([Tap.from_json(t) for t in r["taps"]], context.scratch / r["key"]) for r in wanted]
    attacker = spec.get("attacker") if alters_replies(spec.get("attacker")) else None
    trained = training.run(recordings=recordings, play=player(training, attacker, context), progress=context.progress)
    digest = trained.digest()
    for text, rounds in trained.notes.items():
        context.log(f"{in_rounds(rounds)}: {text}")
    for taps, messages in recordings:
        _store_record(context, messages.name, taps, messages, trained, digest)
    model = training.predictor(trained.states, trained.public)
    result = {
        "digest": digest, "utility": _utility(training, model), "traffic": trained.traffic, "alarm": trained.alarm,
        "guarantees": {k: [g.to_json() for g in claims] for k, claims in trained.guarantees.items()},
        "information": information(training, trained),
        "notes": trained.notes,
    }  # fmt: skip
    with context.store.write(context.job.key, {"kind": "train", "sensitive": True}) as folder:
        _write_states(folder, trained)
        if trained.own:
            write_tensors(folder / "own.safetensors", trained.own)
        (folder / "train.json").write_text(json.dumps(result))
    return {"digest": digest}


def record(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Replay a training with taps, and a rider if there is one, and store the recording.

    Raises:
        NotDeterministicError: The replay ended with other weights.
    """
    entry = context.store.get(spec["train_key"])
    if entry is None:
        raise LookupError("the training is not in the run store")
    before = json.loads((entry.folder / "train.json").read_text())["digest"]
    training = open_training(spec, context)
    taps, messages = [Tap.from_json(t) for t in spec["taps"]], context.scratch / "messages"
    play = player(training, spec.get("attacker"), context)
    trained = training.run(recordings=[(taps, messages)], play=play, progress=context.progress)
    if trained.digest() != before:
        rides = play is not None and not alters_replies(spec.get("attacker"))
        who = "the attack is not passive, as its threat model says it is" if rides else "training is not deterministic"
        raise NotDeterministicError(f"the replay ended with other weights than the training: {who}")
    _store_record(context, context.job.key, taps, messages, trained, before)
    return {"digest": before}


def _store_record(context: Context, key: str, taps: Sequence[Tap], messages: Path, trained: Trained, digest: str) -> None:
    # After an alarm there are no snapshots of the rounds that never came.
    rounds = [r for r in snapshot_rounds(taps, trained.rounds) if r in trained.snapshots]
    with context.store.write(key, {"kind": "record", "sensitive": True}) as folder:
        shutil.copytree(messages, folder / "messages")
        for round_ in rounds:
            for seat, state in trained.snapshots[round_].items():
                write_tensors(folder / f"state-{seat}@{round_}.safetensors", state)
        if trained.own:
            write_tensors(folder / "own.safetensors", trained.own)
        (folder / "record.json").write_text(json.dumps({"digest": digest, "rounds": rounds}))


def _write_states(folder: Path, trained: Trained) -> None:
    for seat, state in trained.states.items():
        write_tensors(folder / f"state-{seat}.safetensors", state)
    for seat, state in trained.public.items():
        if state:
            write_tensors(folder / f"defense-{seat}.safetensors", state)


def _utility(training: Training, model: Any) -> dict[str, Any]:
    """Return Dice and HD95 of every test patient and region; null where the true region is empty."""
    test: Cohort = training.cohort.of_patients(training.split.test)
    if not len(test):
        return {"patients": [], "dice": [], "hd95": [], "hd95_unit": "voxels"}
    guess, truth = (training.predict(model, test.images) > 0).numpy(), regions(test.labels) > 0
    patients = [s.patient for s in test.samples]
    scores = patient_dice(guess, truth, patients, list(REGIONS))
    spacings = [test.spacing.get((s.patient, s.visit)) for s in test.samples]
    known = all(mm is not None for mm in spacings)
    _, distances = patient_hd95(guess, truth, patients, spacings if known else None)
    dice, hd95 = ([[None if np.isnan(v) else float(v) for v in row] for row in table] for table in (scores.values, distances))
    return {"patients": list(scores.units), "dice": dice, "hd95": hd95, "hd95_unit": "mm" if known else "voxels"}
