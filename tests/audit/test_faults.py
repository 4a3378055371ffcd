"""Federations that go wrong, from the recipe to the report: empty sites, sites that leave, diverge, lie or die."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import TOYS, Audit, Machine, attack, tiny

DATA = {
    "use": "phantom", "params": {"patients": 24, "size": 32, "visits": 1, "sites": 8},
    "split": {"members": 5, "validation": 3, "test": 3, "non_members": 6, "auxiliary": 7},
}  # fmt: skip


def federated(name: str, **params: Any) -> dict[str, Any]:
    small = {"rounds": 3, "network": {"channels": [4, 8]}, "training": {"batch_size": 4, **params.pop("training", {})}}
    return {"use": "federated", "name": name, "params": {**small, **params}}


@dataclass(frozen=True)
class Faults:
    """A finished audit, its plan, and who has members."""

    audit: Audit
    plan: dict[str, Any]
    lines: str
    seated: list[str]
    empty: list[str]

    def baseline(self, protocol: str, defense: str = "none") -> dict[str, Any]:
        found = [b for b in self.audit.report["baselines"] if (b["protocol"], b["defense"]) == (protocol, defense)]
        return dict(found[0])


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    machine = Machine(tmp_path_factory.mktemp("faults"))
    machine.install("leakaudit_faults", TOYS / "leakaudit_faults")
    machine.allowed.append("leakaudit-faults")
    first = machine.write(tiny("sites", data=DATA, protocols=[federated("first")]))
    code, told = machine.call("plan", first, "--json")
    assert code == 0, told
    sites = json.loads(told)["sites"]
    one, two = sites["seated"][:2]
    wild = {"optimizer": "sgd", "learning_rate": 1e30}
    leaving = [{"site": one, "round": 1, "when": "after", "returns": 2}, {"site": two, "round": 1}]
    attacks = [attack("toy-counter", defenses=("none", "spoiled"))]
    attacks += [attack("toy-failing-site", how, how=how) for how in ("exits", "raises", "nan")]
    for entry in attacks[1:]:
        entry["only"]["protocols"] = ["leaving"]
    recipe = tiny(
        "faults", data=DATA, attacks=attacks,
        protocols=[
            federated("leaving", dropouts=leaving), federated("diverging", training=wild, local_epochs=3),
            federated("tolerant", on_bad_update="drop"),
        ],
        defenses=[{"use": "toy-spoiling", "name": "spoiled", "params": {"site": one}}],
        run={"workers": 1, "device": "cpu", "isolation": "strict"},
    )  # fmt: skip
    path = machine.write(recipe)
    code, told = machine.call("plan", path, "--json")
    assert code == 0, told
    _, lines = machine.call("plan", path)
    out = machine.root / "out"
    code, output = machine.call("run", path, "--out", out)
    audit = Audit(path, out, code, output)
    return Faults(audit=audit, plan=json.loads(told), lines=lines, seated=sites["seated"], empty=sites["without_members"])


def test_the_audit_ends_without_a_verdict_and_without_a_traceback(faults: Faults) -> None:
    assert faults.audit.code == 4, faults.audit.output
    assert faults.audit.report["verdict"]["exit_code"] == 4
    assert "Traceback" not in faults.audit.output


# Sites without a member -----------------------------------------------------------------------------------------------


def test_sites_without_a_member_are_named_and_have_no_seat(faults: Faults) -> None:
    assert faults.empty
    assert len(faults.seated) + len(faults.empty) == 8
    sentence = f"No member at {', '.join(faults.empty)}: left out of leaving, diverging, tolerant"
    assert sentence in faults.lines
    assert any(sentence in line for line in faults.audit.report["limitations"])
    seats = {s["seat"] for s in faults.audit.report["seats"] if s["role"] == "site"}
    assert seats == set(faults.seated)


def test_membership_has_its_blind_baseline_all_the_same(faults: Faults) -> None:
    pairing = faults.audit.pairing("toy-counter", protocol="leaving")
    (endpoint,) = pairing["endpoints"]
    assert endpoint["kind"] == "membership"
    assert endpoint["blind"]["value"] is not None


# Sites that leave -----------------------------------------------------------------------------------------------------


def test_who_left_stands_in_the_plan_the_report_and_the_log(faults: Faults) -> None:
    one, two = faults.seated[:2]
    after = f"round 1: site '{one}' left after it sent its update, and answered no question about it, until round 2"
    before = f"round 1: site '{two}' left before it was asked, for good"
    notes = faults.baseline("leaving")["notes"]
    assert sorted(notes) == sorted([after, before])
    assert f"leaving: {after}; {before}" in faults.lines or f"leaving: {before}; {after}" in faults.lines
    page = (faults.audit.out / "report.html").read_text()
    assert "left before it was asked, for good" in page
    assert any(line.startswith("leaving: sites left") for line in faults.audit.report["limitations"])
    assert before in (faults.audit.out / "run.log").read_text()


def test_who_left_sends_no_more_and_utility_is_measured(faults: Faults) -> None:
    traffic = [t for t in faults.audit.report["traffic"] if (t["protocol"], t["defense"]) == ("leaving", "none")]
    updates = next(t["messages"] for t in traffic if t["channel"] == "update")
    assert updates == 3 * len(faults.seated) - 2
    assert faults.baseline("leaving")["utility"]["dice"]["mean"] is not None


# What is not finite ---------------------------------------------------------------------------------------------------


def test_a_training_that_diverges_is_an_error_that_says_what_to_change(faults: Faults) -> None:
    (error,) = (e for e in faults.audit.report["errors"] if e["cell"] == "diverging/none")
    assert f"'{faults.seated[0]}' diverged in round 0" in error["reason"]
    assert "Lower training.learning_rate" in error["reason"]
    pairing = faults.audit.pairing("toy-counter", protocol="diverging")
    assert pairing["status"] == "ERROR"
    assert any("diverged in round 0" in reason for reason in pairing["reasons"])
    assert faults.baseline("diverging", "spoiled")["status"] == "ERROR"


def test_a_defense_that_sends_no_numbers_is_an_error_that_names_the_seat(faults: Faults) -> None:
    row = faults.baseline("leaving", "spoiled")
    assert row["status"] == "ERROR"
    assert any(f"'{faults.seated[0]}' sent " in r and "(update, round 1)" in r for r in row["reasons"]), row["reasons"]


def test_the_rest_is_kept(faults: Faults) -> None:
    good = faults.audit.pairing("toy-counter", protocol="leaving")
    assert good["status"] == "control"
    assert good["endpoints"][0]["leakage"]["value"] is not None
    assert faults.audit.report["cells"]["failed"] >= 3
    assert faults.baseline("tolerant")["utility"]["dice"]["mean"] is not None


def test_an_update_that_is_dropped_shows_in_the_report(faults: Faults) -> None:
    row = faults.baseline("tolerant", "spoiled")
    assert row["notes"] == [f"rounds 1 to 2: the update of site '{faults.seated[0]}' was not finite and was left out"]
    assert row["utility"]["dice"]["mean"] is not None
    assert faults.baseline("tolerant")["notes"] == []
    assert faults.audit.pairing("toy-counter", "spoiled", "tolerant")["status"] != "ERROR"


# A site that an attack plays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"), [("exits", "exited with code 3"), ("raises", "the site gave up"), ("nan", "with values that are not finite")]
)
def test_a_site_that_dies_in_mid_training_is_an_error_of_its_pairing_alone(faults: Faults, how: str, words: str) -> None:
    pairing = faults.audit.pairing(how, protocol="leaving")
    assert pairing["status"] == "ERROR"
    assert any(words in reason for reason in pairing["reasons"]), pairing["reasons"]
