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

from leakaudit.attacks.contents import save_cohort
from leakaudit.attacks.evidence import EvidenceError, Target
from leakaudit.cohorts.cohort import Cohort, Origin, Sample
from leakaudit.engine.adversary import Sources, Truth, owned_cohort
from leakaudit.engine.asked import REAL, SHUFFLED, AskedCandidates
from leakaudit.engine.exchanged import update_exchange
from leakaudit.engine.granted import gradient_canaries, known_defenses, shadow_sends, write_labels, write_replicas, write_shadows
from leakaudit.engine.specs import as_json
from leakaudit.engine.training import Training
from leakaudit.facts import SeatFacts
from leakaudit.scoring.controls import derange
from leakaudit.threats import ThreatModel
from leakaudit.wire.messages import Message
from leakaudit.wire.recording import MessageLog, Recorder
from leakaudit.wire.seats import Secret

__all__ = ["REAL", "SHUFFLED", "ViewWriter"]


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
        self._asked = AskedCandidates(training, threat, sources, secret)
        self.candidates: dict[str, str] = dict(self._asked.tokens)
        self.senders: dict[str, str] = {}
        self.behind: dict[str, tuple[int, ...]] = {}
        self._sent: set[str] = set()
        self._shown: set[str] = set()
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
        canaries, tokens = gradient_canaries(self.sources.gradients, self._salt, (REAL, SHUFFLED))
        self.candidates.update(tokens)
        targets = self._targets()
        if self.threat.told_masks:
            # Of either message set: without sample ids, rows of the shuffled one go by tokens of their own.
            attacked = set(self.training.attacked())
            told: dict[str, tuple[int, ...]] = {t: (self.rows[t],) for t in self._shown if self.rows[t] in attacked}
            write_labels(folder, self.training, told | self.behind, self._salt)
        data = {
            "threat": as_json(self.threat), "facts": as_json(self.facts), "modalities": self.training.members.modalities,
            "targets": [asdict(t) for t in targets], "defenses": known_defenses(self.training, self.threat),
            "replicas": write_replicas(folder, self.training, self.threat, self.sources),
            "protocol": {**self.training.spec["protocol"], "cohort": self.training.spec["cohort_facts"]},
            "task": asdict(self.training.task_spec), "secret": self.secret.branch("replicas").key.hex(),
            "shadows": write_shadows(folder, self.training, self.threat, self.sources, self.secret, self.candidates),
            "shadow_sends": shadow_sends(self.sources), "canaries": canaries,
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
        sizes = self._asked.sizes()
        found += [Target(token=t, kind="candidate", size=sizes.get(p, 1)) for t, p in sorted(self.candidates.items())]
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
        for message in self._asked.answers(shuffled=exchange is not None):
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
        self._shown.update(tokens)
        if exchange is None:
            self._sent.update(tokens)
        tensors = {k: t[take] for k, t in message.tensors.items()}
        return replace(message, tensors=tensors, samples=tuple(tokens))

    # Cohorts, defenses, replicas ------------------------------------------------------------------------------------

    def _cohorts(self, folder: Path) -> None:
        auxiliary = owned_cohort(self.training, self.threat.auxiliary, self.secret)
        if auxiliary is not None:
            save_cohort(folder / "auxiliary", auxiliary)
        held = [seat for s in self.seats if (seat := self.facts.seat(s)).modalities or seat.labels]
        if held:
            save_cohort(folder / "holdings", self._holdings(held))
        self._asked.write(folder)

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
