"""What a plan knows about shadow models, without torch: whether they can be trained, and under which defenses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leakaudit.facts import ProtocolFacts
from leakaudit.plugins.params import DefenseParams
from leakaudit.plugins.targets import import_target
from leakaudit.protocols.params import TrainedParams
from leakaudit.threats import Requires

__all__ = ["contradiction", "obstacle", "without_recipe"]


def contradiction(requires: Requires) -> str | None:
    """Return what in the wish for shadow models contradicts the threat model; None where nothing does."""
    shadows, threat = requires.shadows, requires.threat
    if shadows is None:
        return None
    if shadows.count < 1 or not 0 < shadows.fraction <= 1:
        return f"it asks for {shadows.count} shadow models on {shadows.fraction:g} of their pool"
    if threat.auxiliary not in ("same", "shifted"):
        return "it asks for shadow models, but owns no images to train them on (auxiliary: same or shifted)"
    wanted = ["architecture", *(["candidates", "labels"] if shadows.pool == "auxiliary+candidates" else [])]
    missing = [grant for grant in wanted if grant not in threat.knows]
    if missing:
        return f"it asks for shadow models on {shadows.pool}, but its threat model does not grant {missing[0]!r}"
    return None


def obstacle(facts: ProtocolFacts, protocol: Mapping[str, Any]) -> str | None:
    """Return why shadow models of a protocol cannot be trained; None where they can.

    Args:
        facts: The protocol.
        protocol: Its spec.
    """
    if facts.normalization == "batch":
        return "and models with batch normalization, which keep statistics of their batches, cannot be trained stacked"
    params = import_target(protocol["params_target"])
    if not (isinstance(params, type) and issubclass(params, TrainedParams)):
        return f"but protocol {facts.protocol!r} does not state its training as the built-in protocols do (TrainedParams)"
    return None


def without_recipe(defenses: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of those defenses that say nothing of how shadow models learn under them (`DefenseParams.shadow`)."""
    return [d["name"] for d in defenses if import_target(d["params_target"]).shadow is DefenseParams.shadow]
