"""Cells `prepare` and `attack`: foreign code, in a process of its own, on a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from leakaudit.attacks.evidence import load_evidence
from leakaudit.attacks.view import load_cohort, save_cohort
from leakaudit.cohorts.cohort import Cohort
from leakaudit.engine.cells.cohort import load_patients
from leakaudit.engine.cells.train import open_training
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Training
from leakaudit.engine.views import REAL, SHUFFLED, Sources, ViewWriter
from leakaudit.facts import SeatFacts
from leakaudit.threats import ThreatModel
from leakaudit.wire.recording import read_tensors
from leakaudit.wire.seats import Secret

__all__ = ["prepare", "run"]


def _request(spec: Mapping[str, Any], secret: Secret, seat: SeatFacts) -> dict[str, Any]:
    attack = spec["attacker"]
    return {
        "target": attack["target"], "params_target": attack["params_target"], "params": attack["params"],
        "seat": as_json(seat), "secret": secret.branch("attack").key.hex(), "device": spec["device"],
        "precision": spec["precision"], "alters": attack["threat"]["alters"],
    }  # fmt: skip


def _secret(spec: Mapping[str, Any]) -> Secret:
    """Return the branch of an attack: never above or beside those of the training."""
    return Secret.from_seed(spec["seed"], "attack", f"repeat-{spec['repeat']}", spec["attacker"]["target"])


def _adversary(training: Training, threat: ThreatModel) -> SeatFacts:
    seats = training.protocol.facts.played(threat.plays)
    return training.protocol.facts.seat(seats[0]) if seats else SeatFacts(id="outsider", role="outsider")


def _entry(context: Context, key: str) -> Path:
    entry = context.store.get(key)
    if entry is None:
        raise LookupError("an input of this cell is not in the run store")
    return Path(entry.folder)


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Write the view, run the attack in its own process, and store its evidence with the truth about its tokens."""
    training = open_training(spec, context)
    threat = ThreatModel.from_json(spec["attacker"]["threat"])
    train = _entry(context, spec["train_key"])
    candidates, coins = _candidates(spec, context, training, threat)
    outputs = None
    if candidates is not None and "output" in threat.channels:
        outputs = _outputs(training, train, candidates)
    sources = Sources(
        train=train, record=_entry(context, spec["record_key"]) if spec["record_key"] else None, candidates=candidates,
        outputs=outputs,
    )  # fmt: skip
    secret = _secret(spec)
    folder = context.scratch / "adversary"
    truth = ViewWriter(training, threat, sources, secret).write(folder / "view")
    # One patient alone cannot be exchanged with another: there is no shuffled set, and no negative control.
    sets = [REAL, SHUFFLED] if len(training.split.attacked) > 1 or candidates is not None else [REAL]
    request = _request(spec, secret, _adversary(training, threat)) | {"messages": sets}
    (folder / "request.json").write_text(json.dumps(request))
    result = context.child.call("leakaudit.engine.attackrun:perform", folder)
    for name in sets:
        load_evidence(folder / "out" / name)  # unreadable evidence is an error of this cell, not of the score
    targets = json.loads((folder / "view" / "view.json").read_text())["targets"]
    with context.store.write(context.job.key, {"kind": "attack", "sensitive": True}) as entry:
        shutil.copytree(folder / "out", entry / "out")
        known = {"targets": targets, "truth": asdict(truth), "coins": coins, "sandbox": context.child.sandbox, **result}
        (entry / "attack.json").write_text(json.dumps(known))
    return {"sandbox": context.child.sandbox}


def _candidates(
    spec: Mapping[str, Any], context: Context, training: Training, threat: ThreatModel
) -> tuple[Cohort | None, dict[str, bool]]:
    """Return the candidates of membership inference and who was a member: canaries by coin, or members and others."""
    if "candidates" not in threat.knows:
        return None, {}
    if spec.get("prepare"):
        folder = _entry(context, spec["prepare"])
        if (folder / "canaries").exists():
            return load_cohort(folder / "canaries"), json.loads((folder / "coins.json").read_text())
    split = training.split
    coins = dict.fromkeys(split.members, True) | dict.fromkeys(split.non_members, False)
    return training.cohort.of_patients([*split.members, *split.non_members]), coins


def _outputs(training: Training, train: Path, candidates: Cohort) -> np.ndarray[Any, np.dtype[np.float32]]:
    seats = training.protocol.facts.seats
    states = {s.id: read_tensors(train / f"state-{s.id}.safetensors") for s in seats}
    public = {s.id: read_tensors(path) for s in seats if (path := train / f"defense-{s.id}.safetensors").exists()}
    model = training.predictor(states, public)
    return training.predict(model, candidates.images).numpy()


def prepare(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Let the attack alter cohort or task in its own process; the engine tosses the coins."""
    patients = load_patients(context.store, spec["cohort"])
    training = Training(spec, patients.cohort, patients.split)
    secret = _secret(spec)
    folder = context.scratch / "adversary"
    folder.mkdir()
    save_cohort(folder / "auxiliary", patients.cohort.of_patients(patients.split.auxiliary))
    threat = ThreatModel.from_json(spec["attacker"]["threat"])
    request = _request(spec, secret, _adversary(training, threat)) | {"task": asdict(training.task_spec)}
    (folder / "request.json").write_text(json.dumps(request))
    result = context.child.call("leakaudit.engine.attackrun:prepare", folder)
    with context.store.write(context.job.key, {"kind": "prepare", "sensitive": True}) as entry:
        (entry / "task.json").write_text(json.dumps(result["task"]))
        if result["canaries"]:
            crafted = load_cohort(folder / "out-canaries")
            rng = np.random.default_rng(Secret.from_seed(spec["seed"], "coins", f"repeat-{spec['repeat']}").seed())
            chance = spec["attacker"]["canaries"]["probability"]
            coins = {p: bool(rng.random() < chance) for p in crafted.patients}
            save_cohort(entry / "canaries", crafted)
            (entry / "coins.json").write_text(json.dumps(coins))
    return {}
