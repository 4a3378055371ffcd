"""How shadow models are taught: many at once, with the victim's optimizer, batches and rounds, under its defenses.

Split learning computes what centralized training computes from the same batches, so whole networks learn, whose encoders send
through the clients' defenses where a recipe says so, and learn along what these learn. In federated learning each shadow model
is averaged over sites as the victim is; its sites hold those of its own patients that belong there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from leakaudit.cohorts.cohort import Cohort, regions
from leakaudit.engine.places import guard_of
from leakaudit.engine.shadow_recipes import Recipe
from leakaudit.engine.training import Training
from leakaudit.facts import SeatFacts
from leakaudit.models.stacked import Stack, stack_size
from leakaudit.protocols.base import Guard
from leakaudit.protocols.federated import average
from leakaudit.protocols.params import FederatedParams, TrainedParams
from leakaudit.protocols.schedule import Sampler
from leakaudit.protocols.sending import Penalties, learned_state, send_through
from leakaudit.wire.messages import Message
from leakaudit.wire.seats import Seat, Secret

__all__ = ["Lessons", "Pool"]

Batches = list[list[int]]
"""Rows of each batch of a round."""


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


class Lessons:
    """Trains stacks of shadow models.

    Args:
        training: The victim's training.
        pool: Whose images they learn from.
        recipe: How they learn under the victim's defenses.
        secret: The shadows' branch of randomness; model m draws its weights and batches from a branch of its own, whatever it is
            stacked with. Defenses at the cut draw for a whole stack, and what they learn begins with a model's own draws.
    """

    def __init__(self, training: Training, pool: Pool, recipe: Recipe, secret: Secret) -> None:
        assert isinstance(training.protocol.params, TrainedParams)
        self.training, self.pool, self.recipe, self._secret = training, pool, recipe, secret
        self.params: TrainedParams = training.protocol.params
        names = {p: i for i, p in enumerate(dict.fromkeys(s.patient for s in pool.cohort.samples))}
        self._units = [names[s.patient] for s in pool.cohort.samples]
        self._x = torch.from_numpy(np.ascontiguousarray(pool.cohort.images)).to(training.device)
        self._y = torch.from_numpy(regions(pool.cohort.labels)).to(training.device)

    def at_once(self, count: int) -> int:
        """Return how many models are trained at once."""
        if self.recipe.alone:
            return 1
        batch = self.params.training.batch_size * (2 if self.training.sampling.kind == "poisson" else 1)
        private, device = bool(self.recipe.parts), self.training.device
        return stack_size(self.training.task, self._x[:1], batch, private=private, device=device, most=count)

    def learn(self, numbers: Sequence[int], hands: Sequence[Sequence[str]]) -> list[dict[str, Tensor]]:
        """Return the states of some models, trained at once where the recipe allows it.

        What the clients' defenses learned beside the weights is in a state under names of its own (`protocols.sending`).

        Args:
            numbers: Which models.
            hands: The patients in each one's training set.
        """
        if self.recipe.alone and len(numbers) > 1:
            return [state for m, hand in zip(numbers, hands, strict=True) for state in self.learn([m], [hand])]
        branches = [self._secret.branch("shadow", str(m)) for m in numbers]
        device, penalties = self.training.device, Penalties()
        clients = self._clients(branches[0])
        network = send_through(self._built(branches[0]), clients, None if self.recipe.parts else penalties)
        stack = Stack(
            self.training.task, self.params.training, [self._initial(b) for b in branches], private=self.recipe.parts,
            expected_units=[1.0] * len(branches), noise=[b.branch("noise").generator() for b in branches],
            network=network, penalties=penalties.take,
        )  # fmt: skip
        rows = [self.pool.rows(hand) for hand in hands]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(branches[0].branch("dropout").seed())
            if isinstance(self.params, FederatedParams):
                _Federation(self, self.params, stack, rows, branches).run()
            else:
                self._pooled(stack, rows, branches)
        # One object of a defense that serves a whole stack has learned nothing of its own.
        return [state | learned_state(clients if self.recipe.alone else []) for state in stack.states()]

    def sampler(self, rows: Sequence[int], secret: Secret) -> Sampler:
        """Return what draws a model's batches, as the victim's are drawn."""
        units = [self._units[i] for i in rows]
        return Sampler(units, self.params.training.batch_size, self.training.sampling, secret.generator())

    def steps(self, stack: Stack, batches: Sequence[Batches], rate: float = 1.0) -> None:
        """Take the steps of a round with every model; one whose batches are used up waits for the others."""
        for step in range(max(map(len, batches))):
            rows = [b[step] if step < len(b) else None for b in batches]
            stack.step(self._x, self._y, rows, self._units if self.recipe.by_patient else None, rate=rate)

    def guard(self, seat: SeatFacts, secret: Secret) -> Guard:
        """Return the defenses through which passes what a seat sends, with randomness of a shadow model's own."""
        place = Seat(
            seat, secret.branch("defense", seat.id), device=self.training.device, precision=self.training.spec["precision"],
            protocol=self.training.protocol.facts, task=self.training.task,
        )  # fmt: skip
        return guard_of(self.recipe.sends, place)

    def _pooled(self, stack: Stack, rows: Sequence[Sequence[int]], branches: Sequence[Secret]) -> None:
        samplers = [self.sampler(r, b.branch("batches")) for r, b in zip(rows, branches, strict=True)]
        stack.expect([s.expected_units for s in samplers])
        rounds = self.params.rounds
        for round_ in range(rounds):
            rate = (1 + math.cos(math.pi * round_ / rounds)) / 2 if self.params.training.decay == "cosine" else 1.0
            self.steps(stack, [_chosen(s.epoch(), r) for s, r in zip(samplers, rows, strict=True)], rate)

    def _clients(self, secret: Secret) -> list[tuple[str, Guard]]:
        """Return the clients whose activations pass through a defense."""
        clients = self.training.protocol.facts.seats_of("client") if self.recipe.sends else ()
        return [(c.id, self.guard(c, secret)) for c in clients]

    def _initial(self, branch: Secret) -> dict[str, Tensor]:
        network = send_through(self._built(branch), self._clients(branch)).to(self.training.device)
        return {k: v.detach() for k, v in network.named_parameters()}

    def _built(self, branch: Secret) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(branch.branch("initial weights").seed())
            return self.training.task.build()


