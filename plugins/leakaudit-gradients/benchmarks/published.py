"""Published gradient inversions of classifiers, on images that ship with a dependency: one line for each row of VALIDATION.md.

    python plugins/leakaudit-gradients/benchmarks/published.py            every row
    python plugins/leakaudit-gradients/benchmarks/published.py "imprint"  rows whose name begins so

DLG (Zhu et al. 2019), iDLG (Zhao et al. 2020), Inverting Gradients (Geiping et al. 2020), several local passes (Dimitrov et al.
2022) and the imprint module (Fowl et al. 2022), driven through the package's own search. One thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from leakaudit_gradients.method import PRESETS, Method
from published_data import Scale, convnet, digits, lenet, photographs, trained, wide
from published_runs import Imprinted, attacked_sites, imprinted, sites
from published_search import Found, inverted, psnr_table
from torch import nn

__all__ = ["ROWS", "main", "row"]

_DLG, _COSINE = PRESETS["dlg"], PRESETS["inverting-gradients"]
_EUCLIDEAN = replace(_COSINE, objective="euclidean")
"""Inverting Gradients with the distance of DLG."""


def row(name: str) -> Found | Imprinted:
    """Return one row of `ROWS`; the same whichever were computed before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ROWS[name]()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows that are asked for, or all."""
    asked = sys.argv[1:] if arguments is None else arguments
    torch.set_num_threads(1)
    for name in ROWS:
        if not asked or name.startswith(tuple(asked)):
            start = time.process_time()
            print(f"{name}: {row(name)} | {time.process_time() - start:.0f} s", flush=True)
    return 0


def _photographs(
    build: Callable[[], nn.Sequential], method: Method, iterations: int, *, targets: int = 8, samples: int = 1
) -> Found:
    """Invert gradients of `targets` steps on `samples` photographs each."""
    network, scale = build(), Scale.of(photographs(200, 1, attacked=False)[0])
    x, labels = photographs(targets * samples, 0, attacked=True)
    return inverted(
        network, x.unflatten(0, (targets, samples)), labels.unflatten(0, (targets, samples)), scale,
        replace(method, iterations=iterations),
    )  # fmt: skip


def _mean_photograph() -> Found:
    x, mean = photographs(8, 0, attacked=True)[0], photographs(200, 1, attacked=False)[0].mean(dim=0)
    return Found(psnr=tuple(float(v) for v in psnr_table(mean[None], x)[0]), loss=())


def _mean_digit() -> Found:
    mean = digits(400, 99)[0].mean(dim=0)
    return Found(psnr=tuple(float(v) for v in psnr_table(mean[None], sites().x.flatten(0, 1))[0]), loss=())


def _passes(view: str, invariance: float = 0.0) -> Found:
    return attacked_sites(sites(), view, invariance)


def _wide() -> nn.Sequential:
    return wide(lenet())


def _kinked() -> nn.Sequential:
    return wide(lenet(nn.ReLU))


def _plain(steps: int = 0) -> nn.Sequential:
    """Return the LeNet with ReLU and PyTorch's own weights, after `steps` of training."""
    network = lenet(nn.ReLU)
    if steps:
        trained(network, steps, Scale.of(photographs(200, 1, attacked=False)[0]))
    return network


def _convnet() -> nn.Sequential:
    _wide()  # The next weights in one stream of random numbers.
    return convnet()


_learned = partial(_plain, 300)

ROWS: dict[str, Callable[[], Found | Imprinted]] = {
    "none, the mean photograph": _mean_photograph,
    "none, the mean digit": _mean_digit,
    "dlg, LeNet, sigmoid": partial(_photographs, _wide, _DLG, 1200),
    "dlg, LeNet, sigmoid, 300": partial(_photographs, _wide, _DLG, 300),
    "dlg, LeNet, sigmoid, batch of 4": partial(_photographs, _wide, _DLG, 1200, targets=2, samples=4),
    "dlg, LeNet, ReLU, 300": partial(_photographs, _kinked, _DLG, 300),
    "cosine, LeNet, sigmoid, 300": partial(_photographs, _wide, _COSINE, 300),
    "cosine, LeNet, ReLU, 300": partial(_photographs, _kinked, _COSINE, 300),
    "cosine, LeNet, ReLU, plain weights, 2400": partial(_photographs, _plain, _COSINE, 2400),
    "cosine, LeNet, ReLU, trained, 2400": partial(_photographs, _learned, _COSINE, 2400),
    "euclidean, LeNet, ReLU, plain weights, 2400": partial(_photographs, _plain, _EUCLIDEAN, 2400),
    "euclidean, LeNet, ReLU, trained, 2400": partial(_photographs, _learned, _EUCLIDEAN, 2400),
    "dlg, LeNet, ReLU, plain weights, 1200": partial(_photographs, _plain, _DLG, 1200),
    "dlg, LeNet, ReLU, trained, 1200": partial(_photographs, _learned, _DLG, 1200),
    "dlg, ConvNet, 1200": partial(_photographs, _convnet, _DLG, 1200, targets=4),
    "cosine, ConvNet, 600": partial(_photographs, _convnet, _COSINE, 600, targets=4),
    "cosine, ConvNet, 4000": partial(_photographs, _convnet, _COSINE, 4000, targets=4),
    "passes, one gradient": partial(_passes, "one gradient"),
    "passes, simulated as in one order": partial(_passes, "one order"),
    "passes, simulated, invariance 0": partial(_passes, "passes"),
    "passes, simulated, invariance 1": partial(_passes, "passes", 1.0),
    "imprint, 64 images, 128 bins": imprinted,
}
"""What is measured, by name."""

if __name__ == "__main__":
    raise SystemExit(main())
