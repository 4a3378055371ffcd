"""The experiment of the demonstration of Carlini et al. (S&P 2022), on images that come with the dependencies.

Their CIFAR-10 must be downloaded. In its place digits that Pillow's font draws are told apart, and phantoms are segmented.
Models are trained as the engine trains shadow models, and each is attacked in turn with the others, by the package's formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from leakaudit_membership.gauge import Averages, in_order
from leakaudit_membership.likelihood import expected_probability, lira, pairwise
from leakaudit_membership.shadows import logit_confidence
from leakaudit_membership.signals import cross_entropy
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, stats
from torch import Tensor, nn

from leakaudit.cohorts.cohort import regions
from leakaudit.cohorts.phantom.dataset import Phantom
from leakaudit.cohorts.phantom.params import PhantomParams
from leakaudit.engine.cells.shadows import deal
from leakaudit.models import SegmentationTask
from leakaudit.models.stacked import Stack, stack_size
from leakaudit.protocols.schedule import Sampler, Sampling
from leakaudit.scoring.membership import auc

Floats = NDArray[np.float64]
Inside = NDArray[np.bool_]
Figures = dict[str, NDArray[np.float64]]
"""By score: AUC and TPR at 1 % and .1 % FPR of every victim, (victims, 3)."""

CPU = torch.device("cpu")
MODELS = 18
"""Each is attacked with those 16 that are neither itself nor trained on the other half of the candidates: 8 with each candidate, 8
without, so that no count of models tells who was a member."""
LOSS, ONLINE, ONLINE_EACH = "global threshold", "LiRA online, fixed variance", "LiRA online"
OFFLINE, OFFLINE_EACH, RMIA_ONLINE = "LiRA offline, fixed variance", "LiRA offline", "RMIA online"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an adversary has.

    Attributes:
        logits: log(p / (1 - p)) by model, of the candidates and then of the population, (models, candidates + population).
        losses: What a threshold is put on, (models, candidates).
        inside: Whether a model was trained on a candidate, (models, candidates).
    """

    logits: Floats
    losses: Floats
    inside: Inside


