"""Many models of one task trained at once: their parameters stacked, one vectorized step for all of them.

Model m of a stack learns exactly what it learns alone from the same batches (up to the rounding of a batched convolution, and
but for dropout: each model drops other channels, drawn from one global stream for the whole stack). A part of the network may
take the steps of DP-SGD: gradients of each unit clipped, noise added to their sum (Abadi et al. 2016, arXiv 1607.00133),
computed as vmap over models of vmap over samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from leakaudit.models.params import TrainingParams
from leakaudit.models.task import Task, Tensors

__all__ = ["PrivatePart", "Stack", "footprint", "stack_size"]

_BUDGET = {"cpu": 2**26}
"""Bytes that one stack may take, roughly: on a CPU, batched convolutions that outgrow its caches are slower than single ones."""
_ELSEWHERE = 2**32

Moments = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
"""First and second moments of every parameter of a stack, and the steps each model has taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePart:
    """Parameters that take noised steps, clipped as one vector.

    Attributes:
        prefix: What their names begin with; empty for the whole network.
        clip: L2 norm to which each unit's gradient is clipped.
        noise: Standard deviation of the noise over the clip norm.
    """

    prefix: str
    clip: float
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """One batch of every model: rows (models, batch) padded to one length, what is real of them, and the unit behind each."""

    rows: Tensor
    real: Tensor
    units: Tensor
    steps: Tensor = field(repr=False)


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
    """

    def __init__(
        self, task: Task, training: TrainingParams, states: Sequence[Tensors], *, private: Sequence[PrivatePart] = (),
        expected_units: Sequence[float] = (), noise: Sequence[torch.Generator] = (), network: nn.Module | None = None,
    ) -> None:  # fmt: skip
        self._task, self._training, self._private = task, training, tuple(private)
        self.values = {k: torch.stack([s[k].detach() for s in states]) for k in states[0]}
        self._device = next(iter(self.values.values())).device
        self._count, self._noise = len(states), tuple(noise)
        self.expect(expected_units)
        self._net = (_bare(task) if network is None else network.train()).to(self._device)
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
        batch = self._batch(rows, units)
        filled = batch.real.any(dim=1)
        everyone = bool((batch.steps & filled).all())
        for name, gradient in self._gradients(x, y, batch).items():
            moves = batch.steps if self._part(name) is not None else batch.steps & filled
            self._move(name, gradient, None if everyone else moves, rate * self._training.learning_rate)

    def states(self) -> list[dict[str, Tensor]]:
        """Return the parameters of each model, by name, on the CPU."""
        return [{k: v[m].detach().cpu().clone() for k, v in self.values.items()} for m in range(self._count)]

    def _batch(self, rows: Sequence[Sequence[int] | None], units: Sequence[int] | None) -> _Batch:
        longest = max([len(r) for r in rows if r is not None] + [1])
        index = torch.zeros(self._count, longest, dtype=torch.long)
        real, slots = torch.zeros(self._count, longest, dtype=torch.bool), torch.zeros(self._count, longest, dtype=torch.long)
        for m, taken in enumerate(rows):
            if taken:
                index[m, : len(taken)] = torch.tensor(taken)
                real[m, : len(taken)] = True
                names = taken if units is None else [units[row] for row in taken]
                slot = {name: i for i, name in enumerate(dict.fromkeys(names))}
                # A row that is drawn twice in one batch counts twice where every row is its own unit.
                slots[m, : len(taken)] = torch.tensor([i if units is None else slot[name] for i, name in enumerate(names)])
        steps = torch.tensor([taken is not None for taken in rows])
        return _Batch(**{k: t.to(self._device) for k, t in {"rows": index, "real": real, "units": slots, "steps": steps}.items()})

    def _gradients(self, x: Tensor, y: Tensor, batch: _Batch) -> dict[str, Tensor]:
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
            found |= self._noised(part, {k: g for k, g in each.items() if self._part(k) == part}, batch)
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1)
        plain = {k: torch.einsum("mb,mb...->m...", share, g) for k, g in each.items() if k not in found}
        # In the order of the parameters, in which noise is drawn too.
        return {k: (found | plain)[k] for k in self.values}

    def _alone(self, x: Tensor, y: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return the gradients of the only model, spared the cost of batched operations."""
        values = {k: v[0].detach().requires_grad_() for k, v in self.values.items()}
        gradients = torch.autograd.grad(self._mean(values, x, y, weight), list(values.values()))
        return {k: g.unsqueeze(0) for k, g in zip(values, gradients, strict=True)}

    def _noised(self, part: PrivatePart, each: dict[str, Tensor], batch: _Batch) -> dict[str, Tensor]:
        """Return clipped sums over units with noise, over the expected number of units.

        Args:
            part: The parameters' part.
            each: Gradients of every row, shape (models, batch, *parameter).
            batch: Which rows are real, and the unit behind each.
        """
        models, longest = batch.real.shape
        place = (batch.units + longest * torch.arange(models, device=batch.units.device).unsqueeze(1)).flatten()
        sums = {}
        for name, g in each.items():
            rows = g.where(batch.real.reshape(models, longest, *[1] * (g.dim() - 2)), 0).flatten(0, 1)
            # Added row by row: a matrix of zeros and ones would spread one row's infinity over all units.
            sums[name] = torch.zeros_like(rows).index_add_(0, place, rows).unflatten(0, (models, longest))
        norms = torch.stack([g.reshape(models, longest, -1).norm(dim=2) for g in sums.values()]).norm(dim=0)
        factor = (part.clip / (norms + 1e-6)).clamp(max=1.0)
        finite = torch.isfinite(norms)
        sums = {k: g.where(finite.reshape(models, longest, *[1] * (g.dim() - 2)), 0) for k, g in sums.items()}
        factor = factor.where(finite, 0)
        clipped = {k: torch.einsum("mu,mu...->m...", factor, g) for k, g in sums.items()}
        return {k: self._per_unit(g + part.noise * part.clip * self._draw(g, batch.steps)) for k, g in clipped.items()}

    def _per_unit(self, total: Tensor) -> Tensor:
        return total / self._expected.reshape(-1, *[1] * (total.dim() - 1))

    def _draw(self, like: Tensor, steps: Tensor) -> Tensor:
        """Return standard normal noise, each model's from its own stream and only where it takes a step."""
        drawn = [
            torch.randn(like.shape[1:], generator=source) if taken else torch.zeros(like.shape[1:])
            for source, taken in zip(self._noise, steps.tolist(), strict=True)
        ]
        return torch.stack(drawn).to(like)

    def _part(self, name: str) -> PrivatePart | None:
        return next((part for part in self._private if name.startswith(part.prefix)), None)

    def _mean(self, values: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        losses = self._task.loss(functional_call(self._net, values, (x,)), y)
        return (losses * weight).sum() / weight.sum().clamp_min(1)

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


def stack_size(task: Task, sample: Tensor, batch: int, *, private: bool, device: torch.device, most: int) -> int:
    """Return how many models are trained at once: as many as fit the device, at least one and at most `most`.

    It depends on no clock and no free memory, so that the same plan gives the same numbers. Arguments as in `footprint`.
    """
    budget = _BUDGET.get(device.type, _ELSEWHERE)
    return max(1, min(most, budget // footprint(task, sample, batch, private=private)))


def footprint(task: Task, sample: Tensor, batch: int, *, private: bool) -> int:
    """Return the bytes that one model of a stack needs for a step, roughly: parameters, moments, gradients, activations.

    Args:
        task: The task.
        sample: One image (1, modalities, *spatial).
        batch: Rows in a batch.
        private: Whether gradients of every row are kept.
    """
    net = _bare(task)
    outputs: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: outputs.append(out.numel() * out.element_size()))
        for layer in net.modules()
        if not any(True for _ in layer.children())
    ]
    with torch.no_grad():
        net(sample.to("cpu"))
    for hook in hooks:
        hook.remove()
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    # Kept for the backward pass, once more as gradients, and copies of the images that layers rearrange.
    return weights * (8 + (3 * batch if private else 0)) + 3 * batch * sum(outputs)


def _bare(task: Task) -> nn.Module:
    """Return the task's network in training mode, for its shape alone; the global stream stays untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return task.build().train()
