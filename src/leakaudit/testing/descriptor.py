"""Checks of every plugin: what its descriptor says, how light its modules are, and whether its class can be had."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from importlib.metadata import entry_points

from pydantic import BaseModel, ValidationError

from leakaudit.attacks import Attack
from leakaudit.cohorts import Dataset
from leakaudit.defenses import Defense
from leakaudit.engine.executors import Executor
from leakaudit.plugins.descriptors import API_VERSION, AttackInfo
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.hookspecs import PROJECT
from leakaudit.plugins.loading import provenance
from leakaudit.plugins.sources import resolve_target
from leakaudit.protocols import Protocol
from leakaudit.report import SectionWriter
from leakaudit.testing.results import UntriedError, ViolationError
from leakaudit.testing.subject import Subject

__all__ = ["api_version", "default_params", "described", "light", "references", "summary", "target", "taxonomy"]

HEAVY = ("torch", "monai", "opacus", "skimage")
"""What no plugin module and no params module may import."""

_SCHEMES = {"atlas": r"AML\.T\d{4}(\.\d{3})?", "owasp": r"(ML|LLM)\d{2}:20\d{2}"}
_BASES: dict[str, type] = {
    "attack": Attack, "defense": Defense, "protocol": Protocol, "dataset": Dataset, "executor": Executor,
    "section": SectionWriter,
}  # fmt: skip


def summary(subject: Subject) -> None:
    """The summary is one line that says something."""
    text = subject.plugin.info.summary
    if len(text.split()) < 3 or len(text) > 160:
        raise ViolationError(
            f"the summary {text!r} does not say what the plugin does.",
            "write one line of at least three words and at most 160 characters in the descriptor's summary.",
        )


def references(subject: Subject) -> None:
    """Attacks and defenses name where they come from."""
    info = subject.plugin.info
    blank = [r for r in info.references if not r.strip() or "\n" in r]
    if blank or (info.kind in ("attack", "defense") and not info.references):
        raise ViolationError(
            "the descriptor names no paper or page." if not blank else "a reference is empty or longer than a line.",
            "give references=(...), one line each; for something of your own name its page or documentation.",
        )


def api_version(subject: Subject) -> None:
    """The contract version is one that this leakaudit offers."""
    found = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", str(subject.plugin.info.api_version))
    major, minor = (int(part) for part in API_VERSION.split("."))
    if not found or int(found[1]) != major or int(found[2]) > minor:
        raise ViolationError(
            f"api_version {subject.plugin.info.api_version!r} does not fit contract {API_VERSION}.",
            f'write the contract it was written for as a literal, for example api_version="{API_VERSION}".',
        )


def taxonomy(subject: Subject) -> None:
    """Taxonomy tags are well formed."""
    info = subject.plugin.info
    if not isinstance(info, AttackInfo) or not info.taxonomy:
        raise UntriedError("it carries no taxonomy tags")
    for tag in info.taxonomy:
        scheme, _, name = tag.partition(":")
        pattern = _SCHEMES.get(scheme, r"\S+")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", scheme) or not re.fullmatch(pattern, name):
            raise ViolationError(
                f"the taxonomy tag {tag!r} is malformed.",
                'write "scheme:identifier", for example "atlas:AML.T0024.001" or "owasp:ML03:2023".',
            )


def light(subject: Subject) -> None:
    """Listing the plugin imports nothing heavy: neither its entry point's module nor that of its params."""
    mine = [point.module for point in entry_points(group=PROJECT) if provenance(point)[0] == subject.plugin.distribution]
    modules = [*dict.fromkeys([*mine, subject.plugin.info.params.__module__])]
    for module in modules:
        heavy, problem = _imports(module)
        if problem:
            raise ViolationError(f"module {module!r} cannot be imported alone: {problem}.", "make it importable by itself.")
        if heavy:
            raise ViolationError(
                f"importing {module!r} imports {' and '.join(heavy)}.",
                "keep plugin.py and params.py to leakaudit.plugins, leakaudit.threats, leakaudit.facts and pydantic; "
                "import the rest in the target's module.",
            )


def _imports(module: str) -> tuple[list[str], str]:
    code = (
        f"import importlib, json, sys; importlib.import_module({module!r}); "
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return [], (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""


def described(subject: Subject) -> None:
    """Every parameter has a description, those of nested models included."""
    for name in _undescribed(subject.plugin.info.params, "", set()):
        raise ViolationError(f"the parameter {name!r} has no description.", "write Field(..., description=...).")


def _undescribed(model: type[BaseModel], prefix: str, seen: set[type]) -> Iterator[str]:
    seen.add(model)
    for name, info in model.model_fields.items():
        if not (info.description or "").strip():
            yield prefix + name
        for nested in _models(info.annotation):
            if nested not in seen:
                yield from _undescribed(nested, f"{prefix}{name}.", seen)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def default_params(subject: Subject) -> None:
    """The defaults (or the examples) are valid and survive a round trip through JSON."""
    model = subject.plugin.info.params
    for example in subject.examples:
        try:
            params = model.model_validate(dict(example))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the model"
            what = f"the example {dict(example)}" if example else "the model without arguments"
            raise ViolationError(
                f"{what} is invalid: {where}: {first['msg']}.",
                'give every field a default, or name working values: model_config = ConfigDict(json_schema_extra={"examples": '
                "[{...}]}) in the params model, examples=[{...}] of check(), or --params on the command line.",
            ) from error
        if model.model_validate(json.loads(json.dumps(params.key()))) != params:
            raise ViolationError(
                "params written as JSON and read again are not the same.", "use field types that JSON can hold exactly."
            )


def target(subject: Subject) -> None:
    """The target can be imported, has the right base class, and leaves no abstract method open."""
    info = subject.plugin.info
    try:
        found = resolve_target(info)
    except PluginLoadError as error:
        raise ViolationError(str(error), "name an importable class as 'package.module:Class'.") from error
    base = _BASES.get(info.kind)
    if base is not None and not issubclass(found, base):
        raise ViolationError(
            f"{info.target} is not a subclass of {base.__module__}.{base.__qualname__}.", f"derive it from {base.__name__}."
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ViolationError(f"{info.target} does not implement {missing}.", "implement every abstract method.")
