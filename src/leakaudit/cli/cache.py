"""`leakaudit cache info|prune`: what a run folder keeps so that a run can go on, and how to get rid of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from leakaudit.cli._options import OutFolder
from leakaudit.cli._output import JsonFlag, table, write_json

__all__ = ["VERBS", "info", "prune"]


def info(out: OutFolder, json_output: JsonFlag = False) -> None:
    """Show what is kept and how large it is."""
    from leakaudit.engine import api

    facts = api.cache_info(out)
    if json_output:
        write_json(facts)
    else:
        table(("what", "value"), ((str(key), str(value)) for key, value in facts.items()))


def prune(
    out: OutFolder,
    sensitive: Annotated[
        bool, typer.Option("--sensitive", help="Remove only what depends on patients, and the restricted page with it.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Remove what a run keeps to go on or to be judged again, and all that names a patient. The report stays."""
    from leakaudit.engine import api

    facts = api.cache_prune(out, sensitive=sensitive)
    if json_output:
        write_json(facts)
    else:
        table(("what", "value"), ((str(key), str(value)) for key, value in facts.items()))


VERBS: dict[str, Callable[..., None]] = {"info": info, "prune": prune}
