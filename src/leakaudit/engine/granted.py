"""What a threat model grants of the parties: their defenses, what those learned, and weights for replicas."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from leakaudit.engine.adversary import Sources
from leakaudit.engine.training import Training
from leakaudit.threats import ThreatModel

__all__ = ["known_defenses", "write_replicas"]


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
