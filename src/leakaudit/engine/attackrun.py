"""What runs in an attack's own process: it knows one folder and nothing else.

The folder holds `request.json` (the attack and its branch of randomness) and `view/`; evidence goes to `out/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from leakaudit.attacks.base import Attack, Setup
from leakaudit.attacks.contents import load_cohort, save_cohort
from leakaudit.attacks.evidence import Evidence, EvidenceError, Images, Masks, Scores, Values, save_evidence
from leakaudit.attacks.view import View
from leakaudit.facts import SeatFacts
from leakaudit.models.task import TaskSpec
from leakaudit.plugins.targets import import_target
from leakaudit.wire.seats import Seat, Secret

__all__ = ["perform", "prepare"]


def _attack(request: Mapping[str, Any]) -> Attack[Any]:
    facts = SeatFacts.from_json(request["seat"])
    secret = Secret(bytes.fromhex(request["secret"]))
    seat = Seat(facts, secret, device=request["device"], precision=request["precision"])
    # Code that draws from the global generator is reproducible too, on a stream of the attack's own.
    torch.manual_seed(secret.branch("global").seed())
    params = import_target(request["params_target"]).model_validate(request["params"])
    attack = import_target(request["target"])(params, seat)
    if not isinstance(attack, Attack):
        raise TypeError(f"{request['target']} is not a leakaudit.attacks.Attack")
    return attack


def perform(folder: Path) -> dict[str, Any]:
    """Run an attack on its view: fit once, then the real messages, then the shuffled ones."""
    request = json.loads((folder / "request.json").read_text())
    attack = _attack(request)
    views = {name: View(folder / "view", name, request["device"]) for name in request["messages"]}
    learning = View(folder / "view", None, request["device"])
    attack.fit(learning)
    for name, view in views.items():
        out = folder / "out" / name
        out.mkdir(parents=True)
        save_evidence(out, checked(attack.run(view)))
    given = [pair for view in (learning, *views.values()) for pair in view.replicas_given]
    replicas = [{"seat": seat, "calls": replica.calls, "defended": replica.defended} for seat, replica in given]
    return {"replicas": replicas, "shadows": max(view.shadows_given for view in (learning, *views.values()))}


def checked(evidence: object) -> Sequence[Evidence]:
    """Return evidence as a list.

    Raises:
        EvidenceError: It is not evidence, or two pieces share a name.
    """
    pieces = list(evidence) if isinstance(evidence, Sequence) else [evidence]
    kinds = (Images, Masks, Scores, Values)
    for piece in pieces:
        if not isinstance(piece, kinds):
            raise EvidenceError(f"run() returned a {type(piece).__name__}; expected Images, Masks, Scores or Values")
    names = [piece.name for piece in pieces if isinstance(piece, kinds)]
    if not names:
        raise EvidenceError("run() returned no evidence")
    if len(set(names)) != len(names):
        raise EvidenceError(f"run() returned two pieces of evidence with one name: {', '.join(names)}")
    return [piece for piece in pieces if isinstance(piece, kinds)]


def prepare(folder: Path) -> dict[str, Any]:
    """Let an attack alter the cohort or the task before training."""
    request = json.loads((folder / "request.json").read_text())
    attack = _attack(request)
    before = Setup(task=TaskSpec(**request["task"]), auxiliary=load_cohort(folder / "auxiliary"))
    after = attack.prepare(before)
    if not isinstance(after, Setup):
        raise TypeError(f"prepare() returned a {type(after).__name__}; expected a leakaudit.attacks.Setup")
    if after.task != before.task and "task" not in request["alters"]:
        raise PermissionError("prepare() changed the task, but the threat model does not alter 'task'")
    if after.canaries is not None and "cohort" not in request["alters"]:
        raise PermissionError("prepare() crafted canaries, but the threat model does not alter 'cohort'")
    if after.gradients and "cohort" not in request["alters"]:
        raise PermissionError("prepare() crafted gradient canaries, but the threat model does not alter 'cohort'")
    if after.canaries is not None:
        save_cohort(folder / "out-canaries", after.canaries)
    gradients = [asdict(canary) for canary in after.gradients]
    return {"task": asdict(after.task), "canaries": after.canaries is not None, "gradients": gradients}
