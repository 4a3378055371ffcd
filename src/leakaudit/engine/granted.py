"""What a threat model grants: the parties' defenses, weights for replicas, masks, shadow models, and one's own canaries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leakaudit.engine.adversary import Sources, owned_cohort
from leakaudit.engine.canaries import Gradients
from leakaudit.engine.training import Training
from leakaudit.threats import ThreatModel
from leakaudit.wire.recording import write_tensors
from leakaudit.wire.seats import Secret

__all__ = ["gradient_canaries", "known_defenses", "shadow_sends", "write_labels", "write_replicas", "write_shadows"]


def known_defenses(training: Training, threat: ThreatModel) -> list[dict[str, Any]]:
    """Return what an adversary knows of each defense: its name always, how it works where that is granted."""
    public = ("name", "seats", "stochastic")
    known = (*public, "target", "params", "params_target") if "defense" in threat.knows else public
    return [{k: d[k] for k in known} for d in training.spec["defenses"]]


def write_replicas(folder: Path, training: Training, threat: ThreatModel, sources: Sources) -> dict[str, Any]:
    """Copy what replicas are made from into a view, and return by seat what there is.

    Args:
        folder: The view.
        training: The training.
        threat: The adversary. Of the seats that it plays it has everything.
        sources: Where states lie.
    """
    facts, knows = training.protocol.facts, threat.knows
    played = facts.played(threat.plays)
    entries: dict[str, Any] = {}
    for seat in facts.seats:
        links = [d for d in training.spec["defenses"] if seat.role in d["seats"]]
        public = sources.train / f"defense-{seat.id}.safetensors"
        entry: dict[str, Any] = {"defenses": [], "defense_state": None, "states": {}, "complete": not links}
        if "defense" in knows or seat.id in played:
            entry["defenses"] = [{k: d[k] for k in ("target", "params_target", "params")} for d in links]
            granted = "defense-state" in knows or seat.id in played
            if public.exists() and granted:
                shutil.copyfile(public, folder / public.name)
                entry["defense_state"] = public.name
            entry["complete"] = granted or not public.exists()
        if "weights" in knows or seat.id in played:
            entry["states"] = _states(folder, sources, seat.id, facts.rounds - 1)
        entries[seat.id] = entry
    return entries


def _states(folder: Path, sources: Sources, seat: str, last: int) -> dict[str, str]:
    found = {"-1": sources.train / f"state-{seat}.safetensors"}
    found[str(last)] = found["-1"]
    if sources.record is not None:
        for path in sorted(sources.record.glob(f"state-{seat}@*.safetensors")):
            found[path.stem.rpartition("@")[2]] = path
    for path in found.values():
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    return {round_: path.name for round_, path in found.items()}


def write_labels(folder: Path, training: Training, behind: Mapping[str, Sequence[int]], salt: Secret) -> None:
    """Write the masks of the samples behind each token into a view.

    They stay with their token in the shuffled set, too: there the adversary knows the masks of one patient and sees the messages
    of another.

    Args:
        folder: The view.
        training: The training.
        behind: Rows among the members behind each token.
        salt: Salt of the view's tokens; samples of an update stand in an order that says nothing of when they were drawn.
    """
    orders = {token: sorted(rows, key=lambda row: salt.token(f"mask-{token}-{row}")) for token, rows in behind.items()}
    labels = training.members.labels
    write_tensors(folder / "labels.safetensors", {t: torch.from_numpy(np.array(labels[rows])) for t, rows in orders.items()})


def gradient_canaries(
    gradients: Gradients, salt: Secret, sets: tuple[str, str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Return what an attack sees of its gradient canaries in each message set, and the canary behind each token.

    Args:
        gradients: The canaries.
        salt: Salt of the view's tokens.
        sets: Names of the real and of the shuffled message set; in the latter a token stands for another canary than its own.
    """
    # In the order of their tokens, which says nothing about coins.
    tokens = {salt.token(f"candidate-{name}"): name for name in gradients}
    names = [tokens[token] for token in sorted(tokens)]
    seen = {}
    for title, shown in zip(sets, (names, names[1:] + names[:1]), strict=True):
        pairs = zip(sorted(tokens), (gradients[name] for name in shown), strict=True)
        seen[title] = [{"token": token, "seat": seat, "canary": asdict(canary)} for token, (seat, canary) in pairs]
    return seen, tokens


def write_shadows(
    folder: Path, training: Training, threat: ThreatModel, sources: Sources, secret: Secret, candidates: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Copy the shadow models into a view and return for each its file and the tokens of the patients it learned from.

    Args:
        folder: The view.
        training: The training.
        threat: The adversary.
        sources: Where shadow models lie.
        secret: The attack's branch of randomness.
        candidates: Candidate behind each token.
    """
    source = sources.shadows
    if source is None:
        return []
    tokens = {p: t for t, p in candidates.items()}
    files = sorted(source.glob("shadow-*.safetensors"))
    told = json.loads((source / "shadows.json").read_text())
    # Shadow models are shared by attacks, and so was another name of each patient that the adversary owns.
    secrets = (training.secret.branch("shadows", "owned"), secret)
    theirs, mine = (owned_cohort(training, threat.auxiliary, branch) for branch in secrets)
    owned = {} if theirs is None or mine is None else dict(zip(theirs.patients, mine.patients, strict=True))
    for path in files:
        shutil.copyfile(path, folder / path.name)
    return [
        {"file": path.name, "members": sorted(tokens[p] for p in inside if p in tokens), "own": sorted(owned[p] for p in own)}
        for path, inside, own in zip(files, told["members"], told["own"], strict=True)
    ]


def shadow_sends(sources: Sources) -> list[dict[str, Any]]:
    """Return the defenses through which passed what shadow models sent: known to the adversary, or they would not be there."""
    if sources.shadows is None:
        return []
    told = json.loads((sources.shadows / "shadows.json").read_text())["sends"]
    return [{k: d[k] for k in ("seats", "target", "params_target", "params")} for d in told]
