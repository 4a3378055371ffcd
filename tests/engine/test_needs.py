"""What `leakaudit plan` says about the number of patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leakaudit.engine.api import plan
from leakaudit.engine.needs import Need
from leakaudit.engine.planview import PlanView
from leakaudit.recipes.loading import load_recipe
from leakaudit.scoring.audit import audit_ceiling


def view(tmp_path: Path, **changes: Any) -> PlanView:
    document: dict[str, Any] = {
        "version": 1, "name": "needs",
        "data": {
            "use": "phantom", "params": {"patients": 200, "size": 64, "canary": True},
            "split": {"members": 60, "validation": 10, "test": 20, "non_members": 40, "auxiliary": 60},
        },
        "protocols": [{"use": "split", "params": {"rounds": 1, "cut": 0, "network": {"channels": [4, 8]}}}],
        "defenses": ["gaussian-noise"],
        "attacks": [{"use": "model-inversion", "params": {"iterations": 5}}, "membership-loss"],
        "run": {"device": "cpu"},
    }  # fmt: skip
    for path, value in changes.items():
        *parts, last = path.split("__")
        here = document
        for part in parts:
            here = here[part]
        here[last] = value
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(document))
    return plan(load_recipe(file))


def needs(found: PlanView) -> dict[str, dict[str, Any]]:
    listed = found.to_json()["needs"]
    assert len({n["kind"] for n in listed}) == len(listed)
    return {n["kind"]: n for n in listed}


def lines(found: PlanView) -> str:
    return "\n".join(found.lines())


def test_every_kind_of_endpoint_with_the_numbers_of_the_rules_of_evidence(tmp_path: Path) -> None:
    found = needs(view(tmp_path))
    assert set(found) == {"fidelity", "identity", "canary", "membership", "utility"}
    passes = {kind: (n["to_pass"], n["there"], n["enough"]) for kind, n in found.items()}
    assert passes["fidelity"] == (36, 36, True)
    assert passes["identity"] == (36, 36, True)
    assert passes["canary"] == (36, 36, True)
    assert passes["membership"][1:] == (40, False)
    assert abs(passes["membership"][0] - 131) <= 1
    assert passes["utility"] == (18, 20, True)
    assert (found["fidelity"]["attacks"], found["membership"]["attacks"]) == (("model-inversion",), ("membership-loss",))
    assert 0.2 < found["membership"]["power"] < 0.5
    assert 0.8 < found["utility"]["power"] < 0.9
    assert 0.8 < found["canary"]["power"] < 1
    assert found["fidelity"]["to_fail"] == 10
    assert "49 if one is" in found["identity"]["notes"][0]
    assert "at most 0 may be found" in found["identity"]["notes"][0]


def test_numbers_follow_the_policy(tmp_path: Path) -> None:
    tight = needs(view(tmp_path, policy={"membership_max": 0.1, "tail_share": 0.05, "dice_margin": 0.02}))
    assert abs(tight["membership"]["to_pass"] - 524) <= 1
    assert tight["fidelity"]["to_pass"] == tight["identity"]["to_pass"] == 72
    assert tight["utility"]["to_pass"] > 90
    assert abs(needs(view(tmp_path, policy={"membership_max": 0.3}))["membership"]["to_pass"] - 59) <= 1


def test_more_candidates_need_more_patients(tmp_path: Path) -> None:
    several = [{"use": "gaussian-noise", "name": f"noise-{i}", "params": {"sigma": i}} for i in (1, 2, 3, 4)]
    one, four = needs(view(tmp_path)), needs(view(tmp_path, defenses=several))
    for kind in ("identity", "membership"):
        assert four[kind]["to_pass"] > one[kind]["to_pass"]
    assert not four["identity"]["enough"]
    assert needs(view(tmp_path, defenses=several, policy={"candidates": ["noise-2"]}))["identity"]["to_pass"] == 36


def test_few_patients_are_called_few(tmp_path: Path) -> None:
    split = {"members": 12, "validation": 4, "test": 3, "non_members": 8, "auxiliary": 10}
    small = view(tmp_path, data__split=split)
    found = needs(small)
    assert not any(n["enough"] for n in found.values())
    assert found["membership"]["there"] == 8
    assert (found["membership"]["power"], found["canary"]["power"]) == (0, 0)
    text = lines(small)
    assert "below 10 a side this is a smoke test" in text
    assert "up to 22% of such patients may be worse than the worst seen" in text
    assert text.count("too few") == 5
    assert "smoke test" not in lines(view(tmp_path))


def test_what_is_not_there_is_not_asked_for(tmp_path: Path) -> None:
    params = {"patients": 200, "size": 32, "visits": 1}
    plain = needs(view(tmp_path, data__params=params, defenses=[], attacks=["membership-loss"]))
    assert set(plain) == {"membership"}
    found = needs(view(tmp_path, data__params=params, data__split__members=20))
    assert "canary" not in found
    assert "rank 1 among 20" in found["identity"]["notes"][0], "without other visits the members are the gallery"


def test_what_may_follow_is_said(tmp_path: Path) -> None:
    text = lines(view(tmp_path))
    assert "membership-loss on one more training, with the attacked patients 10 times in it" in text
    assert "model-inversion once more" not in text, "there is no other level than the one it attacks"
    deep = {"rounds": 1, "cut": 1, "network": {"channels": [4, 8]}}
    protocols = [{"use": "split", "params": deep}, {"use": "centralized", "params": {"rounds": 1, "network": {"channels": [4, 8]}}}]
    text = lines(view(tmp_path, protocols=protocols))
    assert "model-inversion once more on the shallowest level" in text
    assert "membership in split, centralized by membership-loss" in text


def test_a_line_without_a_number_to_reach(tmp_path: Path) -> None:
    need = Need(kind="identity", unit="attacked patients", there=3, to_pass=None, to_fail=10, protocols=("split",), notes=("why",))
    assert need.line() == "identity in split: there are 3: too few; why"


def test_canaries_have_a_ceiling_and_nothing_else_to_reach(tmp_path: Path) -> None:
    pytest.importorskip("leakaudit_membership")
    found = view(tmp_path, attacks=[{"use": "epsilon-audit", "params": {"canaries": 40}}], repeats=3)
    (need,) = [n for n in found.to_json()["needs"] if n["kind"] != "utility"]
    assert (need["kind"], need["there"], need["to_pass"], need["power"]) == ("epsilon", 40, None, None)
    text = lines(found)
    ceiling = audit_ceiling(40, 3, delta=1e-5)
    assert f"there are 40 canaries; in 3 trainings not even a perfect attack shows more than epsilon {ceiling:.2f}" in text
    assert "a claim can be refuted only" in text
    assert "too few" not in text.split("epsilon in split")[1].splitlines()[0]
    assert "planted control" not in text, "canaries are planted already"
