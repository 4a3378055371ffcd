"""What the command line and other programs call: plan, run, render, and the run store's housekeeping."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leakaudit.engine.assemble import assemble
from leakaudit.engine.computing import compute
from leakaudit.engine.disclosure import Disclosure, is_private, region_support
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.kept import keep, known_patients, recall
from leakaudit.engine.logs import PRIVATE_LOG, logging_to
from leakaudit.engine.plan import Plan
from leakaudit.engine.planner import Planner, make_plan
from leakaudit.engine.planview import PlanView
from leakaudit.engine.pruning import prune
from leakaudit.engine.reasons import withholding
from leakaudit.engine.results import judge
from leakaudit.engine.salt import run_salt
from leakaudit.engine.sections import with_sections
from leakaudit.engine.store import RunStore
from leakaudit.errors import UserError
from leakaudit.plugins.manager import get_manager
from leakaudit.recipes.resolved import ResolvedRecipe
from leakaudit.report.files import FILE_NAMES, Format, read_report, write_report
from leakaudit.report.model import Report
from leakaudit.report.words import with_sentences
from leakaudit.scoring.policy import Policy

__all__ = ["PlanView", "RunResult", "cache_info", "cache_prune", "plan", "render", "run"]

STORE = "store"
RECIPE = "recipe.resolved.yaml"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes:
        status: PASS, FAIL, REVIEW or ERROR; the word in the report.
        exit_code: Its exit code.
        sentence: The verdict in one sentence.
        report_json: Path of the report's data.
        report_html: Path of the report.
        private_log: Where failures are told in full, with the names of real patients; None where there is nothing to tell.
    """

    status: str
    exit_code: int
    sentence: str
    report_json: Path
    report_html: Path
    private_log: Path | None = None


def plan(recipe: ResolvedRecipe) -> PlanView:
    """Plan a recipe without computing anything.

    Raises:
        UserError: The data cannot be used, or a protocol or defense does not fit it.
    """
    with withholding(is_private(recipe)):
        planned = make_plan(recipe)
    Disclosure.of(planned)  # refuses names that no report may show
    return PlanView(planned)


def run(recipe: ResolvedRecipe, out: Path, *, fail_on: str, progress: bool = True) -> RunResult:
    """Run an audit and write its report into `out`; what an earlier run left there is used again.

    Raises:
        UserError: The recipe does not fit the data.
    """
    with withholding(is_private(recipe)):
        planner = Planner(recipe)
        planned = planner.plan()
        disclosure = Disclosure.of(planned)
        _make_folder(out)
        store = RunStore(out / STORE)
        _write_recipe(recipe, out)
        with logging_to(out, store.root, disclosure):
            planned, outcomes = compute(planner, planned, store, disclosure, progress)
            keep(store, planned, outcomes)
            report = _report(planned, store, outcomes, recipe.policy, fail_on)
    return _write(report, out)


def _make_folder(out: Path) -> None:
    """Make a run's folder, kept out of version control; what is in a folder that has other things in it stays as it is."""
    out.mkdir(parents=True, exist_ok=True)
    if not any(out.iterdir()):
        (out / ".gitignore").write_text("*\n", encoding="utf-8")


def _write_recipe(recipe: ResolvedRecipe, out: Path) -> None:
    """Write the resolved recipe, which may name folders and patients, for its owner only."""
    path = out / RECIPE
    path.touch(mode=0o600)
    path.chmod(0o600)
    recipe.write(path)


