"""From judged results to `report.json`: numbers in their places, identifiers out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from leakaudit import __version__
from leakaudit.defenses.guarantee import Guarantee
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.merge import Merged
from leakaudit.engine.plan import Baseline, Plan
from leakaudit.engine.results import NONE, Judged, Results, UtilityResult
from leakaudit.plugins.descriptors import AttackInfo, DatasetInfo
from leakaudit.plugins.loading import FIRST_PARTY
from leakaudit.report import model as m
from leakaudit.report import pairings as mp
from leakaudit.report.base import Measured
from leakaudit.report.images import encode_png
from leakaudit.report.privacy import pseudonym, sanitize
from leakaudit.report.words import with_sentences
from leakaudit.scoring.controls import ControlResult, rho
from leakaudit.scoring.outcome import exit_code, uncovered
from leakaudit.scoring.policy import Policy
from leakaudit.scoring.rates import tail_bound
from leakaudit.scoring.results import EndpointResult
from leakaudit.scoring.verdicts import limit_of
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
    writer = _Writer(plan, results, outcomes, policy, salt, patient_images)
    status = results.run.status if results.run.status in ("PASS", "FAIL", "REVIEW", "ERROR") else "REVIEW"
    code = exit_code(status, cast(Any, fail_on))
    report = m.Report(
        schema_version=m.SCHEMA_VERSION, leakaudit_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=m.RecipeFacts(name=plan.recipe.name, sha256=plan.recipe.sha256), provenance=writer.provenance(),
        data=writer.data(data), verdict=m.Verdict(status=status, exit_code=code, reasons=list(results.run.reasons)),
        policy=_policy(policy), limitations=writer.limitations(data), not_attacked=writer.not_attacked(),
        baselines=[writer.baseline(b) for b in plan.baselines], pairings=[writer.pairing(j) for j in results.judged],
        coverage=writer.coverage(), traffic=writer.traffic(), alarms=writer.alarms(), cells=writer.cells(), errors=writer.errors(),
        contains_patient_images=patient_images,
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
    def __init__(
        self, plan: Plan, results: Results, outcomes: Mapping[str, Outcome], policy: Policy, salt: bytes, patient_images: bool
    ) -> None:
        self.plan, self.results, self.outcomes, self.policy, self.salt = plan, results, outcomes, policy, salt
        self.show_all = patient_images
        # Patient keys of a real cohort may be identifiers: they are taken out of every text that a failure brings along.
        info = cast(DatasetInfo, plan.recipe.data.plugin.info)
        self.synthetic = info.synthetic
        self.public = info.public or bool(getattr(plan.recipe.data.params, "public", False))
        self.known = () if self.synthetic else tuple(e.patient for e in plan.inventory.patients)

    # Facts ------------------------------------------------------------------------------------------------------------

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
            dataset=info.name, synthetic=self.synthetic, public=self.public, license=info.license,
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
        if self.synthetic:
            lines.append("Synthetic patients: this validates the procedure, not your data.")
        return lines

    def not_attacked(self) -> list[m.NotAttacked]:
        """Return the gaps in coverage, defenses of one protocol with the same gap together."""
        gaps: dict[tuple[str, str, str], list[str]] = {}
        for b in self._defended():
            mine = [j.verdict for j in self._of(b)]
            for channel, family in uncovered(mine, b.facts.channels, self.policy):
                gaps.setdefault((b.protocol, channel, family), []).append(b.defense)
        total = {p: sum(b.protocol == p for b in self._defended()) for p in {b.protocol for b in self.plan.baselines}}
        return [
            m.NotAttacked(
                protocol=p, channel=cast(Channel, c), family=f, defenses=[] if len(d) == total[p] else d,
                reason="no valid adaptive attack of this family was run on this channel",
            )
            for (p, c, f), d in gaps.items()
        ]  # fmt: skip

    def coverage(self) -> list[m.Coverage]:
        rows = []
        for b in self._defended():
            for channel in b.facts.channels:
                required = self.policy.required.get(channel, ())
                tried = [j for j in self._of(b) if self._info(j).channels and channel in self._info(j).channels]
                for family in dict.fromkeys((*required, *(self._info(j).family for j in tried))):
                    mine = [j for j in tried if self._info(j).family == family]
                    rows.append(
                        m.Coverage(
                            protocol=b.protocol,
                            defense=b.defense,
                            channel=channel,
                            family=family,
                            required=family in required,
                            state=_state(mine, channel, family),
                            attacks=[j.pairing.attack for j in mine],
                        )
                    )
        return rows

    def _defended(self) -> list[Baseline]:
        return [b for b in self.plan.baselines if b.defense != NONE and b.reason is None]

    def _of(self, b: Baseline) -> list[Judged]:
        return [j for j in self.results.judged if (j.pairing.protocol, j.pairing.defense) == (b.protocol, b.defense)]

    def _info(self, judged: Judged) -> AttackInfo:
        choice = next(a for a in self.plan.recipe.attacks if a.label == judged.pairing.attack)
        return cast(AttackInfo, choice.plugin.info)

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

    def alarms(self) -> list[m.Alarm]:
        return [
            m.Alarm(protocol=p, defense=d, text=sanitize(f"{t['alarm']['detector']}: {t['alarm']['reason']}", known=self.known))
            for (p, d), trainings in self.results.trainings.items()
            for t in trainings
            if t["alarm"]
        ]

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

    # Baselines --------------------------------------------------------------------------------------------------------

    def baseline(self, b: Baseline) -> m.Baseline:
        place = (b.protocol, b.defense)
        verdict, trainings = self.results.defenses[place], self.results.trainings[place]
        seconds = [o.seconds for k in b.trains if (o := self.outcomes.get(k)) is not None and o.ok and not o.cached]
        return m.Baseline(
            protocol=b.protocol, defense=b.defense, status=verdict.status, reasons=self._clean(verdict.reasons),
            utility=self._utility(self.results.utility[place], b), strongest=self._strongest(b),
            guarantee=self._guarantee(trainings), traffic_bytes=sum(t[4] for t in trainings[0]["traffic"]) if trainings else None,
            seconds=sum(seconds) if seconds else None,
        )  # fmt: skip

    def _clean(self, texts: Sequence[str]) -> list[str]:
        return [sanitize(t, known=self.known, limit=600) for t in texts]

    def _utility(self, u: UtilityResult, b: Baseline) -> m.Utility:
        difference = None
        if u.difference is not None:
            value, interval = u.difference
            difference = Measured(value=value, ci=[interval.low, interval.high])
        elif b.defense != NONE:
            difference = Measured(value=None, reason=u.reason or "the undefended model has no Dice to compare with")
        status = u.verdict.status if u.verdict is not None else "REVIEW"
        if b.defense == NONE or b.reason is not None:
            status = "control" if b.defense == NONE else "N/A"
        reason = u.reason or (u.verdict.reasons[0] if u.verdict is not None and u.verdict.status != "PASS" else None)
        return m.Utility(
            dice=u.dice, ci=None if u.interval is None else [u.interval.low, u.interval.high], difference=difference, n=u.n,
            status=cast(Any, status), reason=None if reason is None else sanitize(reason, known=self.known),
        )  # fmt: skip

    def _guarantee(self, trainings: Sequence[Mapping[str, Any]]) -> mp.GuaranteeStatement | None:
        """Return the claims of all seats as one statement: every release, at the largest epsilon."""
        claims = [Guarantee.from_json(g) for t in trainings[:1] for g in t["guarantees"].values()]
        if not claims:
            return None
        weakest = max(claims, key=lambda claim: claim.epsilon)
        releases = list(dict.fromkeys(r for claim in claims for r in claim.releases))
        return mp.GuaranteeStatement(
            mechanism=weakest.mechanism, unit=weakest.unit, neighbors=weakest.neighbors, releases=[list(r) for r in releases],
            epsilon=weakest.epsilon, delta=weakest.delta, accountant=weakest.accountant, conversion=weakest.conversion,
            sampling=weakest.sampling, assumes=list(weakest.assumes),
        )  # fmt: skip

    def _strongest(self, b: Baseline) -> mp.Strongest | None:
        best: mp.Strongest | None = None
        for judged in self._of(b):
            top = self._top(judged)
            if top is not None and top.value is not None and (best is None or best.value is None or top.value > best.value):
                best = top.model_copy(update={"attack": judged.pairing.attack})
        return best

    # Pairings ---------------------------------------------------------------------------------------------------------

    def pairing(self, judged: Judged) -> mp.Pairing:
        p, result = judged.pairing, judged.result
        repeats = len(p.scores)
        return mp.Pairing(
            protocol=p.protocol, defense=p.defense, attack=p.attack, family=self._info(judged).family,
            status=judged.verdict.status, reasons=self._clean(judged.verdict.reasons), repeats=repeats,
            threat=self._threat(judged), adaptive=result.adaptive if p.defense != NONE and judged.merged else None,
            isolation=_isolation(judged, self.plan.recipe.run.isolation),
            endpoints=[self._endpoint(judged, e) for e in result.endpoints],
            controls=self._controls(judged), leakage=self._top(judged), sabotage=judged.sabotage,
            guarantee=self._guarantee(self.results.trainings[p.protocol, p.defense]),
            cost=mp.Cost(seconds=judged.seconds, peak_memory_mb=judged.peak_mb), images=self._images(judged),
        )  # fmt: skip

    def _threat(self, judged: Judged) -> mp.Threat:
        requires = judged.pairing.requires
        if requires is None:
            return mp.Threat(plays=["outsider"], auxiliary="none", words="Not applicable here.")
        t = requires.threat
        return mp.Threat(
            plays=list(t.plays), alters=list(t.alters), channels=list(t.channels), knows=list(t.knows), auxiliary=t.auxiliary,
            words=t.describe(),
        )  # fmt: skip

    def _endpoint(self, judged: Judged, e: EndpointResult) -> mp.Endpoint:
        merged = judged.merged[e.name]
        limit = limit_of(e, self.policy)
        return mp.Endpoint(
            name=e.name, kind=merged.kind, channel=e.channel, seat=merged.seat, level=merged.level,
            status=self._endpoint_status(judged, e, limit), limit=limit, leakage=self._leakage(merged, e),
            raw={k: mp.RawValue(value=v, n=merged.n) for k, v in merged.raw.items()},
        )  # fmt: skip

    def _endpoint_status(self, judged: Judged, e: EndpointResult, limit: float) -> Any:
        if judged.pairing.defense == NONE:
            return "control"
        if e.fail_low is not None and e.fail_low > limit and e.patients >= 10:
            return "FAIL"
        return judged.verdict.status if judged.verdict.status in ("PASS", "ERROR") else "REVIEW"

    def _leakage(self, merged: Merged, e: EndpointResult) -> mp.Leakage:
        interval = e.interval
        unit = "patients" if merged.n != 1 else "patient"
        few = e.repeats < self.policy.min_repeats.value
        scope = "this trained model" if few else f"{e.repeats} trainings"
        reason = None if e.value is not None else "chance and full recovery are too close together for this metric to resolve"
        shown = self.plan.recipe.report.per_patient
        return mp.Leakage(
            value=e.value, ci=None if interval is None or e.value is None else [interval.low, interval.high], reason=reason,
            scope=f"{scope}, {merged.n} {unit}", chance=merged.chance, chance_name=merged.chance_name, anchor=merged.anchor,
            worst=None if e.worst is None else mp.Worst(value=e.worst, bound=tail_bound(merged.n)), patients=merged.n,
            per_patient=[
                mp.PatientLeakage(patient=pseudonym(self.salt, p), value=v)
                for p, v in zip(merged.patients, e.per_patient, strict=True)
            ] if shown and e.per_patient else [],
        )  # fmt: skip

    def _top(self, judged: Judged) -> mp.Strongest | None:
        known = [e for e in judged.result.endpoints if e.value is not None]
        if not known:
            return None
        top = max(known, key=lambda e: (e.value or 0.0) / limit_of(e, self.policy))
        ci = None if top.interval is None else [top.interval.low, top.interval.high]
        return mp.Strongest(value=top.value, ci=ci, endpoint=top.name)

    def _controls(self, judged: Judged) -> mp.Controls:
        top = self._top(judged)
        e = next((e for e in judged.result.endpoints if top is not None and e.name == top.endpoint), None)
        if e is None:
            return mp.Controls()
        ratio = None
        if e.positive is not None and e.interval is not None and judged.pairing.defense != NONE:
            ratio = rho(e.interval.high, e.positive.low)
        worst = max((x.negative for x in judged.result.endpoints if x.negative is not None), key=lambda c: c.low, default=None)
        positive, negative, planted = (_control(c, e.patients) for c in (e.positive, worst, e.planted))
        return mp.Controls(positive=positive, negative=negative, planted=planted, ratio=ratio)

    def _images(self, judged: Judged) -> list[mp.ImageTriple]:
        allowed = {"none": False, "synthetic": self.synthetic, "public": self.synthetic or self.public, "all": True}
        if not allowed[self.plan.recipe.report.images]:
            return []
        return [
            mp.ImageTriple(
                patient=pseudonym(self.salt, p["patient"]), seat=p["seat"], level=p["level"], original=encode_png(p["original"]),
                reconstruction=encode_png(p["reconstruction"]), chance=encode_png(p["chance"]), score=p["score"],
            )
            for p in judged.pictures
        ]  # fmt: skip


def _control(control: ControlResult | None, n: int) -> mp.Control | None:
    if control is None:
        return None
    ci = [control.low, control.high]
    return mp.Control(value=control.value, ci=ci, criterion=control.criterion, passed=control.passed, n=n)


def _isolation(judged: Judged, mode: str) -> str:
    if not judged.merged:
        return "did not run"
    confined = "cut off from other files by the kernel" if judged.sandbox == "landlock" else "not cut off from other files"
    text = f"in a process of its own, on its view alone, {confined}"
    if judged.pairing.requires is None or not judged.pairing.requires.plays_in_training:
        return text
    where = "in a process of its own" if mode == "strict" else "in the training's own process, where it can reach the others' data"
    return f"{text}; during training its party was {where}"


def _state(tried: Sequence[Judged], channel: str, family: str) -> Any:
    if any((channel, family) in j.verdict.covers for j in tried):
        return "tested"
    if any(j.verdict.status == "ERROR" for j in tried):
        return "failed"
    ran = [j for j in tried if j.verdict.status != "N/A"]
    if ran:
        return "not adaptive" if not any(j.result.adaptive for j in ran) else "not tested"
    return "not applicable" if tried else "not tested"
