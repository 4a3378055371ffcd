"""Batched L-BFGS: each target as if it were alone, and as good as torch's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from leakaudit_gradients.lbfgs import Evaluate, minimize
from torch import Tensor

Functions = Callable[[Tensor, Tensor], Tensor]


def evaluate(functions: Functions) -> Evaluate:
    """Give values and gradients of functions (points (k, d), targets (k,)) -> (k,)."""

    def values(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        z = points.clone().requires_grad_()
        value = functions(z, rows)
        (gradient,) = torch.autograd.grad(value.sum(), z)
        return value.detach(), gradient

    return values


def rosenbrock(x: Tensor, _rows: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)


def by_torch(function: Callable[[Tensor], Tensor], start: Tensor, evaluations: int) -> tuple[Tensor, int]:
    x, calls = start.clone().requires_grad_(), 0
    optimizer = torch.optim.LBFGS(
        [x], max_iter=evaluations, max_eval=evaluations, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=1e-9,
        tolerance_change=0,
    )  # fmt: skip

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        value = function(x)
        value.backward()
        return value

    optimizer.step(closure)
    return x.detach(), calls


STARTS = torch.tensor([[-1.2, 1.0], [2.0, 2.0], [0.0, 0.0], [-3.0, -4.0]], dtype=torch.float64)


def test_rosenbrock_is_solved_with_about_as_many_evaluations_as_torch_takes() -> None:
    found = minimize(evaluate(rosenbrock), STARTS, evaluations=200, tolerance=1e-9)
    assert torch.allclose(found.points, torch.ones_like(STARTS), atol=1e-8)
    for start, taken in zip(STARTS, found.evaluations, strict=True):
        x, calls = by_torch(lambda p: rosenbrock(p[None], torch.zeros(1))[0], start, 200)
        assert torch.allclose(x, torch.ones(2, dtype=torch.float64), atol=1e-8)
        assert int(taken) <= 1.5 * calls


def test_a_quadratic_is_solved_as_torch_solves_it() -> None:
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 20, 20, dtype=torch.float64, generator=generator)
    hessians = roots @ roots.mT + 0.1 * torch.eye(20, dtype=torch.float64)
    truth = torch.randn(3, 20, dtype=torch.float64, generator=generator)

    def quadratic(x: Tensor, rows: Tensor) -> Tensor:
        off = x - truth[rows]
        return torch.einsum("ki,kij,kj->k", off, hessians[rows], off) / 2

    found = minimize(evaluate(quadratic), torch.zeros_like(truth), evaluations=200, tolerance=1e-9)
    assert torch.allclose(found.points, truth, atol=1e-7)
    for i in range(3):
        x, calls = by_torch(lambda p, i=i: quadratic(p[None], torch.tensor([i]))[0], torch.zeros(20, dtype=torch.float64), 200)
        assert torch.allclose(x, truth[i], atol=1e-7)
        assert int(found.evaluations[i]) <= 1.5 * calls


def test_a_target_of_a_batch_goes_the_way_it_goes_alone() -> None:
    together = minimize(evaluate(rosenbrock), STARTS, evaluations=25)
    for i in range(len(STARTS)):
        alone = minimize(evaluate(rosenbrock), STARTS[i : i + 1], evaluations=25)
        assert torch.allclose(together.points[i], alone.points[0], rtol=1e-9, atol=1e-12)
        assert together.evaluations[i] == alone.evaluations[0]


def test_a_target_whose_function_is_undefined_somewhere_stays_where_it_is_defined() -> None:
    def logarithm(x: Tensor, _rows: Tensor) -> Tensor:
        return (x - x.log()).sum(dim=1)

    start = torch.tensor([[1e-3], [0.5]], dtype=torch.float64)
    found = minimize(evaluate(logarithm), start, evaluations=60, tolerance=1e-10)
    assert torch.allclose(found.points, torch.ones_like(start), atol=1e-8)


def test_a_target_without_a_finite_value_stops_and_disturbs_nobody() -> None:
    def broken(x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(rows == 0, torch.nan, rosenbrock(x, rows))

    found = minimize(evaluate(broken), STARTS[:2], evaluations=100, tolerance=1e-9)
    assert torch.equal(found.points[0], STARTS[0])
    assert int(found.evaluations[0]) == 1
    assert torch.allclose(found.points[1], torch.ones(2, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize("budget", [1, 7])
def test_nobody_takes_more_than_the_budget(budget: int) -> None:
    assert minimize(evaluate(rosenbrock), STARTS, evaluations=budget).evaluations.tolist() == [budget] * len(STARTS)
