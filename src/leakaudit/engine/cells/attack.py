"""Cells `prepare` and `attack`: foreign code, in a process of its own, on a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from leakaudit.attacks.contents import load_cohort, save_cohort
from leakaudit.attacks.evidence import Evidence, EvidenceError, Images, Masks, Values, load_evidence
from leakaudit.cohorts.cohort import Cohort, Origin
from leakaudit.engine.adversary import Sources, adversary_secret, owned_cohort
from leakaudit.engine.canaries import Gradients, admit, admit_gradients, coins_of, deal, load_gradients, save_gradients, toss
from leakaudit.engine.cells.cohort import load_patients
from leakaudit.engine.cells.train import open_training
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.planting import repeated
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Training
from leakaudit.engine.views import REAL, SHUFFLED, ViewWriter
from leakaudit.facts import ProtocolFacts, SeatFacts
from leakaudit.models.canary import GradientCanary
from leakaudit.models.task import TaskSpec, load_task
from leakaudit.threats import ThreatModel
from leakaudit.wire.recording import read_tensors
from leakaudit.wire.seats import Secret

__all__ = ["candidates_of", "prepare", "run", "without_held"]


def _request(spec: Mapping[str, Any], secret: Secret, seat: SeatFacts, seed: int = 0) -> dict[str, Any]:
    """Return what an attack is told; `seed` changes what it draws, and nothing of its view."""
    attack = spec["attacker"]
    draws = secret.branch("attack", f"seed-{seed}") if seed else secret.branch("attack")
    return {
        "target": attack["target"], "params_target": attack["params_target"], "params": attack["params"],
        "seat": as_json(seat), "secret": draws.key.hex(), "device": spec["device"],
        "precision": spec["precision"], "alters": attack["threat"]["alters"],
    }  # fmt: skip


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
    candidates, coins = candidates_of(spec, context, training) if "candidates" in threat.knows else (None, {})
    if candidates is not None and not spec.get("prepare"):
        candidates, coins = without_held(candidates, coins, training.protocol.facts, threat)
    secret = adversary_secret(spec, training.salt)
    outputs, own = None, None
    if candidates is not None and "output" in threat.channels:
        outputs = _outputs(training, train, candidates)
        if spec.get("shadows_key") and (owned := owned_cohort(training, threat.auxiliary, secret)) is not None:
            own = _outputs(training, train, owned)
    sources = Sources(
        train=train, record=_entry(context, spec["record_key"]) if spec["record_key"] else None, candidates=candidates,
        outputs=outputs, own_outputs=own, stopped=_stopped(train), gradients=_gradients(spec, context) if coins else {},
        shadows=_entry(context, spec["shadows_key"]) if spec.get("shadows_key") else None,
    )  # fmt: skip
    folder = context.scratch / "adversary"
    truth = ViewWriter(training, threat, sources, secret).write(folder / "view")
    truth = replace(
        truth, rows={token: training.original[row] for token, row in truth.rows.items()},
        behind={t: tuple(dict.fromkeys(training.original[row] for row in rows)) for t, rows in truth.behind.items()},
    )  # fmt: skip
    # One patient alone cannot be exchanged with another: there is no shuffled set, and no negative control.
    sets = [REAL, SHUFFLED] if len(training.split.attacked) > 1 or coins else [REAL]
    request = _request(spec, secret, _adversary(training, threat), spec.get("attack_seed", 0)) | {"messages": sets}
    (folder / "request.json").write_text(json.dumps(request))
    result = context.child.call("leakaudit.engine.attackrun:perform", folder)
    for name in sets:  # unusable evidence is an error of this cell, not of the score
        check_pieces(load_evidence(folder / "out" / name), threat, training.protocol.facts)
    targets = json.loads((folder / "view" / "view.json").read_text())["targets"]
    with context.store.write(context.job.key, {"kind": "attack", "sensitive": True}) as entry:
        shutil.copytree(folder / "out", entry / "out")
        known = {"targets": targets, "truth": asdict(truth), "coins": coins, "sandbox": context.child.sandbox, **result}
        if sources.shadows is not None:
            facts = json.loads((sources.shadows / "shadows.json").read_text())
            known["shadows"] = {"used": result["shadows"], "defended": facts["defended"], "notes": facts["notes"]}
        (entry / "attack.json").write_text(json.dumps(known))
    return {"sandbox": context.child.sandbox}


def _gradients(spec: Mapping[str, Any], context: Context) -> Gradients:
    return load_gradients(_entry(context, spec["prepare"])) if spec.get("prepare") else {}


def _stopped(train: Path) -> int | None:
    """Return after how many batches an alarm stopped a training; None where none did."""
    alarm = json.loads((train / "train.json").read_text())["alarm"]
    return None if alarm is None else int(alarm["batches"])


def check_pieces(pieces: Sequence[Evidence], threat: ThreatModel, facts: ProtocolFacts) -> None:
    """Check what evidence says of itself: coverage, endpoints and reports are built on it.

    Raises:
        EvidenceError: It names a channel that the threat model does not use, a seat that does not exist, or a target twice, or
            tells what the threat model grants.
    """
    for piece in pieces:
        where = f"evidence {str(piece.name)[:80]!r}"
        if not isinstance(piece.name, str) or not 0 < len(piece.name) <= 80:
            raise EvidenceError(f"{where}: its name must be a text of 1 to 80 characters")
        if piece.channel not in threat.channels:
            used = ", ".join(threat.channels) or "none"
            raise EvidenceError(f"{where} is said to come from channel {piece.channel!r}; its threat model uses {used}")
        if piece.seat is not None and piece.seat not in {s.id for s in facts.seats}:
            raise EvidenceError(f"{where} is about seat {piece.seat!r}; there are {', '.join(s.id for s in facts.seats)}")
        if threat.told_masks and isinstance(piece, Masks | Values):
            raise EvidenceError(f"{where} tells masks or volumes, and the threat model grants the masks: that is no evidence")
        ordered = piece.ordered if isinstance(piece, Images | Masks) else True
        if ordered and len(set(piece.about)) < len(piece.about):
            raise EvidenceError(f"{where} is about {len(piece.about) - len(set(piece.about))} targets twice")


def candidates_of(spec: Mapping[str, Any], context: Context, training: Training) -> tuple[Cohort | None, dict[str, bool]]:
    """Return the candidates of membership inference and who was a member: canaries by coin, or members and others.

    Gradient canaries have no images: then there is no cohort.
    """
    if spec.get("prepare"):
        folder = _entry(context, spec["prepare"])
        if coins := coins_of(folder):
            return load_cohort(folder / "canaries") if (folder / "canaries").exists() else None, coins
    split = training.split
    # In a planted training only the patients that were repeated are compared with those that were never seen.
    inside = repeated(split, spec["planted"]["patients"]) if spec.get("planted") else split.members
    coins = dict.fromkeys(inside, True) | dict.fromkeys(split.non_members, False)
    return training.cohort.of_patients([*inside, *split.non_members]), coins


def without_held(
    candidates: Cohort, coins: Mapping[str, bool], facts: ProtocolFacts, threat: ThreatModel
) -> tuple[Cohort, dict[str, bool]]:
    """Return the candidates without those of a site whose patients the adversary holds: it knows who of them was trained on.

    Raises:
        EvidenceError: Nobody is left on one of the sides.
    """
    held = {seat.site for s in facts.played(threat.plays) if (seat := facts.seat(s)).site is not None}
    kept = candidates.where(lambda s: s.site not in held) if held else candidates
    left = {p: coins[p] for p in kept.patients}
    if len(set(left.values())) < len(set(coins.values())):
        raise EvidenceError(
            f"the adversary holds the patients of {', '.join(sorted(map(str, held)))}, and other sites have no members or no "
            "others among the candidates: there is no membership to decide; split more patients off as non-members"
        )
    return kept, left


def _outputs(training: Training, train: Path, candidates: Cohort) -> np.ndarray[Any, np.dtype[np.float32]]:
    seats = training.protocol.facts.seats
    states = {s.id: read_tensors(train / f"state-{s.id}.safetensors") for s in seats}
    public = {s.id: read_tensors(path) for s in seats if (path := train / f"defense-{s.id}.safetensors").exists()}
    model = training.predictor(states, public)
    return training.predict(model, candidates.images).numpy()


def prepare(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Let the attack alter cohort or task in its own process; the engine tosses the coins."""
    patients = load_patients(context.store, spec["cohort"])
    training = Training(spec, patients.cohort, patients.split, salt=patients.salt)
    secret = adversary_secret(spec, patients.salt)
    folder = context.scratch / "adversary"
    folder.mkdir()
    threat = ThreatModel.from_json(spec["attacker"]["threat"])
    nobody = training.cohort.take([])
    save_cohort(
        folder / "auxiliary", owned_cohort(training, threat.auxiliary, secret) or replace(nobody, origin=Origin(dataset=""))
    )
    request = _request(spec, secret, _adversary(training, threat)) | {"task": asdict(training.task_spec)}
    (folder / "request.json").write_text(json.dumps(request))
    result = context.child.call("leakaudit.engine.attackrun:prepare", folder)
    asked = spec["attacker"]["canaries"]
    crafted = load_cohort(folder / "out-canaries") if result["canaries"] else None
    canaries = admit(crafted, asked, training.members)
    task = load_task(TaskSpec(**result["task"]))
    gradients = admit_gradients([GradientCanary(**c) for c in result["gradients"]], asked, task.build())
    dealt = deal(gradients, training.canary_seats())
    with context.store.write(context.job.key, {"kind": "prepare", "sensitive": True}) as entry:
        (entry / "task.json").write_text(json.dumps(result["task"]))
        if canaries is not None:
            save_cohort(entry / "canaries", canaries)
        if gradients:
            save_gradients(entry, gradients, dealt)
        names = [*gradients] if canaries is None else canaries.patients
        if names:
            coins = toss(names, asked["probability"], training.secret.branch("coins"))
            (entry / "coins.json").write_text(json.dumps(coins))
    return {}
