"""A recipe after validation: every name resolved to an installed plugin, every default explicit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from leakaudit.plugins.loading import Plugin
from leakaudit.plugins.params import Params
from leakaudit.recipes.models import AttackEntry, Filter, Recipe, ReportSettings, RunSettings

if TYPE_CHECKING:
    from leakaudit.cohorts.split import SplitParams
    from leakaudit.scoring.policy import Policy

__all__ = ["AttackChoice", "Choice", "DefenseChoice", "ResolvedRecipe", "canonical_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plugin that the recipe uses.

    Attributes:
        label: Its name in plan and report, unique in its section.
        plugin: The installed plugin.
        params: Its validated parameters.
    """

    label: str
    plugin: Plugin
    params: Params


@dataclass(frozen=True, slots=True, kw_only=True)
class DefenseChoice:
    """A defense: the plugins of a chain in order, a single one, or none at all for the undefended training."""

    label: str
    links: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackChoice(Choice):
    """An attack, the pairings that it is meant for, and how often it is run on each recording."""

    only: Filter | None = None
    skip: Filter | None = None
    seeds: int = 1

    def applies(self, protocol: str, defense: str) -> bool:
        """Whether the recipe wants this attack against this protocol and defense (labels)."""
        wanted = self.only is None or self.only.matches(protocol, defense)
        return wanted and not (self.skip is not None and self.skip.matches(protocol, defense))

    @classmethod
    def of(cls, choice: Choice, entry: AttackEntry) -> AttackChoice:
        """Add an entry's filters and seeds to a choice."""
        return cls(
            label=choice.label, plugin=choice.plugin, params=choice.params, only=entry.only, skip=entry.skip, seeds=entry.seeds
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRecipe:
    """What the engine runs.

    Attributes:
        recipe: The recipe as written, after overrides.
        data: The dataset. Its parameters have environment variables expanded, so they may hold local paths.
        split: How patients are split.
        protocols: Protocols in order.
        defenses: Defenses in order; the first is always the undefended `none`.
        attacks: Attacks in order.
        executor: The executor.
        sections: Further sections of the report, in order.
        policy: Thresholds.
        document: The whole recipe as plain JSON with every default explicit and environment variables unexpanded.
    """

    recipe: Recipe
    data: Choice
    split: SplitParams
    protocols: tuple[Choice, ...]
    defenses: tuple[DefenseChoice, ...]
    attacks: tuple[AttackChoice, ...]
    executor: Choice
    policy: Policy
    document: dict[str, Any]
    sections: tuple[Choice, ...] = ()

    @property
    def name(self) -> str:
        """Name of the audit."""
        return self.recipe.name

    @property
    def seed(self) -> int:
        """Seed of every random stream. It stays with the engine."""
        return self.recipe.seed

    @property
    def repeats(self) -> int:
        """Trainings of each protocol and defense."""
        return self.recipe.repeats

    @property
    def run(self) -> RunSettings:
        """How the run is computed."""
        return self.recipe.run

    @property
    def report(self) -> ReportSettings:
        """What the report may show."""
        return self.recipe.report

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the canonical JSON of `document`."""
        return hashlib.sha256(canonical_json(self.document).encode()).hexdigest()

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every plugin in use: dataset, protocols, links of defenses, attacks, executor, sections of the report."""
        links = tuple(link for defense in self.defenses for link in defense.links)
        return (self.data, *self.protocols, *links, *self.attacks, self.executor, *self.sections)

    def write(self, path: Path) -> None:
        """Write the document as YAML; loading it again gives the same `sha256`.

        Args:
            path: File to write, usually `recipe.resolved.yaml`.
        """
        header = f"# Resolved by leakaudit: every default is explicit. sha256 {self.sha256}\n"
        text = yaml.safe_dump(self.document, sort_keys=False, allow_unicode=True, width=120)
        path.write_text(header + text, encoding="utf-8")


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
