"""The cells of a run, computed by one executor under one display, with the planted controls that the first results ask for."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence

from leakaudit.engine.disclosure import Disclosure
from leakaudit.engine.executors import Executor
from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.logs import FOREIGN
from leakaudit.engine.plan import Plan
from leakaudit.engine.planner import Planner, worker_count
from leakaudit.engine.progress import ProgressDisplay
from leakaudit.engine.results import judge
from leakaudit.engine.scheduler import Event, run_jobs
from leakaudit.engine.store import RunStore
from leakaudit.plugins.manager import get_manager
from leakaudit.plugins.targets import import_target

__all__ = ["compute"]


def compute(
    planner: Planner, planned: Plan, store: RunStore, disclosure: Disclosure, progress: bool
) -> tuple[Plan, dict[str, Outcome]]:
    """Compute the cells of a plan, judge, and compute the planted controls that the undefended pairings ask for.

    Returns:
        The plan with the planted controls, and how every cell ended.
    """
    with _computing(planned, store, disclosure, progress) as cells:
        outcomes = cells(planned.jobs)
        wanted = judge(planned, store, outcomes, planned.recipe.policy).wanted
        if wanted:
            before = {job.key for job in planned.jobs}
            planned = planner.plant(planned, wanted)
            more = [job for job in planned.jobs if job.key not in before]
            logging.getLogger("leakaudit.run").info("%d cells for planted controls", len(more))
            outcomes |= cells(more)
    return planned, outcomes


@contextlib.contextmanager
def _computing(
    planned: Plan, store: RunStore, disclosure: Disclosure, progress: bool
) -> Iterator[Callable[[Sequence[Job]], dict[str, Outcome]]]:
    """Give a function that computes cells: one executor and one display for all that a run computes."""
    settings, manager, logger = planned.recipe.run, get_manager(), logging.getLogger("leakaudit.run")
    choice = planned.recipe.executor
    workers = worker_count(settings.workers, settings.threads)
    executor: Executor = import_target(choice.plugin.info.target)(choice.params, store.root, workers)
    display = ProgressDisplay(executor.slots, None if progress else io.StringIO())

    def on_event(event: Event) -> None:
        display(event)
        if event.kind == "log":
            logger.info("%s %s: %s", event.job.kind, event.job.label, event.data["text"], extra=FOREIGN)
        if event.kind == "ended" and event.outcome is not None:
            o = event.outcome
            logger.info("%s %s: %s %s (%.1f s)", event.job.kind, event.job.label, o.status, o.reason, o.seconds)
            manager.notify(
                "leakaudit_cell_finished", kind=event.job.kind, label=event.job.label, status=o.status, seconds=o.seconds
            )

    def public(outcome: Outcome) -> Outcome:
        shown = disclosure.outcome(outcome)
        if shown.reason != outcome.reason:
            logger.info("in full: %s", outcome.reason, extra=FOREIGN)
        return shown

    manager.notify("leakaudit_run_started", name=planned.recipe.name, cells=len(planned.jobs))
    with display:
        try:
            yield lambda jobs: run_jobs(jobs, executor, store, on_event, public=public)
        finally:
            executor.close()
