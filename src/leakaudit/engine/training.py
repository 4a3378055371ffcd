"""One training of a collaboration, from plain specs: honest, ridden, or hijacked, with or without taps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leakaudit.cohorts.cohort import Cohort, Split, regions
from leakaudit.engine.canaries import Gradients
from leakaudit.engine.places import Place, build, guard_of, honest_place
from leakaudit.engine.planting import repeated
from leakaudit.engine.taps import Tapping
from leakaudit.engine.trained import Trained
from leakaudit.facts import CohortFacts, SeatFacts
from leakaudit.models.task import TaskSpec, Tensors, load_task
from leakaudit.protocols.base import Holdings, Protocol
from leakaudit.protocols.schedule import Sampling, Schedule
from leakaudit.threats import Tap
from leakaudit.wire.messages import Alarm
from leakaudit.wire.seats import Seat, Secret
from leakaudit.wire.wire import Wire

__all__ = ["Play", "Trained", "Training", "build"]

Play = Callable[[SeatFacts], Place]
"""How an attack takes a seat."""


class Training:
    """Sets up and runs one training.

    Args:
        spec: `protocol`, `cohort_facts`, `defenses`, `sampling`, `seed`, `repeat`, `device`, `precision`, `task` or None, and
            for a planted control `planted`: how often how many of the attacked patients (or all canaries) are trained on.
        cohort: First visits of all patients.
        split: The split by patient.
        canaries: Crafted patients that the engine's coins put among the members.
        gradients: Gradient canaries that the coins put into training, by name, and the seat that holds each.
        salt: Secret of the data that goes into every random stream beside the seed, so that knowing the recipe is not enough
            to recompute a defense's noise.
    """

    def __init__(
        self, spec: Mapping[str, Any], cohort: Cohort, split: Split, canaries: Cohort | None = None, *,
        gradients: Gradients | None = None, salt: str = "",
    ) -> None:  # fmt: skip
        self.spec, self.cohort, self.split, self.salt = spec, cohort, split, salt
        self.device = torch.device(spec["device"])
        facts = CohortFacts.from_json(spec["cohort_facts"])
        self.protocol: Protocol[Any] = build(spec["protocol"], facts)
        self.task_spec = TaskSpec(**spec["task"]) if spec.get("task") else self.protocol.task()
        self.task = load_task(self.task_spec)
        # Defenses are compared in pairs: the same repeat has the same initial weights and batches under each of them.
        self.secret = Secret.from_seed(spec["seed"], "training", salt, f"repeat-{spec['repeat']}")
        members = cohort.of_patients(split.members)
        members = members if canaries is None else join(members, canaries)
        copies: list[int] = []
        if spec.get("planted"):
            planted = set(repeated(split, spec["planted"]["patients"]) if canaries is None else canaries.patients)
            copies = [i for i, s in enumerate(members.samples) if s.patient in planted] * (spec["planted"]["repeat"] - 1)
        # The row that each row is a copy of: copies come last, so that the other rows are the same with and without them.
        self.original = [*range(len(members)), *copies]
        self.members = members.take(self.original) if copies else members
        names = {p: i for i, p in enumerate(self.members.patients)}
        self.units = [names[s.patient] for s in self.members.samples]
        self.tokens = tuple(self.secret.branch("tokens").token(str(i)) for i in range(len(self.members)))
        self.sampling = Sampling(**spec["sampling"])
        names_of = self.secret.branch("tokens").token
        self._canaries = {names_of(name): found for name, found in (gradients or {}).items()}

    def canary_seats(self) -> tuple[str, ...]:
        """Return the seats whose parties take gradient canaries: those with rows and a whole network to train."""
        seats = self.protocol.facts.seats
        return tuple(s.id for s in seats if s.role in self.protocol.canary_roles and self._rows(s))

    def attacked(self) -> list[int]:
        """Return the rows of attacked patients among the members."""
        wanted = set(self.split.attacked)
        return [i for i, s in enumerate(self.members.samples) if s.patient in wanted]

    def seat(self, facts: SeatFacts, *, branch: str = "seat") -> Seat:
        """Return a seat of an honest party with its own branch of randomness."""
        return Seat(
            facts, self.secret.branch(branch, facts.id), shared=self.secret.branch("shared"), device=self.device,
            precision=self.spec["precision"], protocol=self.protocol.facts, task=self.task,
        )  # fmt: skip

    def holdings(self, facts: SeatFacts) -> Holdings:
        """Return what a seat holds of the members."""
        rows = self._rows(facts)
        index = [self.members.modalities.index(m) for m in facts.modalities]
        images = np.ascontiguousarray(self.members.images[rows][:, index]) if index else None
        masks = regions(self.members.labels[rows]) if facts.labels and rows else None
        return Holdings(
            tokens=tuple(self.tokens[i] for i in rows),
            units=torch.tensor([self.units[i] for i in rows], dtype=torch.long, device=self.device),
            images=None if images is None else torch.from_numpy(images).to(self.device),
            regions=None if masks is None else torch.from_numpy(masks).to(self.device), sampling=self.sampling,
            canaries={token: canary for token, (seat, canary) in self._canaries.items() if seat == facts.id},
        )  # fmt: skip

    def _rows(self, facts: SeatFacts) -> list[int]:
        """Return the members' rows that a seat holds."""
        if not facts.modalities and not facts.labels:
            return []
        return [i for i, s in enumerate(self.members.samples) if facts.site in (None, s.site)]

    def schedule(self) -> Schedule:
        """Return the batches of an aligned protocol."""
        params, more = self.protocol.params, list(self._canaries)
        units = [*self.units, *range(len(self.units), len(self.units) + len(more))]
        return Schedule(
            [*self.tokens, *more], units, params.rounds, params.training.batch_size, self.sampling, self.secret.branch("schedule")
        )

    def run(
        self, *, recordings: Sequence[tuple[Sequence[Tap], Path]] = (), play: tuple[str, Play] | None = None,
        progress: Callable[[float, float], None] = lambda done, total: None,
    ) -> Trained:  # fmt: skip
        """Train once.

        Args:
            recordings: Messages to record, and the folder for each set of them.
            play: A seat and how an attack takes it.
            progress: Called with (rounds done, rounds).
        """
        places: dict[str, Place] = {}
        try:
            for facts in self.protocol.facts.seats:
                taken = play is not None and play[0] == facts.id
                places[facts.id] = play[1](facts) if play is not None and taken else self.place(facts)
            return self._run(places, recordings, play[0] if play is not None else None, progress)
        finally:
            for place in places.values():
                place.close()

    def place(self, facts: SeatFacts) -> Place:
        """Return an honest seat."""
        return honest_place(self.protocol, self.task, self.seat(facts), self.spec["defenses"], self.holdings(facts))

    def _run(
        self, places: Mapping[str, Place], recordings: Sequence[tuple[Sequence[Tap], Path]], played: str | None,
        progress: Callable[[float, float], None],
    ) -> Trained:  # fmt: skip
        schedule = self.schedule()
        rounds = schedule.rounds
        recorders = [self._recorder(taps, folder, schedule) for taps, folder in recordings]
        wanted = {r for taps, _ in recordings for r in snapshot_rounds(taps, rounds)}
        snapshots: dict[int, dict[str, Tensors]] = {}

        def after_round(round_: int) -> None:
            progress(round_ + 1, rounds)
            if round_ in wanted:
                snapshots[round_] = {k: _copy(p.state()) for k, p in places.items()}

        wire = Wire({k: p.party for k, p in places.items()}, self.secret.branch("wire"), recorders, self.device, after_round)
        alarm = None
        try:
            self.protocol.run(wire, schedule)
        except Alarm as raised:
            alarm = self._alarm(raised, wire, schedule)
        for recorder in recorders:
            recorder.close(wire.place if alarm is not None else None)
        claims = {k: found for k, p in places.items() if (found := p.claims())}
        return Trained(
            rounds=rounds, states={k: _copy(p.state()) for k, p in places.items()}, snapshots=snapshots,
            public={k: _copy(p.public()) for k, p in places.items()}, guarantees=claims,
            traffic=[(*key, t.messages, t.bytes) for key, t in sorted(wire.traffic.items())], alarm=alarm,
            own=_copy(places[played].own()) if played is not None else {}, notes=wire.notes,
        )  # fmt: skip

    @staticmethod
    def _alarm(raised: Alarm, wire: Wire, schedule: Schedule) -> dict[str, Any]:
        planned = sum(bool(batch) for round_ in range(schedule.rounds) for batch in schedule.batches(round_))
        return {
            "detector": raised.detector, "reason": str(raised), "score": raised.score, "seat": wire.asked,
            "round": None if wire.place is None else wire.place[0], "batches": wire.batches, "planned": planned,
        }  # fmt: skip

    def _recorder(self, taps: Sequence[Tap], folder: Path, schedule: Schedule) -> Tapping:
        targets = {self.tokens[i] for i in self.attacked()}
        stoppable = any(d.get("detector") for d in self.spec["defenses"])
        return Tapping(taps, folder, targets, schedule, stoppable=stoppable)

    def predictor(self, states: Mapping[str, Tensors], public: Mapping[str, Tensors]) -> nn.Module:
        """Return the deployed model, with the defenses that act at prediction under fresh randomness."""
        guards = {}
        for facts in self.protocol.facts.seats:
            guards[facts.id] = guard_of(self.spec["defenses"], self.seat(facts, branch="prediction"))
            guards[facts.id].load_public_state(public.get(facts.id, {}))
        return self.protocol.predictor(states, self.task, guards).to(self.device).eval()

    @torch.no_grad()
    def predict(self, model: nn.Module, images: np.ndarray[Any, Any], batch: int = 16) -> Tensor:
        """Return logits (n, 3, *spatial) on the CPU."""
        parts = [
            model(torch.from_numpy(np.ascontiguousarray(images[i : i + batch])).to(self.device)).float().cpu()
            for i in range(0, len(images), batch)
        ]
        return torch.cat(parts)


def snapshot_rounds(taps: Sequence[Tap], rounds: int) -> list[int]:
    """Return the rounds before the last after which the taps need the parties' weights."""
    asked = {r % rounds for tap in taps for r in (range(rounds) if tap.rounds is None else tap.rounds)}
    return sorted(asked - {rounds - 1})


def _copy(state: Tensors) -> dict[str, Tensor]:
    return {k: t.detach().cpu().clone() for k, t in state.items()}


def join(first: Cohort, second: Cohort) -> Cohort:
    """Return the samples of two cohorts of equal modalities and shape, one after the other."""
    return Cohort(
        images=np.concatenate([first.images, second.images]), labels=np.concatenate([first.labels, second.labels]),
        brain=np.concatenate([first.brain, second.brain]), samples=first.samples + second.samples,
        modalities=first.modalities, origin=first.origin,
    )  # fmt: skip
