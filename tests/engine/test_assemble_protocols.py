"""Which protocols differ in exactly one number of a federation, and what the report says of how each trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from runs import COHORT

from leakaudit.engine.assemble_protocols import ProtocolWriter
from leakaudit.engine.plan import Baseline, Plan
from leakaudit.plugins.params import ProtocolParams
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams


def writer(*protocols: tuple[str, ProtocolParams], plugin: str = "federated") -> ProtocolWriter:
    """Return the writer of a plan with these protocols, each undefended and under one defense."""
    choices = [
        SimpleNamespace(label=label, params=params, plugin=SimpleNamespace(distribution="x", info=SimpleNamespace(name=plugin)))
        for label, params in protocols
    ]
    recipe: Any = SimpleNamespace(protocols=choices)
    unused: Any = None
    baselines = tuple(
        Baseline(protocol=label, defense=defense, facts=params.facts(COHORT))
        for label, params in protocols
        for defense in ("none", "noise")
    )
    plan = Plan(
        recipe=recipe, device="cpu", inventory=unused, cohort=COHORT, split=unused, cohort_key="", baselines=baselines,
        pairings=(), jobs=(),
    )  # fmt: skip
    return ProtocolWriter(plan)


def federated(batch: int = 4, **more: Any) -> FederatedParams:
    return FederatedParams.model_validate({"rounds": 9, "training": {"batch_size": batch}, **more})


def sweeps(*protocols: tuple[str, ProtocolParams]) -> list[tuple[str, dict[str, int]]]:
    return [(s.parameter, {p.protocol: p.value for p in s.settings}) for s in writer(*protocols).sweeps()]


def test_each_parameter_has_its_own_sweep_from_one_base() -> None:
    found = sweeps(
        ("base", federated()), ("batch-1", federated(1)), ("batch-2", federated(2)), ("passes-2", federated(local_epochs=2)),
        ("short", federated(rounds=3)),
    )  # fmt: skip
    assert found == [
        ("batch_size", {"batch-1": 1, "batch-2": 2, "base": 4}),
        ("local_epochs", {"base": 1, "passes-2": 2}),
        ("rounds", {"short": 3, "base": 9}),
    ]


def test_protocols_that_differ_in_more_than_one_number_are_no_sweep() -> None:
    assert sweeps(("a", federated()), ("b", federated(1, local_epochs=2))) == []
    assert sweeps(("a", federated()), ("b", federated(1, weighting="uniform"))) == []
    other = FederatedParams.model_validate({"rounds": 9, "training": {"batch_size": 1, "learning_rate": 0.5}})
    assert sweeps(("a", federated()), ("b", other)) == []


def test_steps_take_the_place_of_passes() -> None:
    found = sweeps(
        ("a", federated(local_steps=1)), ("b", federated(local_steps=3, local_epochs=7)), ("whole", federated(local_epochs=3))
    )
    assert found == [("local_steps", {"a": 1, "b": 3})]


def test_the_same_protocol_twice_counts_once() -> None:
    assert sweeps(("a", federated()), ("again", federated()), ("b", federated(1))) == [("batch_size", {"b": 1, "a": 4})]
    assert sweeps(("a", federated()), ("again", federated())) == []


def test_only_what_sends_updates_is_swept() -> None:
    for params in (SplitParams, CentralizedParams):
        pair = [(str(n), params.model_validate({"rounds": n})) for n in (2, 3)]
        assert sweeps(*pair) == []


def test_two_plugins_are_no_sweep() -> None:
    made = writer(("a", federated()), ("b", federated(1)))
    made._choices[1].plugin.info.name = "another"  # type: ignore[misc]
    assert made.sweeps() == []


def test_how_each_protocol_trained_is_stated_once() -> None:
    network = {"normalization": "none", "activation": "gelu"}
    found = writer(("a", federated(2, network=network)), ("b", federated(local_steps=3, local_epochs=2))).protocols()
    assert [t.protocol for t in found] == ["a", "b"]
    assert (found[0].plugin, found[0].rounds, found[0].batch_size, found[0].local_epochs, found[0].local_steps) == (
        "federated", 9, 2, 1, None,
    )  # fmt: skip
    assert (found[0].normalization, found[0].activation) == ("none", "gelu")
    assert (found[1].local_epochs, found[1].local_steps, found[1].normalization) == (None, 3, "instance")
    (split,) = writer(("s", SplitParams()), plugin="split").protocols()
    assert (split.plugin, split.batch_size, split.local_epochs) == ("split", 8, None)
