"""Masks that an adversary is told: those of its targets, known to chance, and no evidence."""

from __future__ import annotations

import numpy as np
import pytest

from leakaudit.attacks.contents import load_cohort
from leakaudit.attacks.evidence import load_evidence

from .conftest import Audit, Machine, attack, tiny

PROTOCOLS = ("split", "federated")


@pytest.fixture(scope="module")
def audit(machine: Machine) -> Audit:
    recipe = tiny("told", attacks=[attack("toy-told"), attack("toy-told", "thief", says="masks")])
    recipe["protocols"].append({"use": "federated", "params": {"rounds": 1, "network": {"channels": [4, 8]}}})
    return machine.run(machine.write(recipe), machine.root / "told")


def evidence(audit: Audit, protocol: str, messages: str) -> tuple[tuple[str, ...], np.ndarray]:
    (piece,) = load_evidence(audit.folder("attack", f"{protocol}/none by toy-told") / "out" / messages)
    return piece.about, piece.array[:, 0] > 50


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_masks_are_those_of_the_samples_behind_each_target(audit: Audit, protocol: str) -> None:
    label = next(c["label"] for c in audit.cells if c["kind"] == "cohort")
    members = audit.data("cohort", label, "split.json")["members"]
    true = load_cohort(audit.folder("cohort", label) / "cohort").of_patients(members).labels > 0
    known = audit.data("attack", f"{protocol}/none by toy-told", "attack.json")["truth"]
    behind = {t: [row] for t, row in known["rows"].items()} if protocol == "split" else known["behind"]
    about, masks = evidence(audit, protocol, "messages")
    assert about
    for token in dict.fromkeys(about):
        seen = [masks[i].tobytes() for i, t in enumerate(about) if t == token]
        assert sorted(seen) == sorted(true[row].tobytes() for row in behind[token])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_they_stay_with_their_target_where_messages_are_exchanged(audit: Audit, protocol: str) -> None:
    (about, masks), (tokens, again) = (evidence(audit, protocol, name) for name in ("messages", "messages-shuffled"))
    assert about == tokens
    assert np.array_equal(masks, again)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chance_knows_them(audit: Audit, protocol: str) -> None:
    (fidelity,) = (e for e in audit.pairing("toy-told", protocol=protocol)["endpoints"] if e["kind"] == "fidelity")
    assert fidelity["leakage"]["chance_name"].startswith("translated-masks"), "its worth is that of the masks, and no more"
    assert fidelity["leakage"]["value"] < 0.05


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_told_is_no_evidence(audit: Audit, protocol: str) -> None:
    pairing = audit.pairing("thief", protocol=protocol)
    assert pairing["status"] == "ERROR"
    assert any("the threat model grants the masks" in reason for reason in pairing["reasons"])
