"""What the command line and other programs call: plan, run, render, and the run store's housekeeping."""

from __future__ import annotations

import io
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakaudit.engine.assemble import assemble
from leakaudit.engine.executors import Executor
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.kept import keep, recall
from leakaudit.engine.plan import Plan, describe
from leakaudit.engine.planner import make_plan, worker_count
from leakaudit.engine.progress import ProgressDisplay
from leakaudit.engine.results import judge
from leakaudit.engine.scheduler import Event, run_jobs
from leakaudit.engine.store import RunStore
from leakaudit.errors import UserError
from leakaudit.plugins.manager import get_manager
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.resolved import ResolvedRecipe
from leakaudit.report.files import FILE_NAMES, Format, read_report, write_report
from leakaudit.report.model import Report
from leakaudit.scoring.policy import Policy

__all__ = ["PlanView", "RunResult", "cache_info", "cache_prune", "plan", "render", "run"]

STORE = "store"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes:
        status: PASS, FAIL, REVIEW or ERROR; the word in the report.
        exit_code: Its exit code.
        sentence: The verdict in one sentence.
        report_json: Path of the report's data.
        report_html: Path of the report.
    """

    status: str
    exit_code: int
    sentence: str
    report_json: Path
    report_html: Path


@dataclass(frozen=True)
class PlanView:
    """A plan for people and programs."""

    plan: Plan

    def lines(self) -> list[str]:
        """Return the plan as text."""
        p = self.plan
        count = ", ".join(f"{n} {name.replace('_', '-')}" for name, n in describe(p.split).items())
        kinds: dict[str, int] = {}
        for job in p.jobs:
            kinds[job.kind] = kinds.get(job.kind, 0) + 1
        text = [
            f"{p.recipe.name} on {p.device}: {len(p.baselines)} baselines x {p.recipe.repeats} repeat(s), "
            f"{len(p.pairings)} pairings",
            f"patients: {count}",
            "cells: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()),
        ]
        policy = p.recipe.policy
        text.append(
            f"PASS needs {policy.min_patients.value:g} attacked patients (there are {len(p.split.attacked)}) and "
            f"{policy.min_repeats.value:g} repeats (there {'is' if p.recipe.repeats == 1 else 'are'} {p.recipe.repeats})"
        )
        text += [f"  N/A  {b.protocol} / {b.defense}: {b.reason}" for b in p.baselines if b.reason is not None]
        for pairing in p.pairings:
            name = f"{pairing.protocol} / {pairing.defense} / {pairing.attack}"
            text.append(f"  N/A  {name}: {pairing.reason}" if pairing.reason is not None else f"  run  {name}")
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON, without patients."""
        p = self.plan
        return {
            "recipe": {"name": p.recipe.name, "sha256": p.recipe.sha256}, "device": p.device, "patients": describe(p.split),
            "cells": [{"key": j.key, "kind": j.kind, "label": j.label, "inputs": list(j.inputs)} for j in p.jobs],
            "pairings": [
                {"protocol": q.protocol, "defense": q.defense, "attack": q.attack, "not_applicable": q.reason} for q in p.pairings
            ],
        }  # fmt: skip


def plan(recipe: ResolvedRecipe) -> PlanView:
    """Plan a recipe without computing anything.

    Raises:
        UserError: The data cannot be used, or a protocol or defense does not fit it.
    """
    return PlanView(make_plan(recipe))


def run(recipe: ResolvedRecipe, out: Path, *, fail_on: str, progress: bool = True) -> RunResult:
    """Run an audit and write its report into `out`; what an earlier run left there is used again.

    Raises:
        UserError: The recipe does not fit the data.
    """
    planned = make_plan(recipe)
    out.mkdir(parents=True, exist_ok=True)
    store = RunStore(out / STORE)
    recipe.write(out / "recipe.resolved.yaml")
    log = _log_to(out / "run.log")
    try:
        outcomes = _compute(planned, store, progress)
        keep(store, planned, outcomes)
        report = _report(planned, store, outcomes, recipe.policy, fail_on)
    finally:
        logging.getLogger("leakaudit").removeHandler(log)
        log.close()
    return _write(report, out)


def _log_to(path: Path) -> logging.FileHandler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("leakaudit")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


