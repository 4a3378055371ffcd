"""Canaries before and after training: admitted, dealt, tossed, and shown to their attack without a word about coins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from leakaudit.engine.canaries import admit_gradients, coins_of, deal, load_gradients, save_gradients, toss
from leakaudit.engine.granted import gradient_canaries
from leakaudit.engine.rows import Row
from leakaudit.models.canary import GradientCanary
from leakaudit.threats import Canaries, Requires, ThreatModel
from leakaudit.wire import Secret

SALT = Secret.from_seed(3)
CRAFTED = [GradientCanary(parameter="weight", index=i, value=1.0) for i in range(6)]


def asked(count: int, form: str = "gradients") -> dict[str, object]:
    return asdict(Canaries(count=count, form=form))  # type: ignore[arg-type]


def test_gradients_are_named_by_the_engine_and_must_be_as_many_as_asked_for():
    network = nn.Linear(3, 2)
    assert list(admit_gradients(CRAFTED, asked(6), network)) == [f"canary-{i:04d}" for i in range(6)]
    assert admit_gradients([], None, network) == {}
    for wanted in (asked(5), asked(6, "patients"), None):
        with pytest.raises(ValueError, match="crafted 6 gradient canaries"):
            admit_gradients(CRAFTED, wanted, network)
    with pytest.raises(ValueError, match="which has 6"):
        admit_gradients([GradientCanary(parameter="weight", index=6, value=1.0)], asked(1), network)


def test_they_are_dealt_to_seats_in_turn_and_kept(tmp_path: Path):
    named = admit_gradients(CRAFTED, asked(6), nn.Linear(3, 2))
    dealt = deal(named, ("a", "b"))
    assert [dealt[name] for name in sorted(named)] == ["a", "b"] * 3
    save_gradients(tmp_path, named, dealt)
    assert load_gradients(tmp_path) == {name: (dealt[name], canary) for name, canary in named.items()}
    assert load_gradients(tmp_path / "none") == {}
    assert coins_of(tmp_path) == {}
    with pytest.raises(ValueError, match="no party of this protocol takes gradient canaries"):
        deal(named, ())
    assert deal({}, ()) == {}


def test_coins_are_fair_and_each_canary_has_its_own():
    coins = toss([str(i) for i in range(2000)], 0.5, SALT)
    assert 900 < sum(coins.values()) < 1100
    assert toss(["a", "b"], 0.5, SALT) == toss(["a", "b"], 0.5, SALT)


def test_an_attack_sees_its_canaries_by_token_and_in_the_shuffled_set_those_of_others():
    named = admit_gradients(CRAFTED, asked(6), nn.Linear(3, 2))
    gradients = {name: ("site-0", canary) for name, canary in named.items()}
    seen, tokens = gradient_canaries(gradients, SALT, ("real", "shuffled"))
    assert sorted(tokens.values()) == sorted(named)
    for shown in seen["real"]:
        assert GradientCanary(**shown["canary"]) == named[tokens[shown["token"]]]
    assert [s["token"] for s in seen["real"]] == [s["token"] for s in seen["shuffled"]] == sorted(tokens)
    assert all(a["canary"] != b["canary"] for a, b in zip(seen["real"], seen["shuffled"], strict=True))
    assert set(seen["real"][0]) == {"token", "seat", "canary"}, "nothing of coins"
    assert [s["token"] for s in seen["real"]] != [t for t, _ in sorted(tokens.items(), key=lambda pair: pair[1])]


def test_gradients_under_unfair_coins_are_refused():
    canaries = Canaries(count=2, form="gradients", probability=0.3)
    threat = ThreatModel(plays=("outsider",), alters=("cohort",), channels=("output",))
    choice = SimpleNamespace(params=SimpleNamespace(requires=lambda facts: Requires(threat=threat, canaries=canaries)))
    none: Any = None
    row = Row(graph=none, recipe=none, cohort=none, cohort_key="", protocol="p", defense="none", facts=none, base={}, plugins=())
    with pytest.raises(ValueError, match="fair coins"):
        row.requires(cast(Any, choice))