class DigitTask(SegmentationTask):
    """Telling digits apart, in the place of segmentation."""

    def build(self) -> nn.Module:
        """Return three linear layers."""
        return nn.Sequential(nn.Flatten(), nn.Linear(196, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of each digit."""
        return F.cross_entropy(logits, y, reduction="none")


def drawn(number: int, rng: np.random.Generator) -> NDArray[Any]:
    """Draw a digit, 14 x 14: at four times the size, slanted, turned, moved and bent, shrunk, with noise."""
    big = Image.new("L", (56, 56))
    font = ImageFont.load_default(rng.uniform(42, 53))
    ImageDraw.Draw(big).text((28, 28), str(number), fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(0, 2)))
    turn, slant = rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.4)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn) + slant, np.cos(turn)]])
    grid = np.stack(np.mgrid[:56, :56]).reshape(2, -1) - 27.5
    bend = np.stack([ndimage.zoom(rng.standard_normal((5, 5)), 56 / 5, order=3) for _ in range(2)]).reshape(2, -1)
    places = matrix @ grid + 27.5 + rng.uniform(-4, 4, (2, 1)) + bend
    small = ndimage.map_coordinates(np.asarray(big) / 255, places, order=1).reshape(14, 4, 14, 4).mean(axis=(1, 3))
    return small + 0.05 * rng.standard_normal(small.shape)


def taught(task: SegmentationTask, x: Tensor, y: Tensor, candidates: int, epochs: int, seed: int) -> tuple[list[nn.Module], Inside]:
    """Return models that were each trained on half of the candidates, as the engine trains shadow models, and on which."""
    names, batch = [f"{i:04d}" for i in range(candidates)], task.training.batch_size
    hands = [[int(name) for name in hand] for hand in deal(names, MODELS, 0.5, np.random.default_rng(seed))]
    networks: list[nn.Module] = []
    for m in range(MODELS):
        torch.manual_seed(MODELS * seed + m)
        networks.append(task.build())
    at_once = stack_size(task, x[:1], batch, private=False, device=CPU, most=MODELS)
    for first in range(0, MODELS, at_once):
        numbers = range(first, min(first + at_once, MODELS))
        stack = Stack(task, task.training, [dict(networks[m].named_parameters()) for m in numbers])
        samplers = [Sampler(hands[m], batch, Sampling(), torch.Generator().manual_seed(MODELS * seed + m)) for m in numbers]
        for epoch in range(epochs):
            rate = (1 + math.cos(math.pi * epoch / epochs)) / 2
            for batches in zip(*(s.epoch() for s in samplers), strict=True):
                stack.step(x, y, [[hands[m][i] for i in rows] for m, rows in zip(numbers, batches, strict=True)], rate=rate)
        for m, state in zip(numbers, stack.states(), strict=True):
            networks[m].load_state_dict(state)
    inside = np.zeros((MODELS, candidates), dtype=bool)
    for m, hand in enumerate(hands):
        inside[m, hand] = True
    return [network.eval() for network in networks], inside


def digits(seed: int = 0, candidates: int = 2000, population: int = 500, epochs: int = 24) -> Seen:
    """Return what is seen of networks that tell digits apart."""
    rng = np.random.default_rng(seed)
    images = np.stack([drawn(i % 10, rng) for i in range(candidates + population)]).astype(np.float32)
    x, y = torch.from_numpy(images)[:, None], torch.arange(len(images)) % 10
    training = {"learning_rate": 2e-3, "batch_size": 50}
    task = DigitTask(network={}, training=training, dims=2, groups=[[0]], levels=[0], outputs=10)
    networks, inside = taught(task, x, y, candidates, epochs, seed)
    with torch.no_grad():
        answers = [network(x) for network in networks]
    right = np.stack([(a.argmax(dim=1) == y).numpy() for a in answers])[:, :candidates]
    print(f"\ndigits: {right[inside].mean():.1%} of members right, {right[~inside].mean():.1%} of others", end="")
    losses = torch.stack([task.loss(a, y) for a in answers])
    return Seen(logits=logit_confidence(losses).numpy(), losses=losses[:, :candidates].double().numpy(), inside=inside)


def phantoms(seed: int = 0, candidates: int = 400, population: int = 100, epochs: int = 12) -> Seen:
    """Return what is seen of networks that segment phantoms, with the signals of the package's attacks."""
    patients = candidates + population
    params = PhantomParams(patients=patients, size=16, slices=1, visits=1, sites=1, modalities=("flair", "t1"))
    cohort = Phantom(params, seed=seed).load([f"phantom-{i:04d}" for i in range(patients)])
    x, y = torch.from_numpy(np.ascontiguousarray(cohort.images)), torch.from_numpy(regions(cohort.labels))
    training = {"learning_rate": 1e-2, "batch_size": 16}
    task = SegmentationTask(network={"channels": [16, 32]}, training=training, dims=2, groups=[[0, 1]], levels=[0])
    networks, inside = taught(task, x, y, candidates, epochs, seed)
    confidence = Averages(cohort, lambda logits, masks, _: logit_confidence(task.loss(logits, masks)), CPU)
    loss = Averages(cohort, cross_entropy, CPU)
    everybody = cohort.patients
    return Seen(
        logits=np.stack([in_order(confidence.predicted(network), everybody) for network in networks]),
        losses=np.stack([in_order(loss.predicted(network), everybody[:candidates]) for network in networks]), inside=inside,
    )  # fmt: skip


def scores_of(seen: Seen, victim: int) -> dict[str, Floats]:
    """Return every candidate's score by the package's formulas, of one model attacked with 16 others."""
    candidates = seen.inside.shape[1]
    others = [m for m in range(MODELS) if m // 2 != victim // 2]
    inside, target = seen.inside[others], seen.logits[victim]
    p, q = 1 / (1 + np.exp(-seen.logits[others])), 1 / (1 + np.exp(-target))
    logits, without = seen.logits[others, :candidates], np.zeros((8, candidates), dtype=bool)
    outs, p_out = (np.stack([a[~inside[:, i], i] for i in range(candidates)], axis=1) for a in (logits, p))
    nobody = np.zeros_like(p[:, candidates:], dtype=bool)

    def rmia(models: int) -> Floats:
        expected = expected_probability(p_out[:models], without[:models], online=False, a=0.3)
        return pairwise(q[:candidates] / expected, q[candidates:] / of_population(models), 1.0)

    def of_population(models: int) -> Floats:
        return expected_probability(p[:models, candidates:], nobody[:models], online=False, a=0.3)

    t = target[:candidates]
    both = expected_probability(p[:, :candidates], inside, online=True, a=0.3)
    return {
        LOSS: -seen.losses[victim],
        ONLINE_EACH: lira(t, logits, inside, online=True, variance="each"),
        ONLINE: lira(t, logits, inside, online=True, variance="fixed"),
        OFFLINE_EACH: lira(t, outs, without, online=False, variance="each"),
        OFFLINE: lira(t, outs, without, online=False, variance="fixed"),
        # One model has no spread, and the package refuses; whatever fixed spread is taken, candidates rank by the difference.
        few(OFFLINE, 1): t - outs[0],
        few(OFFLINE, 2): lira(t, outs[:2], without[:2], online=False, variance="fixed"),
        few("RMIA offline", 1): rmia(1),
        few("RMIA offline", 2): rmia(2),
        "RMIA offline": rmia(8),
        # No model was trained on the population: P(z) is the mean of models without.
        RMIA_ONLINE: pairwise(q[:candidates] / both, q[candidates:] / p[:, candidates:].mean(axis=0), 1.0),
    }  # fmt: skip


def few(score: str, models: int) -> str:
    """Return the name of a score by so few models."""
    return f"{score}, {models} model{'s' if models > 1 else ''}"


def tpr(members: Floats, others: Floats, fpr: float) -> float:
    """Return the share of members above a threshold that at most `fpr` of the others exceed."""
    return float((members > np.sort(others)[::-1][int(fpr * len(others))]).mean())


def figures(scores: Floats, member: Inside) -> list[float]:
    """Return AUC and TPR at 1 % and .1 % FPR of one victim."""
    a, b = scores[member], scores[~member]
    return [auc(a, b), tpr(a, b, 0.01), tpr(a, b, 0.001)]


def mean(values: NDArray[Any]) -> tuple[float, float]:
    """Return the mean over victims and half the width of its 95 % interval (Student's t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


@cache
def found(images: str, seed: int = 0) -> Figures:
    """Attack every model in turn and print the table."""
    torch.set_num_threads(1)
    seen = {"digits": digits, "phantoms": phantoms}[images](seed)
    scored = [scores_of(seen, victim) for victim in range(MODELS)]
    table = {s: np.array([figures(scored[v][s], seen.inside[v]) for v in range(MODELS)]) for s in scored[0]}
    table["chance"] = np.array([figures(scored[v][ONLINE], seen.inside[(v + 2) % MODELS]) for v in range(MODELS)])
    print(f"\n{images}: AUC, TPR at 1 % FPR, TPR at .1 % FPR, mean over {MODELS} victims")
    for score, values in table.items():
        print(f"  {score:40}" + "".join("  {:.4f} +- {:.4f}".format(*mean(column)) for column in values.T))
    return table


def gap(table: Figures, better: str, worse: str, column: int) -> float:
    """Return the lower end of the 95 % interval of a mean difference over victims; 0: AUC, 1: TPR at 1 % FPR."""
    middle, half = mean(table[better][:, column] - table[worse][:, column])
    print(f"  {better} over {worse}, {('AUC', 'TPR at 1 %')[column]}: {middle:+.4f} +- {half:.4f}")
    return middle - half


def level(table: Figures, score: str, column: int) -> float:
    """Return the mean over victims of one column of a score."""
    return float(table[score][:, column].mean())
