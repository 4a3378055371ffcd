"""One JSON Schema (draft-07) of recipes that knows the parameters of the installed plugins."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from leakaudit.plugins.descriptors import Kind
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.manager import PluginManager, get_manager
from leakaudit.recipes.models import NONE, AttackEntry, DataEntry, DefenseEntry, Entry, ExecutorEntry, Recipe

__all__ = ["recipe_schema"]

_Json = dict[str, Any]
_DRAFT = "http://json-schema.org/draft-07/schema#"


def recipe_schema(manager: PluginManager | None = None) -> _Json:
    """Return the JSON Schema of recipes.

    Args:
        manager: Plugins to include; by default those of this environment.

    Returns:
        A draft-07 schema. Every entry is one of the installed plugins, told apart by `use`.
    """
    from leakaudit.cohorts.split import SplitParams
    from leakaudit.scoring.policy import Policy

    builder = _Builder(manager or get_manager())
    schema = builder.model(Recipe, "recipe")
    properties = schema["properties"]
    properties["data"] = builder.entries("dataset", DataEntry, bare=True)
    properties["protocols"]["items"] = builder.entries("protocol", Entry, bare=True)
    properties["defenses"]["items"] = builder.defenses()
    properties["attacks"]["items"] = builder.entries("attack", AttackEntry, bare=True)
    properties["policy"] = {"anyOf": [builder.reference(Policy, "policy"), {"type": "string"}]} | _about(Recipe, "policy")
    for entry in builder.dataset_entries:
        entry["properties"]["split"] = builder.reference(SplitParams, "split")
    run = builder.definitions["recipe.RunSettings"]["properties"]
    run["executor"] = builder.entries("executor", ExecutorEntry, bare=True, default="local")
    sections = builder.definitions["recipe.ReportSettings"]["properties"]["sections"]
    sections["items"] = builder.entries("section", Entry, bare=True)
    _drop_unused(schema, builder.definitions)
    return {"$schema": _DRAFT, **schema, "title": "leakaudit recipe", "definitions": builder.definitions}


class _Builder:
    """Collects definitions while the schema is put together."""

    def __init__(self, manager: PluginManager) -> None:
        self._manager = manager
        self.definitions: dict[str, _Json] = {}
        self.dataset_entries: list[_Json] = []

    def model(self, model: type[BaseModel], prefix: str) -> _Json:
        """Return a model's schema; its nested models become definitions called `prefix.Name`."""
        template = f"#/definitions/{prefix}.{{model}}"
        schema: _Json = _draft_07(model.model_json_schema(ref_template=template))
        for name, definition in schema.pop("$defs", {}).items():
            self.definitions[f"{prefix}.{name}"] = definition
        return schema

    def reference(self, model: type[BaseModel], name: str) -> _Json:
        """Define a model once and return a reference to it."""
        if name not in self.definitions:
            self.definitions[name] = self.model(model, name)
        return {"$ref": f"#/definitions/{name}"}

    def entries(self, kind: Kind, model: type[BaseModel], *, bare: bool, default: str | None = None) -> _Json:
        """Return the choice between the plugins of one kind."""
        names = self._manager.names(kind)
        choices = [self._entry(kind, name, model, required=name != default) for name in names]
        if kind == "dataset":
            self.dataset_entries = choices
        short = [{"type": "string", "enum": list(names)}] if bare and names else []
        return {"oneOf": [*short, *choices]} if names else {"not": {}, "description": f"No {kind} is installed."}

    def defenses(self) -> _Json:
        """Return the choice between the installed defenses, `none`, and chains of them."""
        single = self.entries("defense", DefenseEntry, bare=True)
        links = self.entries("defense", Entry, bare=True)
        chain = self.model(DefenseEntry, "recipe")
        chain["properties"] = {"chain": {"type": "array", "minItems": 1, "items": links}} | {"name": chain["properties"]["name"]}
        chain["required"] = ["chain"]
        return {"oneOf": [{"const": NONE}, *single.get("oneOf", []), chain]}

    def _entry(self, kind: Kind, name: str, model: type[BaseModel], *, required: bool) -> _Json:
        plugin = self._manager.find(kind, name)
        entry = self.model(model, "recipe")
        entry["properties"].pop("chain", None)
        entry["properties"]["use"] = {"const": name}
        entry["properties"]["params"] = self.reference(plugin.info.params, f"{kind}.{plugin.qualified.replace('/', '.')}")
        entry["required"] = [*(["use"] if required else []), *(["params"] if _demanding(plugin) else [])]
        return entry | {"title": f"{kind} {name}", "description": plugin.info.summary}


def _demanding(plugin: Plugin) -> bool:
    """Whether a plugin has parameters without a default."""
    return any(field.is_required() for field in plugin.info.params.model_fields.values())


def _about(model: type[BaseModel], field: str) -> _Json:
    return {"description": model.model_fields[field].description}


def _drop_unused(schema: _Json, definitions: dict[str, _Json]) -> None:
    """Remove definitions that nothing refers to (the generic entries that plugins' own replaced)."""
    used: set[str] = set()
    pending: list[Any] = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix("#/definitions/")
            if name in definitions and name not in used:
                used.add(name)
                pending.append(definitions[name])
        pending.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
    for name in definitions.keys() - used:
        del definitions[name]


def _draft_07(node: Any) -> Any:
    """Rewrite what pydantic writes for 2020-12 so that draft-07 tools (most editors) read it."""
    if isinstance(node, list):
        return [_draft_07(item) for item in node]
    if not isinstance(node, dict):
        return node
    rewritten = {key: _draft_07(value) for key, value in node.items()}
    if isinstance(rewritten.get("prefixItems"), list):
        rewritten["items"] = rewritten.pop("prefixItems")
        rewritten["additionalItems"] = False
    if "$ref" in rewritten and len(rewritten) > 1:
        # Draft-07 ignores everything beside $ref.
        return {"allOf": [{"$ref": rewritten.pop("$ref")}], **rewritten}
    return rewritten