class _Site:
    """What one site of one shadow model holds and does."""

    def __init__(self, lessons: Lessons, params: FederatedParams, rows: list[int], seat: SeatFacts, secret: Secret) -> None:
        self.rows, self._params = rows, params
        self.sampler = lessons.sampler(rows, secret.branch("batches", seat.id)) if rows else None
        self.guard = lessons.guard(seat, secret)

    def batches(self) -> Batches:
        """Return the batches of one round, as many as a victim's site takes."""
        if self.sampler is None:
            return []
        steps = self._params.local_steps
        passes = self._params.local_epochs if steps is None else math.ceil(steps / self.sampler.steps)
        return [rows for _ in range(passes) for rows in _chosen(self.sampler.epoch(), self.rows)][:steps]


class _Federation:
    """Federated averaging of every model of a stack, each over the sites of its own patients."""

    def __init__(
        self, lessons: Lessons, params: FederatedParams, stack: Stack, rows: Sequence[Sequence[int]], branches: Sequence[Secret]
    ) -> None:
        self._lessons, self._params, self._stack = lessons, params, stack
        self._seats = lessons.training.protocol.facts.seats_of("site")
        self._sites = [self._dealt(mine, branch) for mine, branch in zip(rows, branches, strict=True)]
        self._asking = [branch.branch("participation").generator() for branch in branches]

    def run(self) -> None:
        """Run the rounds."""
        fresh = self._stack.moments()
        moments = [fresh] * len(self._seats)
        for round_ in range(self._params.rounds):
            start = dict(self._stack.values)
            asked = [self._asked(draw, round_) for draw in self._asking]
            sent: list[list[Message]] = [[] for _ in self._sites]
            for k in range(len(self._seats)):
                self._stack.values = dict(start)
                self._stack.resume(moments[k])
                self._visit(k, [k in chosen for chosen in asked])
                if self._params.optimizer_state == "keep":
                    moments[k] = self._stack.moments()
                for m, sites in enumerate(self._sites):
                    if k in asked[m] and sites[k].rows:
                        sent[m] += self._update(round_, k, m, start)
            self._stack.values = self._averaged(start, sent)

    def _dealt(self, rows: Sequence[int], branch: Secret) -> list[_Site]:
        """Return the sites of one model; patients of a site that trains nothing go to the others in turn."""
        samples, names = self._lessons.pool.cohort.samples, [seat.site for seat in self._seats]
        homeless = sorted({samples[i].site for i in rows} - set(names))
        at = {site: names.index(site) for site in names if site} | {site: i % len(names) for i, site in enumerate(homeless)}
        held: list[list[int]] = [[] for _ in names]
        for row in rows:
            held[at.get(samples[row].site, 0)].append(row)
        return [_Site(self._lessons, self._params, r, seat, branch) for r, seat in zip(held, self._seats, strict=True)]

    def _asked(self, draw: torch.Generator, round_: int) -> set[int]:
        """Return the sites that one model is trained at in a round: as many as the victim's, and without those that have left."""
        count = max(1, round(self._params.participation * len(self._seats)))
        chosen = torch.randperm(len(self._seats), generator=draw)[:count].tolist()
        away = {fault.site for fault in self._params.dropouts if fault.is_away(round_)}
        return {k for k in chosen if self._seats[k].id not in away}

    def _visit(self, k: int, asked: Sequence[bool]) -> None:
        """Train every model at its site k; one whose site is not asked, or holds nobody, waits."""
        here = [sites[k] for sites in self._sites]
        self._stack.expect([site.sampler.expected_units if site.sampler else 1.0 for site in here])
        self._lessons.steps(self._stack, [site.batches() if there else [] for site, there in zip(here, asked, strict=True)])

    def _update(self, round_: int, k: int, m: int, start: dict[str, Tensor]) -> list[Message]:
        """Return what the site k of model m sends: nothing where a defense withholds it."""
        site, seat = self._sites[m][k], self._seats[k]
        arrived = Message(
            channel="model",
            sender="aggregator",
            receiver=seat.id,
            round=round_,
            step=0,
            tensors={n: t[m] for n, t in start.items()},
        )
        if site.guard.incoming(arrived) is None:
            return []
        update = Message(
            channel="update", sender=seat.id, receiver="aggregator", round=round_, step=0,
            tensors={n: t[m] - start[n][m] for n, t in self._stack.values.items()},
            weight=float(len(site.rows)) if self._params.weighting == "samples" else 1.0,
        )  # fmt: skip
        sent = site.guard.outgoing(update)
        return [] if sent is None else [sent]

    def _averaged(self, start: dict[str, Tensor], sent: Sequence[Sequence[Message]]) -> dict[str, Tensor]:
        means = [average(messages) for messages in sent]
        return {n: torch.stack([t[m] + mean[n] if n in mean else t[m] for m, mean in enumerate(means)]) for n, t in start.items()}


def _chosen(epoch: Batches, rows: Sequence[int]) -> Batches:
    return [[rows[i] for i in batch] for batch in epoch]
