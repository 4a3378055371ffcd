"""Writes the folder that an attack's process is given: the recording, cut down to its threat model.

Tokens are salted anew for every view, so that two attacks cannot compare notes; what the threat model does not grant is not
written. The same folder holds two message sets: the real one, and one in which whole patients are exchanged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from leakaudit.attacks.evidence import EvidenceError, Target
from leakaudit.attacks.view import save_cohort
from leakaudit.cohorts.cohort import Cohort, Origin, Sample
from leakaudit.engine.adversary import Sources, Truth, owned_cohort
from leakaudit.engine.exchanged import rotation, update_exchange
from leakaudit.engine.granted import known_defenses, write_replicas
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Training
from leakaudit.facts import SeatFacts
from leakaudit.scoring.controls import derange
from leakaudit.threats import ThreatModel
from leakaudit.wire.messages import Message
from leakaudit.wire.recording import MessageLog, Recorder
from leakaudit.wire.seats import Secret

__all__ = ["REAL", "SHUFFLED", "ViewWriter"]

REAL, SHUFFLED = "messages", "messages-shuffled"


class ViewWriter:
    """Cuts a recording down to one threat model.

    Args:
        training: The training that was recorded.
        threat: The adversary.
        sources: Where content comes from.
        secret: The attack's branch of randomness; tokens are salted with it.
    """

    def __init__(self, training: Training, threat: ThreatModel, sources: Sources, secret: Secret) -> None:
        self.training, self.threat, self.sources, self.secret = training, threat, sources, secret
        self.facts = training.protocol.facts
        self.seats = self.facts.played(threat.plays)
        self._row = {token: i for i, token in enumerate(training.tokens)}
        self._salt = secret.branch("tokens")
        self.rows: dict[str, int] = {}
        self.candidates: dict[str, str] = {}
        self.senders: dict[str, str] = {}
        self.behind: dict[str, tuple[int, ...]] = {}
        self._sent: set[str] = set()
        self._missing: tuple[str, ...] = ()

    def write(self, folder: Path) -> Truth:
        """Write the view and return who is behind its tokens."""
        folder.mkdir(parents=True, exist_ok=True)
        self._messages(folder / REAL, None)
        self._messages(folder / SHUFFLED, self._exchange())
        self._cohorts(folder)
        own = [s / "own.safetensors" for s in (self.sources.record, self.sources.train) if s is not None]
        for path in [p for p in own if p.exists()][:1]:
            shutil.copyfile(path, folder / "own.safetensors")
        data = {
            "threat": as_json(self.threat), "facts": as_json(self.facts), "modalities": self.training.members.modalities,
            "targets": [asdict(t) for t in self._targets()], "defenses": known_defenses(self.training, self.threat),
            "replicas": write_replicas(folder, self.training, self.threat, self.sources),
            "protocol": {**self.training.spec["protocol"], "cohort": self.training.spec["cohort_facts"]},
            "task": asdict(self.training.task_spec), "secret": self.secret.branch("replicas").key.hex(),
            "shadows": self._shadows(folder),
        }  # fmt: skip
        if "architecture" not in self.threat.knows:
            data = {k: v for k, v in data.items() if k not in ("protocol", "task")}
        (folder / "view.json").write_text(json.dumps(data))
        return Truth(rows=self.rows, candidates=self.candidates, messages=self.senders, behind=self.behind, missing=self._missing)

    # Tokens -------------------------------------------------------------------------------------------------------

    def _sample(self, row: int, occurrence: str) -> str:
        """Return the token of a member's row: the same in every message only if sample ids are granted."""
        linked = "sample-ids" in self.threat.knows
        token = self._salt.token(f"row-{row}" if linked else f"row-{row}-{occurrence}")
        self.rows[token] = row
        return token

    def _targets(self) -> list[Target]:
        samples = self.training.members.samples
        attacked = set(self.training.attacked())
        rows = sorted((t, row) for t, row in self.rows.items() if t in self._sent and row in attacked)
        if rows:
            self._all_patients({row for _, row in rows}, attacked)
        elif self.sources.stopped is not None:
            raise EvidenceError(
                f"an alarm stopped the training after {self.sources.stopped} batches, before anything crossed that the attack reads"
            )
        found = [Target(token=t, position=samples[row].position) for t, row in rows]
        sizes: dict[str, int] = {}
        if self.sources.candidates is not None:
            for s in self.sources.candidates.samples:
                sizes[s.patient] = sizes.get(s.patient, 0) + 1
        found += [Target(token=t, kind="candidate", size=sizes[p]) for t, p in sorted(self.candidates.items())]
        found += [Target(token=t, kind="message", size=len(rows)) for t, rows in sorted(self.behind.items())]
        return found

    def _all_patients(self, seen: set[int], attacked: set[int]) -> None:
        """Check that every attacked patient crossed: a patient is never dropped without a word.

        Those that had not crossed when an alarm stopped the training are noted: nothing of them leaked.

        Raises:
            EvidenceError: Some did not, as can happen under Poisson sampling in a short training.
        """
        patients = [self.training.members.samples[row].patient for row in sorted(attacked)]
        missing = set(patients) - {self.training.members.samples[row].patient for row in seen}
        if missing and self.sources.stopped is not None:
            self._missing = tuple(sorted(missing))
        elif missing:
            raise EvidenceError(
                f"{len(missing)} of {len(set(patients))} attacked patients are in none of the recorded messages; train for more "
                "rounds, or tap more of them"
            )

    # Messages -----------------------------------------------------------------------------------------------------

    def _exchange(self) -> dict[int, list[int]]:
        """Return for every member's row the rows that its messages are ascribed to in the shuffled set."""
        crossed = {self.rows[token] for token in self._sent}
        attacked = [i for i in self.training.attacked() if not crossed or i in crossed]
        samples = [self.training.members.samples[i] for i in attacked]
        if len({s.patient for s in samples}) < 2:
            return {}
        seed = self.secret.branch("shuffle").seed()
        source = derange([s.patient for s in samples], [s.site for s in samples], seed, [s.position for s in samples])
        goes: dict[int, list[int]] = {}
        for place, other in enumerate(source.tolist()):
            goes.setdefault(attacked[other], []).append(attacked[place])
        return goes

    def _messages(self, folder: Path, exchange: dict[int, list[int]] | None) -> None:
        with_rows = Recorder(folder, lambda message: (None, None))
        if self.sources.record is not None:
            log = MessageLog(self.sources.record / "messages")
            kept = [e for e in log.entries if self._visible(e)]
            goes = update_exchange(kept, exchange is not None)
            for number, entry in enumerate(kept):
                if entry["channel"] == "update" and not entry["samples"]:
                    with_rows.record(self._update(log.read(entry), goes[number], kept[goes[number]], real=exchange is None))
                else:
                    with_rows.record(self._cut(log.read(entry), number, exchange))
        for message in self._outputs(exchange is not None):
            with_rows.record(message)
        with_rows.close()

    def _visible(self, entry: Mapping[str, Any]) -> bool:
        ours = entry["sender"] in self.seats or entry["receiver"] in (*self.seats, *self.threat.plays)
        return ours and entry["channel"] in self.threat.channels

    def _update(self, message: Message, number: int, place: Mapping[str, Any], *, real: bool) -> Message:
        """Return an update as it appears in a place (its own, or in the shuffled set another's), under that one's token."""
        token = self._salt.token(f"message-{number}")
        if real:
            self.senders[token] = message.sender
            self.behind[token] = tuple(self._row[name] for name in message.behind)
        where = {k: place[k] for k in ("sender", "round", "step")}
        return replace(message, samples=(token,), behind=(), **where)

    def _cut(self, message: Message, number: int, exchange: dict[int, list[int]] | None) -> Message:
        if not message.samples:
            return message
        take: list[int] = []
        tokens: list[str] = []
        for place, name in enumerate(message.samples):
            row = self._row[name]
            for shown in [row] if exchange is None else exchange.get(row, []):
                take.append(place)
                tokens.append(self._sample(shown, f"{message.channel}-{number}"))
        if exchange is None:
            self._sent.update(tokens)
        tensors = {k: t[take] for k, t in message.tensors.items()}
        return replace(message, tensors=tensors, samples=tuple(tokens))

    def _outputs(self, shuffled: bool) -> list[Message]:
        """Return the deployed model's answers on the candidates, one message each, and on patients of the adversary's own."""
        cohort, outputs = self.sources.candidates, self.sources.outputs
        if cohort is None:
            return []
        order = self._candidate_order(cohort)
        for patient in order:
            self.candidates[self._salt.token(f"candidate-{patient}")] = patient
        if outputs is None or "output" not in self.threat.channels:
            return []

        rows: dict[str, list[int]] = {}
        for i, s in enumerate(cohort.samples):
            rows.setdefault(s.patient, []).append(i)
        shown = rotation(order, rows, self.secret.branch("shuffle").seed()) if shuffled else {p: p for p in order}
        tokens = {p: t for t, p in self.candidates.items()}
        answers = [(tokens[p], outputs[rows[shown[p]]]) for p in order] + self._own_answers()
        return [
            Message(
                channel="output", sender="model", receiver="outsider", round=-1, step=i,
                tensors={"logits": torch.from_numpy(logits)}, samples=(token,) * len(logits),
            )
            for i, (token, logits) in enumerate(answers)
        ]  # fmt: skip

    def _own_answers(self) -> list[tuple[str, NDArray[np.float32]]]:
        """Return the answers on what the adversary owns, by its own tokens: never exchanged, it knows whom it asked about."""
        owned = owned_cohort(self.training, self.threat.auxiliary, self.secret)
        if owned is None or self.sources.own_outputs is None:
            return []
        rows: dict[str, list[int]] = {}
        for i, s in enumerate(owned.samples):
            rows.setdefault(s.patient, []).append(i)
        return [(token, self.sources.own_outputs[places]) for token, places in rows.items()]

    def _shadows(self, folder: Path) -> list[dict[str, Any]]:
        """Copy the shadow models and return for each its file and the tokens of the candidates it learned from."""
        source = self.sources.shadows
        if source is None:
            return []
        tokens = {p: t for t, p in self.candidates.items()}
        files = sorted(source.glob("shadow-*.safetensors"))
        members = json.loads((source / "shadows.json").read_text())["members"]
        for path in files:
            shutil.copyfile(path, folder / path.name)
        return [
            {"file": path.name, "members": sorted(tokens[p] for p in inside)} for path, inside in zip(files, members, strict=True)
        ]

    def _candidate_order(self, cohort: Cohort) -> list[str]:
        """Return the candidates in an order that says nothing about membership."""
        return sorted(cohort.patients, key=lambda p: self._salt.token(f"order-{p}"))

    # Cohorts, defenses, replicas ------------------------------------------------------------------------------------

    def _cohorts(self, folder: Path) -> None:
        auxiliary = owned_cohort(self.training, self.threat.auxiliary, self.secret)
        if auxiliary is not None:
            save_cohort(folder / "auxiliary", auxiliary)
        held = [seat for s in self.seats if (seat := self.facts.seat(s)).modalities or seat.labels]
        if held:
            save_cohort(folder / "holdings", self._holdings(held))
        cohort = self.sources.candidates
        if cohort is not None:
            names = {p: t for t, p in self.candidates.items()}
            order = self._candidate_order(cohort)
            rows = [i for p in order for i, s in enumerate(cohort.samples) if s.patient == p]
            samples = tuple(replace(cohort.samples[i], patient=names[cohort.samples[i].patient]) for i in rows)
            shown = replace(cohort.take(rows), samples=samples, origin=Origin(dataset=""), canaries={}, dots={})
            if "labels" not in self.threat.knows:
                shown = replace(shown, labels=np.zeros_like(shown.labels))
            save_cohort(folder / "candidates", shown)

    def _holdings(self, held: Sequence[SeatFacts]) -> Cohort:
        """Return the members' images and masks that the played seats hold; the patient of a row is its token."""
        modalities = [m for m in self.training.members.modalities if any(m in seat.modalities for seat in held)]
        cohort = self.training.members.channels(modalities)
        rows = [i for i, s in enumerate(cohort.samples) if any(seat.site in (None, s.site) for seat in held)]
        samples = tuple(Sample(patient=self._sample(i, "holdings"), position=cohort.samples[i].position) for i in rows)
        shown = replace(cohort.take(rows), samples=samples, origin=Origin(dataset=""), canaries={}, dots={})
        if not any(seat.labels for seat in held):
            shown = replace(shown, labels=np.zeros_like(shown.labels))
        # Who holds masks alone does not know where the brain is.
        return shown if modalities else replace(shown, brain=np.zeros_like(shown.brain))