def _compute(planned: Plan, store: RunStore, progress: bool) -> dict[str, Outcome]:
    settings, manager, logger = planned.recipe.run, get_manager(), logging.getLogger("leakaudit.run")
    choice = planned.recipe.executor
    workers = worker_count(settings.workers, settings.threads)
    executor: Executor = import_target(choice.plugin.info.target)(choice.params, store.root, workers)
    display = ProgressDisplay(executor.slots, None if progress else io.StringIO())

    def on_event(event: Event) -> None:
        display(event)
        if event.kind == "log":
            logger.info("%s %s: %s", event.job.kind, event.job.label, event.data["text"])
        if event.kind == "ended" and event.outcome is not None:
            o = event.outcome
            logger.info("%s %s: %s %s (%.1f s)", event.job.kind, event.job.label, o.status, o.reason, o.seconds)
            manager.notify(
                "leakaudit_cell_finished", kind=event.job.kind, label=event.job.label, status=o.status, seconds=o.seconds
            )

    manager.notify("leakaudit_run_started", name=planned.recipe.name, cells=len(planned.jobs))
    with display:
        try:
            return run_jobs(planned.jobs, executor, store, on_event)
        finally:
            executor.close()


def _report(planned: Plan, store: RunStore, outcomes: dict[str, Outcome], policy: Policy, fail_on: str) -> Report:
    results = judge(planned, store, outcomes, policy)
    entry = store.get(planned.cohort_key)
    origin = json.loads((entry.folder / "cohort" / "cohort.json").read_text())["origin"] if entry is not None else {}
    data = {"digest": origin.get("digest", ""), "notes": [*planned.inventory.notes, *origin.get("notes", ())]}
    data["notes"] = list(dict.fromkeys(data["notes"]))
    images = planned.recipe.report.images == "all"
    return assemble(planned, results, outcomes, policy, _salt(store), data, fail_on=fail_on, patient_images=images)


def _salt(store: RunStore) -> bytes:
    """Return this run's salt of pseudonyms; it stays in the run's folder."""
    path = store.root / "salt"
    if not path.exists():
        path.write_bytes(secrets.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


def _write(report: Report, out: Path) -> RunResult:
    write_report(report, out)
    get_manager().notify("leakaudit_run_finished", status=report.verdict.status)
    verdict = report.verdict
    sentence = report.sentences.verdict.removeprefix(f"{verdict.status}: ") if report.sentences is not None else ""
    return RunResult(
        status=verdict.status, exit_code=verdict.exit_code, sentence=sentence, report_json=out / FILE_NAMES["json"],
        report_html=out / FILE_NAMES["html"],
    )  # fmt: skip


def render(out: Path, formats: Sequence[Format] = ("html",), policy: Path | None = None) -> list[Path]:
    """Render the report of a run again; with another policy, judge the stored evidence by it first.

    Raises:
        UserError: There is no finished run in `out`, or the policy is invalid.
    """
    report = read_report(out) if policy is None else _rejudge(out, policy)
    # Judged anew, the data changes too: a page must never disagree with the JSON beside it.
    chosen = tuple(dict.fromkeys((*formats, *(("json", "html") if policy is not None else ()))))
    return write_report(report, out, formats=chosen)


def _rejudge(out: Path, policy: Path) -> Report:
    from leakaudit.recipes.loading import load_recipe

    recipe = load_recipe(out / "recipe.resolved.yaml", [f"policy={json.dumps(str(policy.absolute()))}"], allow_patient_images=True)
    planned = make_plan(recipe)
    store = RunStore(out / STORE)
    planned, outcomes = recall(store, planned)
    return _report(planned, store, outcomes, recipe.policy, recipe.policy.fail_on)


def cache_info(out: Path) -> dict[str, Any]:
    """Return what a run folder keeps."""
    info = _store(out).info()
    return {
        "entries": info.count,
        "sensitive_bytes": info.sensitive_bytes,
        **{f"{k}_bytes": v for k, v in info.bytes_by_kind.items()},
    }


def cache_prune(out: Path, *, sensitive: bool) -> dict[str, Any]:
    """Remove stored cells: all of them, or only those that depend on patients."""
    store = _store(out)
    return {"freed_bytes": store.prune(sensitive=sensitive), "kept_entries": store.info().count}


def _store(out: Path) -> RunStore:
    if not (out / STORE).is_dir():
        raise UserError(f"{out}: there is no run store here. Give the folder of a run (--out of leakaudit run).")
    return RunStore(out / STORE)
