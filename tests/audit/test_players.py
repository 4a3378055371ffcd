"""Attacks that act before and during training: a rider, a hijacker, a canary attack, a colluder, and taps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leakaudit.attacks.evidence import load_evidence
from leakaudit.scoring.membership import auc
from leakaudit.wire.recording import MessageLog, read_tensors

from .conftest import Audit, Machine, attack, tiny


@pytest.fixture(scope="session")
def audit(machine: Machine) -> Audit:
    noisy = ("none", "toy-global-noise")
    recipe = tiny(
        "players", defenses=["toy-global-noise", "toy-poisson"],
        attacks=[
            attack("toy-rider", defenses=noisy), attack("toy-rider", "cheat", cheats=True), attack("toy-hijacker"),
            attack("toy-canary"), attack("toy-canary", "canary-rider", rides=True), attack("toy-canary", "miscounted", claimed=25),
            attack("toy-colluder"), attack("toy-watcher"), attack("toy-watcher", "last", rounds=[-1], defenses=("toy-poisson",)),
            attack("toy-guess"),
        ],
    )  # fmt: skip
    return machine.run(machine.write(recipe), machine.root / "players")


@pytest.fixture(scope="session")
def strict(machine: Machine) -> Audit:
    attacks = [attack("toy-rider", defenses=("toy-global-noise",)), attack("toy-rider", "cheat", cheats=True)]
    attacks += [attack("toy-hijacker"), *(attack("toy-broken", how, how=how) for how in ("play-exits", "play-raises", "play-lies"))]
    recipe = tiny("strict", defenses=["toy-global-noise"], attacks=attacks)
    recipe["run"]["isolation"] = "strict"
    return machine.run(machine.write(recipe), machine.root / "strict")


def failed(pairing: dict[str, object]) -> bool:
    return any("failed" in r or "its process" in r for r in pairing["reasons"]) or not pairing["endpoints"]


@pytest.mark.parametrize("defense", ["none", "toy-global-noise"])
def test_a_rider_changes_nothing_and_finds_its_statistics(audit: Audit, defense: str) -> None:
    pairing = audit.pairing("toy-rider", defense)
    assert not failed(pairing), pairing["reasons"]
    train = audit.data("train", f"split/{defense}", "train.json")
    record = audit.data("record", f"split/{defense} for toy-rider", "record.json")
    assert record["digest"] == train["digest"]
    own = read_tensors(audit.folder("record", f"split/{defense} for toy-rider") / "own.safetensors")
    count, total, drawn = own["statistics"].tolist()
    assert count == 2 * 3 * 2, "rounds x steps x clients"
    assert total != 0
    assert drawn != 0
    assert pairing["sabotage"] is None
    assert not (audit.folder("train", f"split/{defense}") / "own.safetensors").exists()


def test_a_rider_that_alters_gradients_is_found_out(audit: Audit) -> None:
    pairing = audit.pairing("cheat")
    assert pairing["status"] == "ERROR"
    assert any("not passive" in reason for reason in pairing["reasons"])
    assert not failed(audit.pairing("toy-guess")), "the others go on"


def test_a_hijacker_trains_apart_and_its_sabotage_is_measured(audit: Audit) -> None:
    pairing = audit.pairing("toy-hijacker")
    assert not failed(pairing), pairing["reasons"]
    honest = audit.data("train", "split/none", "train.json")
    altered = audit.data("train", "split/none with toy-hijacker", "train.json")
    assert altered["digest"] != honest["digest"]
    dice = np.array(altered["utility"]["dice"], dtype=float)
    shown = audit.pairing("toy-hijacker")["sabotage"]
    means = [np.nanmean(row) for row in dice if not np.isnan(row).all()]
    assert shown == pytest.approx(float(np.mean(means)))
    utility = audit.baseline()["utility"]["dice"]["mean"]
    before = np.array(honest["utility"]["dice"], dtype=float)
    assert utility == pytest.approx(float(np.mean([np.nanmean(row) for row in before if not np.isnan(row).all()])))
    own = read_tensors(audit.folder("train", "split/none with toy-hijacker") / "own.safetensors")
    assert own["answered"] == 6
    server = read_tensors(audit.folder("train", "split/none with toy-hijacker") / "state-server.safetensors")
    trained = read_tensors(audit.folder("train", "split/none") / "state-server.safetensors")
    assert any((server[k] != trained[k]).any() for k in server), "the honest server behind a hijacker never learned"


def test_canaries_are_tossed_by_the_engine_and_scored_by_its_coins(audit: Audit) -> None:
    pairing = audit.pairing("toy-canary")
    assert not failed(pairing), pairing["reasons"]
    label = "split/none with toy-canary"
    prepared = audit.folder("prepare", label)
    coins = json.loads((prepared / "coins.json").read_text())
    assert len(coins) == 24
    assert 6 <= sum(coins.values()) <= 18
    assert all(name.startswith("canary-") for name in coins), "an attack may not name a canary like a patient"
    attack_cell = audit.folder("attack", f"{label} by toy-canary")
    known = json.loads((attack_cell / "attack.json").read_text())
    (piece,) = load_evidence(attack_cell / "out" / "messages")
    member = np.array([coins[known["truth"]["candidates"][token]] for token in piece.about])
    scores = np.asarray(piece.array, dtype=np.float64)
    shown = pairing["endpoints"][0]["raw"]
    assert shown["auc"]["value"] == pytest.approx(auc(scores[member], scores[~member]))
    assert pairing["sabotage"] is not None


def test_an_attack_may_plant_canaries_and_look_on(audit: Audit) -> None:
    pairing = audit.pairing("canary-rider")
    assert not failed(pairing), pairing["reasons"]
    train = audit.data("train", "split/none with canary-rider", "train.json")
    record = audit.data("record", "split/none with canary-rider for canary-rider", "record.json")
    assert train["digest"] == record["digest"]


def test_canaries_that_were_not_asked_for_are_refused(audit: Audit) -> None:
    pairing = audit.pairing("miscounted")
    assert pairing["status"] == "ERROR"
    assert any("crafted 24 canaries" in reason and "asked for 25" in reason for reason in pairing["reasons"])


def test_a_colluder_sees_what_its_client_holds_and_is_not_scored_on_it(audit: Audit) -> None:
    pairing = audit.pairing("toy-colluder")
    assert not failed(pairing), pairing["reasons"]
    assert {e["seat"] for e in pairing["endpoints"]} == {"client-1"}
    score = audit.data("score", "split/none by toy-colluder", "score.json")
    names = {e["chance_name"] for piece in score["evidence"] for e in piece["endpoints"] if e["name"] == "fidelity"}
    alone = audit.data("score", "split/none by toy-guess", "score.json")
    assert {name.removesuffix("-contrast") for name in names} == {"translated-holdings"}, "FLAIR in hand, T1 is guessed from it"
    assert not any(e["chance_name"].startswith("translated") for piece in alone["evidence"] for e in piece["endpoints"])


def test_two_rounds_can_be_watched_with_the_weights_after_each(audit: Audit) -> None:
    assert not failed(audit.pairing("toy-watcher")), audit.pairing("toy-watcher")["reasons"]
    record = audit.data("record", "split/none for toy-watcher", "record.json")
    assert record["rounds"] == [0]


def test_under_poisson_sampling_every_target_is_recorded_at_its_last_crossing(audit: Audit) -> None:
    pairing = audit.pairing("last", "toy-poisson")
    assert not failed(pairing), pairing["reasons"]
    folder: Path = audit.folder("record", "split/toy-poisson for last")
    entries = MessageLog(folder / "messages").entries
    every = MessageLog(audit.folder("record", "split/none for toy-colluder") / "messages").entries
    targets = {token for e in every for token in e["samples"]}
    for client in ("client-0", "client-1"):
        seen = [token for e in entries if e["sender"] == client for token in e["samples"]]
        assert len(seen) == len(set(seen)) == len(targets) == 8
        assert set(seen) == targets
    assert len({(e["round"], e["step"]) for e in entries}) > 1, "everybody crossed in one step: choose another seed"


def test_a_party_in_a_process_of_its_own_is_the_same_party(audit: Audit, strict: Audit) -> None:
    label = "split/toy-global-noise for toy-rider"
    for name in ("players", "strict"):
        assert not failed(audit.pairing("toy-rider", "toy-global-noise")), name
    assert strict.data("record", label, "record.json") == audit.data("record", label, "record.json")
    ours, theirs = (read_tensors(a.folder("record", label) / "own.safetensors") for a in (audit, strict))
    assert ours.keys() == theirs.keys()
    assert all((ours[k] == theirs[k]).all() for k in ours)
    hijacked = "split/none with toy-hijacker"
    digests = {a.data("train", hijacked, "train.json")["digest"] for a in (audit, strict)}
    assert len(digests) == 1
    assert any("not passive" in reason for reason in strict.pairing("cheat")["reasons"])
    assert "during training its party was in a process of its own" in strict.pairing("toy-hijacker")["isolation"]
    assert "in the training's own process" in audit.pairing("toy-hijacker")["isolation"]


def test_what_fails_in_a_process_of_its_own_is_an_error_with_a_reason(strict: Audit) -> None:
    wanted = {"play-exits": "exited with code 3", "play-raises": "the server gave up", "play-lies": "in the name of 'client-1'"}
    for how, words in wanted.items():
        pairing = strict.pairing(how)
        assert pairing["status"] == "ERROR"
        assert any(words in reason for reason in pairing["reasons"]), pairing["reasons"]
    assert not failed(strict.pairing("toy-hijacker"))
