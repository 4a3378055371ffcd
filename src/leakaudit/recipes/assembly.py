"""Puts the validated parts of a recipe together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import Params
from leakaudit.recipes.documents import Place
from leakaudit.recipes.models import NONE, DefenseEntry, Entry, Recipe
from leakaudit.recipes.resolved import AttackChoice, Choice, DefenseChoice, ResolvedRecipe

if TYPE_CHECKING:
    from leakaudit.cohorts.split import SplitParams
    from leakaudit.scoring.policy import Policy

__all__ = ["Uses", "assemble"]

Uses = dict[Place, tuple[Plugin, Params]]
"""The plugin and the validated parameters of every entry, by the entry's place in the document."""


def assemble(recipe: Recipe, uses: Uses, split: SplitParams, policy: Policy, with_variables: set[str]) -> ResolvedRecipe:
    """Put the validated parts of a recipe together.

    Args:
        recipe: The validated structure.
        uses: Plugin and parameters of every entry.
        split: How patients are split.
        policy: Thresholds.
        with_variables: Names of the dataset's parameters that hold environment variables.
    """

    def choice(entry: Entry, place: Place) -> Choice:
        plugin, params = uses[place]
        return Choice(label=entry.label, plugin=plugin, params=params)

    undefended = DefenseChoice(label=NONE, links=())
    defenses = [undefended]
    for index, defense in enumerate(recipe.defenses):
        if defense.use == NONE:
            continue
        place: Place = ("defenses", index)
        places = [(*place, "chain", position) for position in range(len(defense.links))] if defense.chain else [place]
        links = tuple(choice(link, at) for link, at in zip(defense.links, places, strict=True))
        defenses.append(DefenseChoice(label=defense.label, links=links))
    plugin, params = uses["run", "executor"]
    return ResolvedRecipe(
        recipe=recipe,
        data=choice(recipe.data, ("data",)),
        split=split,
        protocols=tuple(choice(entry, ("protocols", index)) for index, entry in enumerate(recipe.protocols)),
        defenses=tuple(defenses),
        attacks=tuple(AttackChoice.of(choice(entry, ("attacks", index)), entry) for index, entry in enumerate(recipe.attacks)),
        executor=Choice(label=recipe.run.executor.use, plugin=plugin, params=params),
        sections=tuple(choice(entry, ("report", "sections", index)) for index, entry in enumerate(recipe.report.sections)),
        policy=policy,
        document=_document(recipe, uses, split, policy, with_variables),
    )


def _document(recipe: Recipe, uses: Uses, split: BaseModel, policy: BaseModel, with_variables: set[str]) -> dict[str, Any]:
    """Return the recipe as plain JSON with every default explicit and variables as they were written."""
    document = recipe.model_dump(mode="json")
    for place, (_, params) in uses.items():
        here: Any = document
        for part in place:
            here = here[part]
        here["params"] = params.key()
    # Local paths stay out of what is written and hashed.
    document["data"]["params"] |= {name: recipe.data.params[name] for name in sorted(with_variables)}
    document["data"] |= {"name": recipe.data.label, "split": split.model_dump(mode="json")}
    document["policy"] = policy.model_dump(mode="json")
    sections: dict[str, Sequence[Entry | DefenseEntry]] = {
        "protocols": recipe.protocols,
        "defenses": recipe.defenses,
        "attacks": recipe.attacks,
    }
    for section, entries in sections.items():
        document[section] = [
            _plain(raw, entry.label)
            for raw, entry in zip(document[section], entries, strict=True)
            if not (section == "defenses" and entry.label == NONE)
        ]
    sections_of_report = document["report"]["sections"]
    document["report"]["sections"] = [
        _plain(raw, entry.label) for raw, entry in zip(sections_of_report, recipe.report.sections, strict=True)
    ]
    return document


def _plain(raw: dict[str, Any], label: str) -> dict[str, Any]:
    """Return an entry with its label and without the fields that it does not use."""
    used = {key: value for key, value in raw.items() if value is not None and not (key == "params" and "chain" in raw)}
    if raw.get("chain") is None and "params" in raw:
        used["params"] = raw["params"]
    else:
        used["chain"] = [_plain(link, link["name"] or link["use"].rpartition("/")[2]) for link in raw["chain"]]
    return used | {"name": label}
