"""The sparse vector technique against its claims: Monte Carlo on neighboring updates, in numpy alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from leakaudit_updates.accounting import Plan, claimed, cost, plan
from leakaudit_updates.params_svt import SvtParams
from leakaudit_updates.sparse_vector import release, select
from scipy.stats import beta

RUNS = 60_000
UP, DOWN, MIXED, QUIET = (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0)
PAIRS = [(UP, DOWN), (UP, (0.0, 0.0, 0.0)), (MIXED, QUIET), ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))]


def outcomes(update: tuple[float, ...], done: Plan, seed: int) -> Counter[int]:
    """Count what RUNS releases show: per entry 0 (not sent) or one of four intervals of its value, as digits."""
    rng = np.random.default_rng(seed)
    values = np.tile(np.array(update) * done.gamma, (RUNS, 1))
    chosen = select(values, done, rng)
    sent = release(values, chosen, done, rng)
    edge = done.gamma * (1 - 1e-9)
    digits = chosen * (1 + (sent >= -edge).astype(int) + (sent >= 0) + (sent >= edge))
    seen, counts = np.unique(digits @ 5 ** np.arange(len(update)), return_counts=True)
    return Counter(dict(zip(seen.tolist(), counts.tolist(), strict=True)))


def shown(a: tuple[float, ...], b: tuple[float, ...], done: Plan) -> float:
    """Return an epsilon that releases of `a` and `b` refute anything below of, at 99.9 % over all outcomes."""
    left, right = outcomes(a, done, 1), outcomes(b, done, 2)
    seen = left.keys() | right.keys()
    level = 0.001 / (4 * len(seen))

    def at_least(k: int) -> float:
        return float(beta.ppf(level, k, RUNS - k + 1)) if k else 0.0

    def at_most(k: int) -> float:
        return float(beta.ppf(1 - level, k + 1, RUNS - k))

    ratios = [at_least(x[o]) / at_most(y[o]) for o in seen for x, y in ((left, right), (right, left))]
    return float(np.log(max(ratios)))


@pytest.mark.parametrize(("fraction", "share", "epsilon"), [(1.0, 0.9, 2.0), (0.6, 0.5, 2.0), (0.3, 0.2, 3.0)])
def test_the_correct_technique_keeps_its_epsilon(fraction: float, share: float, epsilon: float) -> None:
    done = plan(SvtParams(fraction=fraction, release_share=share, epsilon=epsilon, tau=5e-6), 3)
    assert cost(done).epsilon == pytest.approx(epsilon)
    assert max(shown(a, b, done) for a, b in PAIRS) <= epsilon


def test_the_check_is_sharp_enough_to_catch_a_mistake() -> None:
    done = plan(SvtParams(fraction=1.0, release_share=0.9, epsilon=2.0), 3)
    assert shown(UP, DOWN, done) >= 1.6  # the release alone has 1.8
    # Without the factor q: what the public implementation of 2019 to 2025 did.
    assert shown(UP, DOWN, replace(done, release=done.release / done.released)) > 2 * cost(done).epsilon


def test_the_check_sees_what_selection_tells() -> None:
    done = replace(plan(SvtParams(fraction=0.3, release_share=0.1, epsilon=3.0), 3), query=1e-7, threshold=1e-7)
    assert shown((1.0, 0.0, 0.0), (0.0, 1.0, 1.0), done) > 3.0


def test_the_published_scales_of_2019_to_2025_break_their_claim() -> None:
    params = SvtParams(variant="nvflare-2.2", fraction=1.0, epsilon=0.1, noise_var=1.0)
    done, stated = plan(params, 3), claimed(params, 3)
    assert stated == pytest.approx(0.1 * (1 + 6 ** (2 / 3)) + 1.0)
    assert shown(UP, DOWN, done) > 1.5 * stated
    # Values are clipped after the noise, so that a large entry shines through: no epsilon holds at all.
    assert shown((100.0,) * 3, (-100.0,) * 3, done) > 4 * stated
    assert cost(done).epsilon == float("inf")


def test_the_scales_of_2026_cost_what_is_charged_and_more_than_the_parameter_epsilon() -> None:
    params = SvtParams(variant="nvflare-2.8", fraction=1.0, epsilon=0.1, noise_var=1.0)
    done = plan(params, 3)
    found = max(shown(a, b, done) for a, b in PAIRS)
    assert 20 * params.epsilon < found <= cost(done).epsilon
    assert cost(done).epsilon == pytest.approx(3.1)


ROW = np.array([[9.0, -8.0, 7.0, 6.0, 0.5, -0.25]]) * 1e-3


def quiet(fraction: float, **more: object) -> Plan:
    """A plan whose noise is too small to matter."""
    return replace(plan(SvtParams(fraction=fraction, gamma=1e-2, tau=1e-3), 6), threshold=1e-9, query=1e-9, release=1e-9, **more)


def test_without_noise_entries_above_the_threshold_are_chosen_at_random() -> None:
    rows = np.tile(ROW, (4000, 1))
    chosen = select(rows, quiet(0.5), np.random.default_rng(0))
    assert (chosen.sum(axis=1) == 3).all()
    assert chosen.mean(axis=0)[:4] == pytest.approx([0.75] * 4, abs=0.04)  # three of four, none preferred
    assert not chosen[:, 4:].any()


def test_selection_ends_where_too_few_entries_can_reach_the_threshold() -> None:
    chosen = select(ROW, quiet(1.0), np.random.default_rng(0))
    assert chosen.tolist() == [[True] * 4 + [False] * 2]
    nothing = select(ROW, replace(quiet(1.0), tau=1.0), np.random.default_rng(0))
    assert not nothing.any()
    assert not select(ROW, replace(quiet(1.0), tau=1.0, stops=False), np.random.default_rng(0)).any()


def test_published_variants_draw_with_replacement_and_so_send_less() -> None:
    rows = np.ones((2000, 100)) * 1e-3
    published = replace(plan(SvtParams(variant="nvflare-2.8", fraction=1.0), 100), query=1e-9, threshold=1e-9, tau=0.0)
    share = select(rows, published, np.random.default_rng(0)).mean()
    assert share == pytest.approx(1 - 0.99**100, abs=0.005)  # 63 %
    assert select(rows, replace(published, stops=True), np.random.default_rng(0)).all()


@pytest.mark.parametrize("clip_first", [True, False])
def test_values_are_clipped_before_or_after_the_noise(clip_first: bool) -> None:
    done = replace(quiet(1.0), gamma=5e-3, release=1e-3, clip_first=clip_first)
    chosen = np.array([[True, True, False, True, True, True]])
    sent = release(np.tile(ROW, (5000, 1)), np.tile(chosen, (5000, 1)), done, np.random.default_rng(0))
    assert not sent[:, 2].any()
    assert (np.abs(sent).max() <= 5e-3) == (not clip_first)
    if clip_first:
        assert sent[:, 0].mean() == pytest.approx(5e-3, abs=1e-4)
        assert np.abs(sent[:, 0] - 5e-3).mean() == pytest.approx(1e-3, rel=0.06)  # mean deviation of Laplace noise


@pytest.mark.parametrize(
    ("params", "cosine"), [({"variant": "nvflare-2.2"}, 0.106), ({"variant": "nvflare-2.8"}, 0.007), ({"epsilon": 10.0}, 0.0)]
)
def test_on_a_large_update_the_choice_ignores_magnitudes(params: dict[str, object], cosine: float) -> None:
    """The README's table, at a fifth of its size."""
    rng = np.random.default_rng(0)
    values = rng.normal(scale=1e-4, size=(1, 200_000))
    done = plan(SvtParams(**params), values.size)
    chosen = select(values, done, rng)
    sent = release(values, chosen, done, rng)
    assert np.corrcoef(np.abs(values[0]), chosen[0])[0, 1] == pytest.approx(0.0, abs=0.01)
    assert (values * sent).sum() / np.linalg.norm(values) / np.linalg.norm(sent) == pytest.approx(cosine, abs=0.01)
