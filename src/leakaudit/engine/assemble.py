"""From judged results to `report.json`: numbers in their places, identifiers out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from leakaudit import __version__
from leakaudit.engine.assemble_baselines import BaselineWriter
from leakaudit.engine.assemble_coverage import CoverageWriter
from leakaudit.engine.assemble_detections import DetectionWriter
from leakaudit.engine.assemble_pairings import PairingWriter
from leakaudit.engine.assemble_protocols import ProtocolWriter
from leakaudit.engine.comparisons import Comparisons
from leakaudit.engine.happenings import happenings, unseated
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.plan import Plan
from leakaudit.engine.results import Results
from leakaudit.plugins.descriptors import DatasetInfo
from leakaudit.plugins.loading import FIRST_PARTY
from leakaudit.report import model as m
from leakaudit.report.privacy import sanitize
from leakaudit.report.words import with_sentences
from leakaudit.scoring.outcome import exit_code
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.rates import tail_bound
from leakaudit.threats import Channel

__all__ = ["assemble"]

_PACKAGES = (
    "leakaudit",
    "monai",
    "nibabel",
    "numpy",
    "opacus",
    "pluggy",
    "pydantic",
    "safetensors",
    "scikit-image",
    "scipy",
    "torch",
)


def assemble(
    plan: Plan, results: Results, outcomes: Mapping[str, Outcome], policy: Policy, salt: bytes, data: Mapping[str, Any],
    *, fail_on: str, patient_images: bool,
) -> m.Report:  # fmt: skip
    """Return the report of a run.

    Args:
        plan: What was planned.
        results: What was found.
        outcomes: How every cell ended.
        policy: What counts as acceptable.
        salt: Random bytes of this run, for pseudonyms.
        data: `digest` and `notes` of the cohort.
        fail_on: What makes the exit code non-zero.
        patient_images: Whether the operator asked for real patients' images.
    """
    writer = _Writer(plan, results, outcomes, policy, salt)
    status = results.run.status if results.run.status in ("PASS", "FAIL", "REVIEW", "ERROR") else "REVIEW"
    code = exit_code(status, cast(Any, fail_on))
    report = m.Report(
        schema_version=m.SCHEMA_VERSION, leakaudit_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=m.RecipeFacts(name=plan.recipe.name, sha256=plan.recipe.sha256), provenance=writer.provenance(),
        data=writer.data(data), verdict=m.Verdict(status=status, exit_code=code, reasons=list(results.run.reasons)),
        policy=_policy(policy), limitations=writer.limitations(data), not_attacked=writer.covered.not_attacked(),
        baselines=[writer.baselines.baseline(b) for b in plan.baselines],
        pairings=[writer.pairings.pairing(j) for j in results.judged],
        comparisons=writer.compared.comparisons(), equal_utility=writer.compared.equal_utility(),
        coverage=writer.covered.coverage(), traffic=writer.traffic(), alarms=writer.watched.alarms(),
        detections=writer.watched.detections(), seats=writer.seats(), cells=writer.cells(),
        protocols=writer.trained.protocols(), sweeps=writer.trained.sweeps(),
        errors=writer.errors(), contains_patient_images=patient_images,
    )  # fmt: skip
    return with_sentences(report)


def _policy(policy: Policy) -> m.Policy:
    limits = [m.Threshold(name=n, value=t.value, owner=t.owner, reason=t.reason) for n, t in policy.thresholds().items()]
    required = {channel: list(families) for channel, families in policy.required.items()}
    return m.Policy(thresholds=limits, required=required, candidates=list(policy.candidates), require=policy.require)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class _Writer:
    def __init__(self, plan: Plan, results: Results, outcomes: Mapping[str, Outcome], policy: Policy, salt: bytes) -> None:
        self.plan, self.results, self.outcomes, self.policy = plan, results, outcomes, policy
        self.pairings = PairingWriter(plan, results, policy, salt)
        self.covered = CoverageWriter(plan, results, policy, self.pairings.info)
        self.compared = Comparisons(plan, results, policy)
        self.trained = ProtocolWriter(plan)
        self.synthetic, self.known = self.pairings.synthetic, self.pairings.known
        self.baselines = BaselineWriter(results, outcomes, self.pairings, self.compared)
        self.watched = DetectionWriter(plan, results, self.known)

    def provenance(self) -> m.Provenance:
        settings = self.plan.recipe.run
        used = {(c.plugin.distribution, c.plugin.info.kind, c.plugin.info.name): c.plugin for c in self.plan.recipe.choices}
        plugins = [
            m.PluginUsed(name=p.info.name, kind=p.info.kind, distribution=p.distribution, version=p.version,
                         ours=p.distribution in FIRST_PARTY)
            for p in used.values()
        ]  # fmt: skip
        return m.Provenance(
            python=platform.python_version(), torch=_installed("torch"), device=self.plan.device, threads=settings.threads,
            packages={p: v for p in _PACKAGES if (v := _installed(p)) is not None}, plugins=plugins,
            notes={
                "deterministic algorithms": "on" if settings.determinism else "off", "precision": settings.precision,
                "isolation of active parties": settings.isolation,
            },
        )  # fmt: skip

    def data(self, data: Mapping[str, Any]) -> m.DataFacts:
        split, info = self.plan.split, cast(DatasetInfo, self.plan.recipe.data.plugin.info)
        return m.DataFacts(
            dataset=info.name, synthetic=self.synthetic, public=self.pairings.public, license=info.license,
            modalities=list(self.plan.inventory.modalities), shape=list(self.plan.inventory.shape),
            sites=len({e.site for e in self.plan.inventory.patients}), sha256=data.get("digest") or None,
            patients=m.Patients(
                members=len(split.members), validation=len(split.validation), test=len(split.test),
                non_members=len(split.non_members), auxiliary=len(split.auxiliary),
            ),
        )  # fmt: skip

    def limitations(self, data: Mapping[str, Any]) -> list[str]:
        policy, split, repeats = self.policy, self.plan.split, self.plan.recipe.repeats
        lines = [sanitize(note, known=self.known) for note in data.get("notes", ())]
        if repeats < policy.min_repeats.value:
            lines.append(
                f"{repeats} training run{'s' if repeats > 1 else ''} of each protocol and defense; PASS needs "
                f"{policy.min_repeats.value:g}, because another training may leak more."
            )
        attacked = len(split.attacked)
        if attacked < policy.min_patients.value:
            lines.append(
                f"{attacked} attacked patient{'s' if attacked > 1 else ''}; PASS needs {policy.min_patients.value:g}. "
                f"Even if none of {attacked} leaked, up to {tail_bound(attacked):.0%} of such patients might."
            )
        if attacked < 2:
            lines.append("With one attacked patient messages cannot be shuffled between patients: no negative control.")
        if len(split.validation) < 20:
            lines.append(
                f"Chance was chosen on {len(split.validation)} validation patients; with fewer than 20 the choice is not firm."
            )
        lines += [line for line in (unseated(self.plan), *self._disturbed()) if line is not None]
        if self.synthetic:
            lines.append("Synthetic patients: this validates the procedure, not your data.")
        return lines

    def _disturbed(self) -> list[str]:
        """Return a line for each protocol whose trainings did not go by their plan; the trainings' own notes say how."""
        noted = dict.fromkeys(p for (p, _), trainings in self.results.trainings.items() if happenings(trainings))
        return [
            f"{protocol}: sites left, or updates were left out (the notes under Dice say when). What was not sent or not used was "
            "not attacked."
            for protocol in noted
        ]

    def traffic(self) -> list[m.Traffic]:
        rows: dict[tuple[str, str, str, str, str], list[int]] = {}
        for b in self.plan.baselines:
            for training in self.results.trainings[b.protocol, b.defense][:1]:
                roles = {s.id: s.role for s in b.facts.seats}
                for channel, sender, receiver, messages, size in training["traffic"]:
                    key = (b.protocol, b.defense, channel, roles.get(sender, sender), roles.get(receiver, receiver))
                    count = rows.setdefault(key, [0, 0])
                    count[0] += messages
                    count[1] += size
        return [
            m.Traffic(protocol=p, defense=d, channel=cast(Channel, c), sender=s, receiver=r, messages=n, bytes=size)
            for (p, d, c, s, r), (n, size) in rows.items()
        ]

    def seats(self) -> list[m.SeatHolding]:
        """Return who holds and sends what in each protocol; all defenses of one share its seats."""
        facts = {b.protocol: b.facts for b in self.plan.baselines}
        return [
            m.SeatHolding(
                protocol=protocol, seat=s.id, role=s.role, modalities=list(s.modalities), labels=s.labels,
                levels=list(f.levels) if any(w.sender == s.role and w.names == f.levels != () for w in f.flows) else [],
            )
            for protocol, f in facts.items()
            for s in f.seats
        ]  # fmt: skip

    def cells(self) -> m.CellCounts:
        ends = self.outcomes.values()
        return m.CellCounts(
            computed=sum(o.ok and not o.cached for o in ends), cached=sum(o.cached for o in ends),
            failed=sum(not o.ok for o in ends), seconds=sum(o.seconds for o in ends if not o.cached),
        )  # fmt: skip

    def errors(self) -> list[m.CellError]:
        jobs = {j.key: j for j in self.plan.jobs}
        return [
            m.CellError(cell=jobs[key].label, kind=jobs[key].kind, reason=sanitize(o.reason, known=self.known) or o.status)
            for key, o in self.outcomes.items()
            if not o.ok and o.status != "blocked" and key in jobs
        ]
