"""The command line: one file per verb, assembled here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from leakaudit.cli import (
    cache,
    compare,
    doctor,
    plan,
    plugins,
    recipes,
    report,
    run,
    schema,
    validate,
    version,
)
from leakaudit.cli._guard import guarded

__all__ = ["app", "main"]


def _new_app(help_text: str) -> typer.Typer:
    # Plain help: rich alone would take a third of the time that `--help` may take.
    return typer.Typer(
        help=help_text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=True
    )


def _options(
    no_third_party: Annotated[
        bool, typer.Option("--no-third-party", help="Load only the plugins maintained with leakaudit.")
    ] = False,
) -> None:
    if no_third_party:
        import os

        from leakaudit.plugins.manager import NO_THIRD_PARTY

        os.environ[NO_THIRD_PARTY] = "1"


_VERBS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "plan": plan.plan,
    "validate": validate.validate,
    "report": report.report,
    "compare": compare.compare,
    "schema": schema.schema,
    "doctor": doctor.doctor,
    "version": version.version,
}

_GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "plugins": ("Installed attacks, defenses, protocols, datasets and executors.", plugins.VERBS),
    "recipes": ("Recipes that come with leakaudit.", recipes.VERBS),
    "cache": ("What a run folder keeps.", cache.VERBS),
}


def _assemble() -> typer.Typer:
    """Return the application with all verbs."""
    top = _new_app("Audit what leaks when hospitals train one segmentation model together.")
    top.callback()(_options)
    for name, verb in _VERBS.items():
        top.command(name)(guarded(verb))
    for group_name, (text, verbs) in _GROUPS.items():
        group = _new_app(text)
        for name, verb in verbs.items():
            group.command(name)(guarded(verb))
        top.add_typer(group, name=group_name)
    return top


app = _assemble()


def main() -> None:
    """Run the command line; the console script."""
    app(prog_name="leakaudit")
