"""Scales and costs against values computed by hand and published ones."""

from __future__ import annotations

import math

import pytest
from leakaudit_updates.accounting import claimed, cost, plan
from leakaudit_updates.params_svt import SvtParams


def test_stock_defaults_cost_ten_thousand_a_round_for_a_million_entries() -> None:
    params = SvtParams(variant="nvflare-2.8", fraction=0.1, epsilon=0.1, noise_var=0.1)
    parts = cost(plan(params, 1_000_000))
    assert parts.release == pytest.approx(10_000)  # 100,000 entries, 0.1 each
    assert claimed(params, 1_000_000) == pytest.approx(10_000.1)
    # Every entry may be accepted before the draw, ten times as many as are released.
    ratio = 200_000 ** (2 / 3)
    assert parts.threshold == pytest.approx(0.1 / (1 + ratio))
    assert parts.selection == pytest.approx(10 * 0.1 * ratio / (1 + ratio))
    assert parts.epsilon == pytest.approx(10_001.0, abs=0.01)


def test_the_brain_tumor_example_of_2026_states_8_million() -> None:
    params = SvtParams(variant="nvflare-2.8", fraction=0.9, epsilon=21.0, noise_var=2.0, gamma=1e-4)
    done = plan(params, 4_702_227)
    assert done.released == 4_232_005
    assert claimed(params, 4_702_227) == pytest.approx(8_464_031)
    assert cost(done).epsilon == pytest.approx(8_464_031, rel=1e-6)
    assert cost(done).epsilon > claimed(params, 4_702_227)


@pytest.mark.parametrize("n", [1, 7, 5000])
@pytest.mark.parametrize("share", [None, 0.1])
def test_the_correct_variant_costs_its_epsilon(n: int, share: float | None) -> None:
    params = SvtParams(epsilon=0.7, fraction=0.3, release_share=share)
    parts = cost(plan(params, n))
    assert parts.epsilon == pytest.approx(0.7) == claimed(params, n)
    assert parts.release == pytest.approx(0.7 * (share or 0.5))
    assert parts.selection / parts.threshold == pytest.approx((2 * math.ceil(0.3 * n)) ** (2 / 3))


def test_scales_by_variant() -> None:
    """Five of ten entries, gamma 2e-5 by two local steps: (2 q)^(2/3) = 10^(2/3) = 4.6416."""
    common = {"fraction": 0.5, "gamma": 1e-5, "tau": 1e-6, "local_steps": 2, "epsilon": 0.1}
    old = plan(SvtParams(variant="nvflare-2.2", noise_var=0.4, **common), 10)
    assert (old.gamma, old.tau, old.released) == (2e-5, 2e-6, 5)
    assert old.threshold == pytest.approx(4e-4)  # 2 gamma / eps1
    assert old.query == pytest.approx(4 * 2e-5 * 5 / 0.46416, rel=1e-4)  # 4 gamma q / eps2
    assert old.release == pytest.approx(1e-4)  # 2 gamma / eps3
    new = plan(SvtParams(variant="nvflare-2.8", noise_var=0.4, **common), 10)
    assert new.threshold == pytest.approx(2e-5 / (0.1 / 5.6416), rel=1e-4)
    assert new.query == pytest.approx(2 * 2e-5 * 5 / (0.46416 / 5.6416), rel=1e-4)
    assert new.release == pytest.approx(1e-4)
    correct = plan(SvtParams(**common), 10)
    assert correct.query == pytest.approx(2 * new.query)  # half of the budget is kept for the values
    assert correct.release == pytest.approx(2 * 2e-5 * 5 / 0.05)
    assert [(p.stops, p.clip_first) for p in (old, new, correct)] == [(False, False), (False, True), (True, True)]


def test_the_old_scales_have_no_bound() -> None:
    assert cost(plan(SvtParams(variant="nvflare-2.2"), 100)).epsilon == math.inf


@pytest.mark.parametrize(("fraction", "n", "q"), [(1e-9, 10, 1), (0.3, 10, 3), (0.31, 10, 4), (1.0, 10, 10)])
def test_the_fraction_is_rounded_up(fraction: float, n: int, q: int) -> None:
    assert plan(SvtParams(fraction=fraction), n).released == q
