"""From a file to a resolved recipe. Everything that is wrong is reported at once, with file and line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from leakaudit.errors import UserError, nearest
from leakaudit.plugins.descriptors import Kind
from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.manager import PluginManager, get_manager
from leakaudit.plugins.params import Params
from leakaudit.recipes.assembly import Uses, assemble
from leakaudit.recipes.documents import Document, Place
from leakaudit.recipes.models import NONE, Recipe, is_undefended, raw_label
from leakaudit.recipes.overrides import apply_overrides, expand_variables, normalize
from leakaudit.recipes.problems import Problems
from leakaudit.recipes.reading import read_document
from leakaudit.recipes.resolved import ResolvedRecipe

if TYPE_CHECKING:
    from leakaudit.cohorts.split import SplitParams
    from leakaudit.scoring.policy import Policy

__all__ = ["load_recipe"]

_KINDS: dict[str, Kind] = {"protocols": "protocol", "defenses": "defense", "attacks": "attack"}


def load_recipe(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    manager: PluginManager | None = None,
    allow_patient_images: bool = False,
    with_data: bool = True,
) -> ResolvedRecipe:
    """Read, override, validate and resolve a recipe. No dataset is read and nothing heavy is imported.

    Args:
        path: YAML file.
        overrides: `path=value` changes, applied before validation.
        manager: Installed plugins; by default those of this environment.
        allow_patient_images: Accept `report.images: all`.
        with_data: Whether the dataset is going to be read; if not, environment variables that its parameters name may be unset.

    Raises:
        RecipeError: The recipe is invalid; the message lists every problem, one line each.
        UserError: The file cannot be read as YAML, or an override leads nowhere.
    """
    document = read_document(path)
    problems = Problems()
    for _, message in document.duplicates:
        problems.add_line(message)
    normalize(document.data)
    apply_overrides(document, overrides)

    recipe = cast("Recipe | None", problems.validated(document, (), Recipe, document.data))
    resolver = _Resolver(document, manager or get_manager(), problems, with_data)
    uses = resolver.uses()
    split = resolver.split()
    policy = resolver.policy(path.parent)
    resolver.check_labels(policy)
    if recipe is not None and recipe.report.images == "all" and not allow_patient_images:
        problems.add(
            document,
            ("report", "images"),
            "'all' puts images of patients into the report; confirm it with --patient-images on the command line.",
        )
    problems.raise_any()
    if recipe is None or split is None or policy is None:
        raise AssertionError("a part is missing although no problem was reported")
    return assemble(recipe, uses, split, policy, resolver.with_variables)


class _Resolver:
    """Walks over a raw recipe, which may be wrong anywhere, and resolves what can be resolved."""

    def __init__(self, document: Document, manager: PluginManager, problems: Problems, with_data: bool) -> None:
        self._document = document
        self._with_data = with_data
        self._data: dict[str, Any] = document.data
        self._manager = manager
        self._problems = problems
        self.with_variables: set[str] = set()

    def uses(self) -> Uses:
        """Resolve the plugin and the parameters of every entry."""
        uses: Uses = {}
        for kind, place, entry in self._entries():
            plugin = self._plugin(kind, place, entry)
            params = self._params(plugin, place, entry) if plugin else None
            if plugin and params:
                uses[place] = (plugin, params)
        return uses

    def _entries(self) -> Iterator[tuple[Kind, Place, dict[str, Any]]]:
        """Yield every raw entry that has the shape of one."""
        if isinstance(self._data.get("data"), dict):
            yield "dataset", ("data",), self._data["data"]
        for section, index, item in self._items():
            chain = item.get("chain")
            if section == "defenses" and isinstance(chain, list):
                links = ((position, link) for position, link in enumerate(chain) if isinstance(link, dict))
                yield from (("defense", (section, index, "chain", position), link) for position, link in links)
            elif section != "defenses" or not is_undefended(item):
                yield _KINDS[section], (section, index), item
        run = self._data.get("run")
        executor = run.get("executor", {}) if isinstance(run, dict) else {}
        if isinstance(executor, dict):
            yield "executor", ("run", "executor"), {"use": "local", **executor}
        report = self._data.get("report")
        sections = report.get("sections") if isinstance(report, dict) else None
        for index, item in enumerate(sections if isinstance(sections, list) else ()):
            if isinstance(item, dict):
                yield "section", ("report", "sections", index), item

    def _items(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for section in _KINDS:
            items = self._data.get(section)
            for index, item in enumerate(items if isinstance(items, list) else ()):
                if isinstance(item, dict):
                    yield section, index, item

    def _plugin(self, kind: Kind, place: Place, entry: dict[str, Any]) -> Plugin | None:
        name = entry.get("use")
        if not isinstance(name, str):
            return None  # the structure's own validation says so
        try:
            return self._manager.find(kind, name)
        except UserError as error:
            self._problems.add(self._document, (*place, "use"), str(error), exit_code=error.exit_code)
            return None

    def _params(self, plugin: Plugin, place: Place, entry: dict[str, Any]) -> Params | None:
        raw = entry.get("params", {})
        if not isinstance(raw, dict):
            return None
        here = (*place, "params")
        if plugin.info.kind == "dataset":
            raw, self.with_variables, missing = expand_variables(raw)
            for where, name in missing if self._with_data else ():
                message = f"the environment variable {name} is not set; set it, or give the value with --set."
                self._problems.add(self._document, (*here, *where), message)
            if missing and self._with_data:
                return None
        try:
            return cast("Params | None", self._problems.validated(self._document, here, plugin.info.params, raw))
        except Exception as error:  # noqa: BLE001 - a plugin's validator is foreign code; its failure is reported
            message = f"the parameters of {plugin.qualified} {plugin.version} cannot be checked: {error!r}."
            self._problems.add(self._document, here, message, exit_code=5)
            return None

    def split(self) -> SplitParams | None:
        """Validate the split."""
        from leakaudit.cohorts.split import SplitParams

        data = self._data.get("data")
        raw = data.get("split", {}) if isinstance(data, dict) else {}
        if not isinstance(raw, dict):
            return None
        return cast("SplitParams | None", self._problems.validated(self._document, ("data", "split"), SplitParams, raw))

    def policy(self, folder: Path) -> Policy | None:
        """Validate the policy, inline or from a file whose path is relative to the recipe."""
        from leakaudit.scoring.policy import Policy

        raw = self._data.get("policy", {})
        document = self._document
        place: Place = ("policy",)
        if isinstance(raw, str):
            try:
                document, place = read_document(folder / raw), ()
            except UserError as error:
                self._problems.add(self._document, ("policy",), str(error))
                return None
            for _, message in document.duplicates:
                self._problems.add_line(message)
            raw = document.data
        if not isinstance(raw, dict):
            return None
        return cast("Policy | None", self._problems.validated(document, place, Policy, raw))

    def check_labels(self, policy: Policy | None) -> None:
        """Require labels that are unique in their section, and filters and policy to name labels of this recipe."""
        labels: dict[str, dict[str, int]] = {section: {} for section in _KINDS}
        labels["defenses"][NONE] = -1
        for section, index, item in self._items():
            label = raw_label(item)
            if not label or (section == "defenses" and is_undefended(item)):
                continue
            if section == "defenses" and label == NONE:
                self._reserved(index, item)
            elif label in labels[section]:
                self._duplicate(section, labels[section][label], index, label)
            else:
                labels[section][label] = index
        for section, index, item in self._items():
            if section == "attacks":
                self._check_filters(index, item, labels)
        for position, name in enumerate(policy.candidates if policy else ()):
            if name not in labels["defenses"]:
                message = f"no entry of defenses is called {name!r}.{nearest(name, labels['defenses'])}"
                self._problems.add(self._document, ("policy", "candidates", position), message)

    def _reserved(self, index: int, item: dict[str, Any]) -> None:
        hint = "write just 'none', or nothing" if item.get("use") == NONE else "choose another name"
        self._problems.add(
            self._document,
            ("defenses", index),
            f"'{NONE}' is reserved for the undefended training, which is always the first; {hint}.",
        )

    def _duplicate(self, section: str, first: int, index: int, label: str) -> None:
        before = self._document.where((section, first))
        self._problems.add(
            self._document,
            (section, index),
            f"the name {label!r} is already taken by {section}.{first} ({before}); give one of them another 'name'.",
        )

    def _check_filters(self, index: int, item: dict[str, Any], labels: dict[str, dict[str, int]]) -> None:
        for field in ("only", "skip"):
            chosen = item.get(field)
            for section in ("protocols", "defenses"):
                names = chosen.get(section) if isinstance(chosen, dict) else None
                for position, name in enumerate(names if isinstance(names, list) else ()):
                    if isinstance(name, str) and name not in labels[section]:
                        message = f"no entry of {section} is called {name!r}.{nearest(name, labels[section])}"
                        self._problems.add(self._document, ("attacks", index, field, section, position), message)
