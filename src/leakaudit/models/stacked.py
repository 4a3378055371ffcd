"""Many models of one task trained at once: their parameters stacked, one vectorized step for all of them.

Model m of a stack learns exactly what it learns alone from the same batches (up to the rounding of a batched convolution, and
but for dropout: each model drops other channels, drawn from one global stream for the whole stack). A part of the network may
take the steps of DP-SGD (`stacked_private`), computed as vmap over models of vmap over samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from leakaudit.models.footprint import bare, footprint, stack_size
from leakaudit.models.params import TrainingParams
from leakaudit.models.stacked_private import Batch, PrivatePart, noised
from leakaudit.models.task import Task, Tensors

__all__ = ["PrivatePart", "Stack", "footprint", "stack_size"]

Moments = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
"""First and second moments of every parameter of a stack, and the steps each model has taken."""


class Stack:
    """Models of one task under training.

    Args:
        task: The task; its network keeps no running statistics.
        training: Optimizer and learning rate.
        states: Initial parameters of each model, by name.
        private: Parts that take noised steps; parts do not overlap.
        expected_units: Expected number of units in a batch of each model; needed with private parts.
        noise: Each model's source of noise, on the CPU; needed with private parts.
        network: What is computed with, by default the task's network. It has the same parameters, and may do more, such as
            change what a part of it hands on.
        penalties: Gives what the last pass of the network adds to the mean loss of its batch: scalars. In a stack of several
            models, a batch is filled up with rows that do not count, which a penalty sees; private parts take steps without it.
    """

    def __init__(
        self, task: Task, training: TrainingParams, states: Sequence[Tensors], *, private: Sequence[PrivatePart] = (),
        expected_units: Sequence[float] = (), noise: Sequence[torch.Generator] = (), network: nn.Module | None = None,
        penalties: Callable[[], Sequence[Tensor]] = tuple,
    ) -> None:  # fmt: skip
        self._task, self._training, self._private = task, training, tuple(private)
        self.values = {k: torch.stack([s[k].detach() for s in states]) for k in states[0]}
        self._device = next(iter(self.values.values())).device
        self._count, self._noise, self._penalties = len(states), tuple(noise), penalties
        self.expect(expected_units)
        self._net = (bare(task) if network is None else network.train()).to(self._device)
        if any(True for _ in self._net.buffers()):
            raise ValueError("models that keep buffers beside their weights (batch normalization) cannot be stacked")
        self.restart()

    def restart(self) -> None:
        """Forget the optimizer's moments."""
        self._first = {k: torch.zeros_like(v) for k, v in self.values.items()}
        self._second = {k: torch.zeros_like(v) for k, v in self.values.items()}
        # Steps that each model's parameter has taken: a model may sit one out.
        self._taken = {k: torch.zeros(self._count, dtype=torch.float64, device=self._device) for k in self.values}

    def expect(self, units: Sequence[float]) -> None:
        """Set the expected number of units in a batch of each model: that of the site it is at."""
        self._expected = torch.tensor(list(units), dtype=torch.float32, device=self._device)

    def moments(self) -> Moments:
        """Return what the optimizer remembers, to be taken up again with `resume`."""
        return dict(self._first), dict(self._second), {k: t.clone() for k, t in self._taken.items()}

    def resume(self, moments: Moments) -> None:
        """Take up what `moments` returned."""
        first, second, taken = moments
        self._first, self._second, self._taken = dict(first), dict(second), {k: t.clone() for k, t in taken.items()}

    def step(
        self, x: Tensor, y: Tensor, rows: Sequence[Sequence[int] | None], units: Sequence[int] | None = None, *, rate: float = 1.0
    ) -> None:
        """Take one step with every model on a batch of its own.

        Args:
            x: Images (n, modalities, *spatial).
            y: Region masks (n, regions, *spatial).
            rows: Rows of each model's batch. None: the model takes no step. Empty: private parts take a step of noise alone,
                others none.
            units: Index of the unit behind every row of `x`, as private parts clip them; default every row is its own.
            rate: Factor on the learning rate.
        """
        batch = Batch.of(rows, units, self._device)
        filled = batch.real.any(dim=1)
        if not (self._private or filled.any()):
            return  # nobody learns anything, and a penalty is not asked about rows that nobody drew
        everyone = bool((batch.steps & filled).all())
        for name, gradient in self._gradients(x, y, batch).items():
            moves = batch.steps if self._part(name) is not None else batch.steps & filled
            self._move(name, gradient, None if everyone else moves, rate * self._training.learning_rate)

    def states(self) -> list[dict[str, Tensor]]:
        """Return the parameters of each model, by name, on the CPU."""
        return [{k: v[m].detach().cpu().clone() for k, v in self.values.items()} for m in range(self._count)]

    def _gradients(self, x: Tensor, y: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the gradient of every parameter, shape (models, *parameter); private ones noised."""
        images, masks, weight = x[batch.rows], y[batch.rows], batch.real.to(x.dtype)
        if not self._private:
            if self._count == 1:
                return self._alone(images[0], masks[0], weight[0])
            return dict(vmap(grad(self._mean), randomness="different")(self.values, images, masks, weight))
        each = vmap(vmap(grad(self._single), in_dims=(None, 0, 0), randomness="different"), randomness="different")(
            self.values, images, masks
        )
        found: dict[str, Tensor] = {}
        for part in self._private:
            mine = {k: g for k, g in each.items() if self._part(k) == part}
            found |= noised(part, mine, batch, self._expected, self._noise)
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1)
        plain = {k: torch.einsum("mb,mb...->m...", share, g) for k, g in each.items() if k not in found}
        # In the order of the parameters, in which noise is drawn too.
        return {k: (found | plain)[k] for k in self.values}

    def _alone(self, x: Tensor, y: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return the gradients of the only model, spared the cost of batched operations."""
        values = {k: v[0].detach().requires_grad_() for k, v in self.values.items()}
        # A defense may have put a layer behind a level that is not sent: nothing is learned there.
        gradients = torch.autograd.grad(self._mean(values, x, y, weight), list(values.values()), materialize_grads=True)
        return {k: g.unsqueeze(0) for k, g in zip(values, gradients, strict=True)}

    def _part(self, name: str) -> PrivatePart | None:
        return next((part for part in self._private if name.startswith(part.prefix)), None)

    def _mean(self, values: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        losses = self._task.loss(functional_call(self._net, values, (x,)), y)
        mean = (losses * weight).sum() / weight.sum().clamp_min(1)
        for penalty in self._penalties():
            mean = mean + penalty
        return mean

    def _single(self, values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return self._task.loss(functional_call(self._net, values, (x.unsqueeze(0),)), y.unsqueeze(0))[0]

    def _move(self, name: str, g: Tensor, moves: Tensor | None, rate: float) -> None:
        """Take the optimizer's step with those models that move (None: all); the formulas are those of `SegmentationTask.local`."""
        shape = (-1, *[1] * (g.dim() - 1))
        p, m, v, second = self.values[name], self._first[name], self._second[name], self._second[name]
        self._taken[name] += 1 if moves is None else moves
        if self._training.weight_decay:
            g = g + self._training.weight_decay * p
        if self._training.optimizer == "sgd":
            first = self._training.momentum * m + g
            moved = p - rate * first
        else:
            first, second = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            count = self._taken[name].clamp_min(1)
            unbiased = [(1 - b**count).to(p.dtype).reshape(shape) for b in (0.9, 0.999)]
            moved = p - rate * (first / unbiased[0]) / ((second / unbiased[1] + 1e-30).sqrt() + 1e-8)
        if moves is not None:
            here = moves.reshape(shape)
            moved, first, second = (torch.where(here, new, old) for new, old in ((moved, p), (first, m), (second, v)))
        self.values[name], self._first[name], self._second[name] = moved, first, second
