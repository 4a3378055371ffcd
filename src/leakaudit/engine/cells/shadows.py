"""Cell `shadows`: models like the victim's, trained many at once on subsets of patients that an adversary can lay hands on.

They learn the victim's task with its optimizer, batch size, learning rate and number of passes. Split learning computes what
centralized training computes from the same batches, so whole networks are trained. Federated averaging is approximated by
centralized training on the pooled subset, with a fresh optimizer each round where the sites have one. Defenses take part where
they say how (`DefenseParams.shadow`). What was approximated or left out is noted in `shadows.json`.

One cell serves all attacks on a training that ask for the same: its key holds the training and `Shadows`, and no attack. The
engine deals the patients; who was in a shadow's training set is told to an attack for the candidates alone, by token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from leakaudit.cohorts.cohort import Cohort, regions
from leakaudit.engine.adversary import owned_cohort
from leakaudit.engine.cells.attack import candidates_of
from leakaudit.engine.cells.train import open_training
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.shadow_recipes import Recipe, recipe_of
from leakaudit.engine.training import Training, join
from leakaudit.models.stacked import Stack, stack_size
from leakaudit.protocols.params import FederatedParams, TrainedParams
from leakaudit.protocols.schedule import Sampler
from leakaudit.threats import Shadows
from leakaudit.wire.recording import write_tensors
from leakaudit.wire.seats import Secret

__all__ = ["Pool", "deal", "run"]


def deal(patients: Sequence[str], count: int, fraction: float, rng: np.random.Generator) -> list[list[str]]:
    """Return `count` subsets of equal size in which all patients are equally often (to within one).

    Patients are dealt from a shuffled deck, which is shuffled anew when it is used up. With half of an even number of patients
    in each, two consecutive subsets are complements of each other, so every patient is in exactly half of them.
    """
    size, deck, hands = max(1, round(fraction * len(patients))), list[str](), []
    for _ in range(count):
        hand: list[str] = []
        while len(hand) < size:
            if not deck:
                fresh = [patients[i] for i in rng.permutation(len(patients))]
                # Who has just been dealt into this hand waits at the end.
                deck = [p for p in fresh if p not in hand] + [p for p in fresh if p in hand]
            hand.append(deck.pop(0))
        hands.append(sorted(hand))
    return hands


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Whose images shadow models learn from.

    Attributes:
        cohort: Their samples.
        candidates: Names of the candidates among them.
        copies: How often a candidate's samples are in a training set that holds them; more than once in a planted training.
    """

    cohort: Cohort
    candidates: frozenset[str] = frozenset()
    copies: int = 1

    def rows(self, patients: Sequence[str]) -> list[int]:
        """Return the rows of a training set on some patients."""
        inside = set(patients)
        rows = [i for i, s in enumerate(self.cohort.samples) if s.patient in inside]
        return rows + [i for i in rows if self.cohort.samples[i].patient in self.candidates] * (self.copies - 1)


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Train the shadow models of a spec and store their states with the candidates in each."""
    training = open_training(spec, context)
    asked = Shadows(**spec["shadows"])
    pool = _pool(spec, context, training, asked)
    secret = training.secret.branch("shadows", asked.pool, spec["auxiliary"])
    rng = np.random.default_rng(secret.branch("coins").seed())
    hands = deal(sorted(set(pool.cohort.patients)), asked.count, asked.fraction, rng)
    recipe = recipe_of(training, defended=spec["defended"])
    lessons = Lessons(training, pool, recipe, secret)
    at_once = lessons.at_once(asked.count)
    folder = context.scratch / "shadows"
    folder.mkdir()
    for first in range(0, asked.count, at_once):
        numbers = range(first, min(first + at_once, asked.count))
        for m, state in zip(numbers, lessons.learn(numbers, [hands[m] for m in numbers]), strict=True):
            write_tensors(folder / _file(m), state)
        context.progress(numbers[-1] + 1, asked.count)
    known = {
        "members": [[p for p in hand if p in pool.candidates] for hand in hands], "patients": len(set(pool.cohort.patients)),
        "of_pool": len(hands[0]), "at_once": at_once, "defended": not recipe.without, "without": recipe.without,
        "notes": _notes(training, recipe), "parts": [asdict(p) for p in recipe.parts],
    }  # fmt: skip
    with context.store.write(context.job.key, {"kind": "shadows", "sensitive": True}) as entry:
        for path in sorted(folder.iterdir()):
            path.rename(entry / path.name)
        (entry / "shadows.json").write_text(json.dumps(known))
    return {"models": asked.count, "at_once": at_once}


def _file(number: int) -> str:
    return f"shadow-{number:04d}.safetensors"


def _pool(spec: Mapping[str, Any], context: Context, training: Training, asked: Shadows) -> Pool:
    owned = owned_cohort(training, spec["auxiliary"], training.secret.branch("shadows", "owned"))
    assert owned is not None
    if asked.pool == "auxiliary":
        return Pool(cohort=owned)
    candidates, _ = candidates_of(spec, context, training)
    copies = spec["planted"]["repeat"] if spec.get("planted") else 1
    return Pool(cohort=join(owned, candidates), candidates=frozenset(candidates.patients), copies=copies)


class Lessons:
    """Trains stacks of shadow models.

    Args:
        training: The victim's training.
        pool: Whose images they learn from.
        recipe: How they learn under the victim's defenses.
        secret: The shadows' branch of randomness; model m draws from a branch of its own, whatever it is stacked with.
    """

    def __init__(self, training: Training, pool: Pool, recipe: Recipe, secret: Secret) -> None:
        assert isinstance(training.protocol.params, TrainedParams)
        self._training, self._pool, self._recipe, self._secret = training, pool, recipe, secret
        self._params: TrainedParams = training.protocol.params
        names = {p: i for i, p in enumerate(dict.fromkeys(s.patient for s in pool.cohort.samples))}
        self._units = [names[s.patient] for s in pool.cohort.samples]
        self._x = torch.from_numpy(np.ascontiguousarray(pool.cohort.images))
        self._y = torch.from_numpy(regions(pool.cohort.labels))

    def at_once(self, count: int) -> int:
        """Return how many models are trained at once."""
        batch = self._params.training.batch_size * (2 if self._training.sampling.kind == "poisson" else 1)
        private, device = bool(self._recipe.parts), self._training.device
        return stack_size(self._training.task, self._x[:1], batch, private=private, device=device, most=count)

    def learn(self, numbers: Sequence[int], hands: Sequence[Sequence[str]]) -> list[dict[str, torch.Tensor]]:
        """Return the states of some models, trained at once.

        Args:
            numbers: Which models.
            hands: The patients in each one's training set.
        """
        branches = [self._secret.branch("shadow", str(m)) for m in numbers]
        students = [_Student(self._pool.rows(hand), self, branch) for hand, branch in zip(hands, branches, strict=True)]
        device = self._training.device
        stack = Stack(
            self._training.task, self._params.training, [self._initial(b, device) for b in branches], private=self._recipe.parts,
            expected_units=[s.sampler.expected_units for s in students], noise=[b.branch("noise").generator() for b in branches],
        )  # fmt: skip
        x, y = self._x.to(device), self._y.to(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(branches[0].branch("dropout").seed())
            for round_ in range(self._params.rounds):
                rate = (
                    (1 + math.cos(math.pi * round_ / self._params.rounds)) / 2 if self._params.training.decay == "cosine" else 1.0
                )
                batches = [s.batches() for s in students]
                for step in range(max(map(len, batches))):
                    rows = [b[step] if step < len(b) else None for b in batches]
                    stack.step(x, y, rows, self._units if self._recipe.by_patient else None, rate=rate)
                if isinstance(self._params, FederatedParams) and self._params.optimizer_state == "restart":
                    stack.restart()
        return stack.states()

    def _initial(self, branch: Secret, device: torch.device) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(branch.branch("initial weights").seed())
            network = self._training.task.build().to(device)
        return {k: v.detach() for k, v in network.named_parameters()}

    def sampler(self, rows: Sequence[int], secret: Secret) -> Sampler:
        """Return what draws a model's batches, as the victim's are drawn."""
        units = [self._units[i] for i in rows]
        return Sampler(units, self._params.training.batch_size, self._training.sampling, secret.generator())

    def passes(self, batch: int) -> float:
        """Return how often a round passes over the data; less than once where only some sites take part in it."""
        params = self._params
        if not isinstance(params, FederatedParams):
            return 1.0
        if params.local_steps is None:
            return params.local_epochs * params.participation
        sites = max(1, len(self._training.cohort.of_patients(self._training.split.members).sites))
        return params.participation * params.local_steps / math.ceil(len(self._training.members) / sites / batch)


class _Student:
    """One shadow model's training set and batches."""

    def __init__(self, rows: list[int], lessons: Lessons, secret: Secret) -> None:
        self._rows = rows
        self.sampler = lessons.sampler(rows, secret.branch("batches"))
        self._passes = lessons.passes(self.sampler.batch)

    def batches(self) -> list[list[int]]:
        """Return the rows of each batch of one round."""
        drawn = [batch for _ in range(math.ceil(self._passes)) for batch in self.sampler.epoch()]
        wanted = max(1, round(self._passes * self.sampler.steps))
        return [[self._rows[i] for i in batch] for batch in drawn[:wanted]]


def _notes(training: Training, recipe: Recipe) -> list[str]:
    """Return what was approximated."""
    notes = []
    match training.protocol.facts.protocol:
        case "split":
            notes.append("Shadow models are trained whole: split learning computes what centralized training computes.")
        case "federated":
            notes.append("Federated averaging is approximated by centralized training on the pooled patients of each shadow model.")
    if recipe.without:
        names = ", ".join(recipe.without)
        notes.append(f"Trained without {names}: the defense has no recipe for shadow models, or the adversary does not know it.")
    return notes
