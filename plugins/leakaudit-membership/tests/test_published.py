"""Against Carlini et al. (S&P 2022) and Zarifzadeh, Liu and Shokri (ICML 2024): which membership score is better than which.

`pytest -m slow -s plugins/leakaudit-membership/tests/test_published.py` prints the figures of VALIDATION.md.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leakaudit.engine.cells.shadows import deal


def _published() -> Any:
    script = Path(__file__).parents[1] / "benchmarks" / "published.py"
    spec = importlib.util.spec_from_file_location("leakaudit_membership_published", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


p = _published()


def test_a_threshold_passes_no_more_of_the_others_than_it_may() -> None:
    others = np.arange(200.0)
    assert p.tpr(np.array([196.5, 197.0, 197.5, 400.0]), others, 0.01) == 0.5
    assert p.tpr(np.array([199.0, 199.5]), others, 0.001) == 0.5


def test_every_candidate_is_in_half_of_the_models_that_a_victim_is_compared_with() -> None:
    names = [str(i) for i in range(40)]
    hands = deal(names, p.MODELS, 0.5, np.random.default_rng(1))
    for victim in range(p.MODELS):
        others = [set(hand) for m, hand in enumerate(hands) if m // 2 != victim // 2]
        assert all(sum(name in hand for hand in others) == 8 for name in names)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("images", ["digits", "phantoms"])
def test_members_of_another_victim_are_not_told(images: str) -> None:
    assert abs(p.level(p.found(images), "chance", 0) - 0.5) < 0.03


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_few_false_positives_part_lira_from_a_global_threshold_on_digits() -> None:
    # Published: AUC .6856 against .5921, TPR at .1 % FPR .0593 against .0009.
    table = p.found("digits")
    assert p.level(table, p.LOSS, 0) == pytest.approx(0.592, abs=0.05)
    assert 0.05 < p.level(table, p.ONLINE, 0) - p.level(table, p.LOSS, 0) < 0.25
    assert p.level(table, p.LOSS, 1) < 0.02
    assert p.level(table, p.ONLINE, 1) > 4 * p.level(table, p.LOSS, 1)
    assert p.level(table, p.OFFLINE, 1) > 4 * p.level(table, p.LOSS, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_few_false_positives_part_lira_from_a_global_threshold_on_phantoms() -> None:
    table = p.found("phantoms")
    assert p.level(table, p.ONLINE, 0) > p.level(table, p.LOSS, 0) + 0.1
    assert p.level(table, p.ONLINE, 1) > 2 * p.level(table, p.LOSS, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_spreads_pooled_over_candidates_serve_lira_better_with_16_models() -> None:
    # Published: online .6856 and .0593 against .6676 and .0169, offline .5549 and .0299 against .5488 and .0130.
    table = p.found("digits")
    assert p.gap(table, p.ONLINE, p.ONLINE_EACH, 1) > 0
    assert p.gap(table, p.OFFLINE, p.OFFLINE_EACH, 1) > 0
    assert p.gap(table, p.ONLINE, p.ONLINE_EACH, 0) > -0.005
    assert p.gap(p.found("phantoms"), p.ONLINE, p.ONLINE_EACH, 0) > -0.005


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lira_online_finds_more_digits_than_offline() -> None:
    # Published: AUC .6856 against .5549, TPR at .1 % FPR .0593 against .0299.
    table = p.found("digits")
    assert p.gap(table, p.ONLINE, p.OFFLINE, 0) > 0
    assert p.gap(table, p.ONLINE, p.OFFLINE, 1) > 0
    assert p.gap(table, p.ONLINE_EACH, p.OFFLINE_EACH, 0) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("models", [1, 2])
def test_with_one_or_two_models_rmia_finds_more_digits_than_lira(models: int) -> None:
    table = p.found("digits")
    assert p.gap(table, p.few("RMIA offline", models), p.few(p.OFFLINE, models), 0) > 0.02
    assert p.gap(table, p.few("RMIA offline", models), p.few(p.OFFLINE, models), 1) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("images", ["digits", "phantoms"])
def test_rmia_online_finds_more_than_lira_online(images: str) -> None:
    table = p.found(images)
    assert p.gap(table, p.RMIA_ONLINE, p.ONLINE, 0) > 0
    assert p.gap(table, p.RMIA_ONLINE, p.ONLINE, 1) > 0
