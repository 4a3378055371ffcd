"""The numerics of the learned map: ridge in the dual form, what is left out, sketches, made-up sites."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from leakaudit_gradients.inverter_map import fit, held_out
from leakaudit_gradients.inverter_sketch import Sketch, made_up
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def data(n: int = 30, d: int = 7, p: int = 5, noise: float = 0.5) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, d)) * rng.uniform(0.1, 10, d) + 3
    return x, x @ rng.standard_normal((d, p)) + noise * rng.standard_normal((n, p)) + 2


def primal(x: Floats, y: Floats, penalty: float, at: Floats) -> Floats:
    """Ridge with an unpenalized intercept, solved for the coefficients."""
    mean, offset = x.mean(axis=0), y.mean(axis=0)
    a = x - mean
    return (at - mean) @ np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ (y - offset)) + offset


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("d", [7, 50], ids=["tall", "wide"])
def test_the_dual_ridge_is_the_primal_one(ridge: float, d: int) -> None:
    x, y = data(n=40, d=d)
    x, y, at = x[:30], y[:30], x[30:]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    # The penalty is in units of a sample's mean square, which is the number of features once they are standardized.
    expected = primal(z, y, ridge * d, (at - x.mean(axis=0)) / x.std(axis=0))
    assert np.allclose(fit(x, y, range(30), [ridge])(at), expected, rtol=1e-8, atol=1e-8)


def test_what_is_left_out_is_what_learning_without_it_misses() -> None:
    x, y = data(n=12)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    power, basis = np.linalg.eigh(x @ x.T)
    power = np.maximum(power, 0)
    groups = [0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 7]
    found = held_out(basis, power / (power + 2.0), y, groups)
    for group in set(groups):
        out = np.array(groups) == group
        assert np.allclose(found[out], y[out] - primal(x[~out], y[~out], 2.0, x[out]))


def test_the_ridge_fits_the_noise_and_patients_are_left_out_whole() -> None:
    x, y = data(noise=0.0)
    clean = fit(x, y, range(30))
    assert clean.ridge == 1e-4
    assert clean.explained > 0.999
    rng = np.random.default_rng(1)
    nothing = fit(x, rng.standard_normal((30, 5)), range(30))
    assert nothing.ridge >= 10
    assert nothing.explained < 0.1
    # Each patient twice, with features that tell patients apart and nothing else: only leaving both out shows it.
    wide = np.repeat(rng.standard_normal((15, 200)), 2, axis=0) + 0.01 * rng.standard_normal((30, 200))
    twice = np.repeat(rng.standard_normal((15, 5)), 2, axis=0)
    assert fit(wide, twice, range(30)).explained > 0.9
    assert fit(wide, twice, np.repeat(range(15), 2).tolist()).explained < 0.1


def test_features_that_hardly_ever_move_decide_nothing() -> None:
    x, y = data()
    rare = np.column_stack([x, np.full(30, 1.0), 1e-12 * np.arange(30)])
    rare[3, 7] += 1e-3
    learned, plain = fit(rare, y, range(30)), fit(x, y, range(30))
    moved, rounded = rare[:3].copy(), rare[:3].copy()
    moved[:, 7] += 1.0
    rounded[:, 8] += 1.0
    assert np.abs(learned(moved) - plain(x[:3])).max() < np.abs(y - y.mean(axis=0)).max()
    assert np.array_equal(learned(rounded), learned(rare[:3]))


def test_a_sketch_keeps_small_tensors_and_inner_products() -> None:
    draw = torch.Generator().manual_seed(0)
    updates = {"large": torch.randn(3, 200, 50, generator=draw), "a": torch.randn(3, 4, generator=draw)}
    updates["large"][1] += updates["large"][0]
    sketch = Sketch({name: tensor[0] for name, tensor in updates.items()}, 4000, torch.Generator().manual_seed(1))
    short = sketch(updates)
    assert short.shape == (3, 4004)
    assert torch.equal(short[:, :4], updates["a"])
    flat, kept = updates["large"].flatten(1), short[:, 4:]
    assert torch.allclose(kept @ kept.T / 10000, flat @ flat.T / 10000, atol=0.15)
    assert torch.allclose(sketch({n: 2 * t for n, t in updates.items()}), 2 * short)


@pytest.mark.parametrize("samples", [1, 3, 30])
def test_no_patient_is_in_two_folds(samples: int) -> None:
    patients = [f"p{i // 2}" for i in range(24)]
    made = made_up(patients, samples, 2, torch.Generator().manual_seed(0))
    assert made.rows.shape == (48, samples)
    assert made.rows[:, 0].tolist() == list(range(24)) * 2
    fold: dict[str, int] = {}
    for rows, number in zip(made.rows.tolist(), made.folds, strict=True):
        assert len(set(rows)) == min(samples, patients_in(made.folds, number))
        for row in rows:
            assert fold.setdefault(patients[row], number) == number
    assert len(set(made.folds)) == (12 if samples == 1 else 2)


def patients_in(folds: tuple[int, ...], number: int) -> int:
    """Samples of a fold, of which every one begins two sites."""
    return folds.count(number) // 2
