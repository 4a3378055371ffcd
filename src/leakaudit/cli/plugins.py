"""`leakaudit plugins list|show|check`: what is installed, and whether it keeps the contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from leakaudit.cli._output import JsonFlag, note, table, write_json
from leakaudit.errors import UserError

__all__ = ["VERBS", "KindName", "check_plugin", "list_plugins", "show_plugin"]


class KindName(StrEnum):
    """Kinds of plugins."""

    attack = "attack"
    defense = "defense"
    protocol = "protocol"
    dataset = "dataset"
    executor = "executor"
    section = "section"


KindOption = Annotated[KindName | None, typer.Option("--kind", help="Kind of plugin.")]
TriedParams = Annotated[
    str | None, typer.Option("--params", metavar="JSON", help="Parameters to try it with; default its examples or defaults.")
]
Name = Annotated[str, typer.Argument(help="Plugin name, or distribution/name.", show_default=False)]


def list_plugins(kind: KindOption = None, json_output: JsonFlag = False) -> None:
    """List the installed plugins. Those that cannot be loaded are named on stderr (with --json: in the list)."""
    from leakaudit.plugins.lookup import describe
    from leakaudit.plugins.manager import get_manager

    manager = get_manager()
    found = manager.plugins(kind.value if kind else None)
    if json_output:
        write_json(
            {
                "plugins": [describe(plugin) for plugin in found],
                "broken": [dataclasses.asdict(broken) for broken in manager.broken],
                "blocked": list(manager.blocked),
            }
        )
        return
    table(
        ("kind", "name", "provided by", "", "summary"),
        (
            (p.info.kind, p.info.name, f"{p.distribution} {p.version}", "third party" if p.third_party else "", p.info.summary)
            for p in found
        ),
    )
    for broken in manager.broken:
        note(f"warning: not loaded: {broken.describe()}")
    for distribution in manager.blocked:
        note(f"not loaded, as asked: {distribution}")


def show_plugin(name: Name, kind: KindOption = None, json_output: JsonFlag = False) -> None:
    """Show one plugin: who provides it, its facts, references and parameters."""
    from leakaudit.plugins.lookup import describe, describe_params, find_any

    plugin = find_any(name, kind.value if kind else None)
    facts = describe(plugin)
    if json_output:
        write_json(facts | {"params": plugin.info.params.model_json_schema()})
        return
    for key, value in facts.items():
        text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        typer.echo(f"{key + ':':<14}{text}")
    params = describe_params(plugin)
    typer.echo("params:" if params else "params:       none")
    for line in params:
        typer.echo(f"  {line}")


def check_plugin(name: Name, kind: KindOption = None, params: TriedParams = None, json_output: JsonFlag = False) -> None:
    """Run the conformance kit on one plugin. Exit code 1 if it breaks the contract."""
    from leakaudit.plugins.lookup import find_any

    examples = [_json_object(params)] if params is not None else []
    plugin = find_any(name, kind.value if kind else None)

    from leakaudit import testing

    try:
        results = testing.check(plugin.info.kind, plugin.qualified, examples=examples)
    except testing.ConformanceError as error:
        if json_output:
            write_json([dataclasses.asdict(result) for result in error.results])
        raise
    if json_output:
        write_json([dataclasses.asdict(result) for result in results])
        return
    table(("check", "status", ""), ((result.name, result.status, result.detail) for result in results))
    typer.echo(f"{plugin.info.kind} {plugin.qualified} {plugin.version} keeps the contract.")


def _json_object(text: str) -> dict[str, Any]:
    """Read the value of `--params`.

    Raises:
        UserError: It is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"--params: {text!r} is not JSON ({error}). Write for example --params '{{\"iterations\": 5}}'.") from error
    if not isinstance(value, dict):
        raise UserError(f"--params: expected a JSON object of parameters, got {text!r}.")
    return value


VERBS: dict[str, Callable[..., None]] = {"list": list_plugins, "show": show_plugin, "check": check_plugin}
