"""Whether a network can be protected: validators first, then two dry runs, because validators pass what then crashes.

The dry runs hold the network to what DP-SGD rests on: every parameter has per-sample gradients, they add up to the gradient,
and the first row's outputs and gradients stay the same when the second row is another one (the idea of re:cord-play,
arXiv 2602.17454: play two neighboring inputs with the same randomness and compare).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leakaudit.errors import UserError
from leakaudit_dp.library import GradSampleModule, ModuleValidator

__all__ = ["check", "mend"]

_SIDES = (16, 32)
_CLOSE = 1e-3
"""Largest relative difference taken for rounding."""


def mend(module: nn.Module) -> list[str]:
    """Switch off in-place activations, which per-sample gradients cannot pass; return the names of the layers changed."""
    changed = [name for name, layer in module.named_modules() if getattr(layer, "inplace", False) is True]
    for name in changed:
        module.get_submodule(name).inplace = False  # type: ignore[assignment]
    return changed


def check(module: nn.Module, shape: Sequence[int]) -> None:
    """Prove on a copy that the gradient of each row can be computed and depends on that row alone.

    Args:
        module: The network, after `mend`.
        shape: Shape of one input row, (channels, *spatial); empty to guess it from the first convolution.

    Raises:
        UserError: It cannot be protected; the message names the layer.
    """
    _validate(module)
    network = copy.deepcopy(module).train()
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        draw = torch.Generator().manual_seed(0)
        first, second, third = torch.randn(3, *_row_shape(network, shape), generator=draw).to(device)
        play = _Play(network)
        one = play.run(torch.stack([first, second]))
        two = play.run(torch.stack([first, 3 * third + 1]))
    for name, output in one.outputs.items():
        if name in two.outputs and not _close(output, two.outputs[name]):
            raise _refusal(
                module, name, "(or what feeds it) mixes the samples of a batch, so that no patient's gradient can be bounded"
            )
    for name, gradient in one.first_row.items():
        if not _close(gradient, two.first_row[name]):
            raise _refusal(module, _owner(name), "gives a sample gradients that depend on the other samples of its batch")


def _validate(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        # Asked layer by layer, because Opacus' errors do not say which layer they mean.
        validator = ModuleValidator.VALIDATORS.get(type(layer))
        errors = validator(layer) if validator else []
        if errors:
            raise _refusal(module, name, f"is refused by Opacus: {_first_sentence(errors[0])}")
        if any(p.requires_grad for p in layer.parameters(recurse=False)) and any(True for _ in layer.buffers()):
            raise _refusal(
                module, name, "keeps buffers beside its weights, which Opacus does not support: no noise would cover them"
            )


def _row_shape(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a small row that the module takes."""
    convolution = next((m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    if not shape and convolution is None:
        raise UserError(
            f"dp-sgd cannot try out a {type(module).__name__}: it does not begin with a convolution and the protocol does not "
            "say what its input looks like, so nothing would prove that it can be protected."
        )
    channels = shape[0] if shape else convolution.in_channels  # type: ignore[union-attr]
    dims = len(shape) - 1 if shape else len(convolution.kernel_size)  # type: ignore[union-attr]
    candidates = [(channels, *[side] * dims) for side in _SIDES] + ([tuple(shape)] if shape else [])
    reason: Exception | None = None
    for candidate in candidates:
        try:
            with torch.no_grad():
                module(torch.zeros(2, *candidate, device=next(module.parameters()).device))
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            reason = error
        else:
            return candidate
    raise UserError(
        f"dp-sgd could not run the {type(module).__name__} on a batch of shape (2, {', '.join(map(str, candidates[-1]))}): "
        f"{_first_sentence(reason)}"
    )


class _Run:
    """What one dry run left: the first row's output of every layer, and of every parameter the first row's gradient."""

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.first_row: dict[str, Tensor] = {}


class _Play:
    """Runs a network with per-sample gradients and knows which layer it is in when something breaks."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.hooked = GradSampleModule(network, loss_reduction="mean", strict=False)
        self._inside: list[str] = []
        self._run = _Run()
        for name, layer in network.named_modules():
            layer.register_forward_pre_hook(lambda layer, given, name=name: self._inside.append(name))
            layer.register_forward_hook(lambda layer, given, out, name=name: self._leave(name, out))

    def _leave(self, name: str, out: object) -> None:
        self._inside.pop()
        for tensor in _tensors(out):
            self._run.outputs.setdefault(name, tensor[:1].detach().clone())

    def run(self, x: Tensor) -> _Run:
        """Run a batch forward and backward, with the same randomness each time."""
        self._run = run = _Run()
        torch.manual_seed(0)
        self.hooked.zero_grad(set_to_none=True)
        try:
            outputs = [out for out in _tensors(self.hooked(x)) if out.requires_grad]
            # A batch mean of per-sample losses, as every party's loss is.
            sum((out.float() ** 2).flatten(1).mean(dim=1) for out in outputs).mean().backward()  # type: ignore[union-attr]
        except (RuntimeError, ValueError, IndexError, NotImplementedError) as error:
            where = self._inside[-1] if self._inside else _reached(self.network)
            hint = "; an operation in place such as `x += y` must become `x = x + y`" if "inplace" in str(error) else ""
            problem = f"cannot be run with per-sample gradients ({_first_sentence(error)}){hint}"
            raise _refusal(self.network, where, problem) from error
        for name, p in self.network.named_parameters():
            if p.requires_grad:
                run.first_row[name] = self._first(name, p)
        return run

    def _first(self, name: str, p: Any) -> Tensor:
        if not isinstance(p.grad_sample, Tensor):
            raise _refusal(self.network, _owner(name), f"gives no per-sample gradient for its {name.rsplit('.', 1)[-1]!r}")
        if not _close(p.grad_sample.mean(dim=0), p.grad):
            raise _refusal(self.network, _owner(name), "has per-sample gradients that do not add up to its gradient")
        first: Tensor = p.grad_sample[0].clone()
        return first


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Iterable):
        for item in value:
            yield from _tensors(item)


def _reached(network: nn.Module) -> str:
    # The backward pass goes from the last layer to the first: it broke before the last one that has no gradients yet.
    waiting = [_owner(name) for name, p in network.named_parameters() if getattr(p, "grad_sample", None) is None]
    return waiting[-1] if waiting else ""


def _close(a: Tensor, b: Tensor) -> bool:
    size = max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 0.0
    return a.shape == b.shape and (a.numel() == 0 or float((a - b).abs().max()) <= _CLOSE * size + 1e-7)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _first_sentence(error: object) -> str:
    return str(error).split(". ")[0].split("\n")[0].strip().rstrip(".")


def _refusal(module: nn.Module, name: str, problem: str) -> UserError:
    layer = module.get_submodule(name)
    where = f"layer {name!r} ({type(layer).__name__})" if name else f"the network itself ({type(layer).__name__})"
    return UserError(f"dp-sgd cannot protect this network: {where} {problem}.")