def _report(
    planned: Plan, store: RunStore, outcomes: dict[str, Outcome], policy: Policy, fail_on: str, *, patient_images: bool = True
) -> Report:
    """Return the report; real patients' images only where the recipe asks for them and `patient_images` confirms it."""
    results = judge(planned, store, outcomes, policy)
    entry = store.get(planned.cohort_key)
    origin = json.loads((entry.folder / "cohort" / "cohort.json").read_text())["origin"] if entry is not None else {}
    data = {"digest": origin.get("digest", ""), "notes": [*planned.inventory.notes, *origin.get("notes", ())]}
    data["notes"] = list(dict.fromkeys(data["notes"]))
    disclosure = Disclosure.of(planned)
    images = disclosure.private and planned.recipe.report.images == "all" and patient_images
    if not images:
        planned = _without_patient_images(planned)
    report = assemble(planned, results, outcomes, policy, run_salt(store.root), data, fail_on=fail_on, patient_images=images)
    shown = disclosure.report(report, region_support(results.trainings))
    return with_sentences(with_sections(shown, planned.recipe.sections, disclosure))


def _without_patient_images(planned: Plan) -> Plan:
    """Return a plan whose recipe asks for images of synthetic or public data at most."""
    settings = planned.recipe.report
    if settings.images != "all":
        return planned
    asked = planned.recipe.recipe.model_copy(update={"report": settings.model_copy(update={"images": "public"})})
    return replace(planned, recipe=replace(planned.recipe, recipe=asked))


def _write(report: Report, out: Path) -> RunResult:
    write_report(report, out)
    log = out / STORE / PRIVATE_LOG
    get_manager().notify("leakaudit_run_finished", status=report.verdict.status)
    verdict = report.verdict
    sentence = report.sentences.verdict.removeprefix(f"{verdict.status}: ") if report.sentences is not None else ""
    return RunResult(
        status=verdict.status, exit_code=verdict.exit_code, sentence=sentence, report_json=out / FILE_NAMES["json"],
        report_html=out / FILE_NAMES["html"], private_log=log if report.errors and log.exists() else None,
    )  # fmt: skip


def render(
    out: Path, formats: Sequence[Format] = ("html",), policy: Path | None = None, *, patient_images: bool = False
) -> list[Path]:
    """Render the report of a run again; with another policy, judge the stored evidence by it first.

    Args:
        out: Folder of the run.
        formats: Which files.
        policy: A YAML file with other thresholds.
        patient_images: Whether images of real patients that the recipe asks for are confirmed; without, there are none.

    Raises:
        UserError: There is no finished run in `out`, or the policy is invalid.
    """
    report = read_report(out) if policy is None else _rejudge(out, policy, patient_images)
    # Judged anew, the data changes too: a page must never disagree with the JSON beside it.
    chosen = tuple(dict.fromkeys((*formats, *(("json", "html") if policy is not None else ()))))
    return write_report(report, out, formats=chosen)


def _rejudge(out: Path, policy: Path, patient_images: bool) -> Report:
    from leakaudit.recipes.loading import load_recipe

    # What the run knew of its patients is in its store: the data may have moved away.
    recipe = load_recipe(
        out / RECIPE, [f"policy={json.dumps(str(policy.absolute()))}"], allow_patient_images=True, with_data=False
    )  # fmt: skip
    store = _store(out)
    with withholding(is_private(recipe)):
        planned, outcomes = recall(store, make_plan(recipe, known_patients(store)))
    return _report(planned, store, outcomes, recipe.policy, recipe.policy.fail_on, patient_images=patient_images)


def cache_info(out: Path) -> dict[str, Any]:
    """Return what a run folder keeps."""
    info = _store(out).info()
    return {
        "entries": info.count,
        "sensitive_bytes": info.sensitive_bytes,
        **{f"{k}_bytes": v for k, v in info.bytes_by_kind.items()},
    }


def cache_prune(out: Path, *, sensitive: bool) -> dict[str, Any]:
    """Remove stored cells: all of them, or only those that depend on patients; see `leakaudit.engine.pruning`.

    Raises:
        UserError: There is no store, or something could not be removed.
    """
    return prune(out, _store(out), sensitive=sensitive)


def _store(out: Path) -> RunStore:
    if not (out / STORE).is_dir():
        raise UserError(f"{out}: there is no run store here. Give the folder of a run (--out of leakaudit run).")
    return RunStore(out / STORE)
