"""What a run may say of its patients: how texts leave the cells, and what of a report is shown where patients are real."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, cast, get_args

from leakaudit.cohorts.cohort import MODALITIES, REGIONS
from leakaudit.cohorts.dataset import Inventory
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.plan import Plan
from leakaudit.errors import UserError
from leakaudit.plugins.descriptors import DatasetInfo
from leakaudit.recipes.resolved import ResolvedRecipe
from leakaudit.report.cells import suppress
from leakaudit.report.model import Report
from leakaudit.report.privacy import IDENTIFIER, Identifiers, every_text, sanitize
from leakaudit.threats import CHANNELS, GRANTS, Auxiliary

__all__ = ["Disclosure", "is_private", "is_real", "region_support"]

_QUOTED = re.compile(r"(?<!\w)(?:'([^'\n]*)'|\"([^\"\n]*)\")(?!\w)")
_NEUTRAL_SITE = re.compile(r"site-\d+")
_NEUTRAL_SEAT = re.compile(r"[a-z-]+-\d+|level\d+")
_DETECTOR = re.compile(r"[a-z][a-z0-9-]{0,40}")
_LONGEST_REASON = 600
_UNTOLD = "It failed; what it said of real patients is not shown."


def is_real(recipe: ResolvedRecipe) -> bool:
    """Whether the patients of a recipe exist."""
    return not cast(DatasetInfo, recipe.data.plugin.info).synthetic


def is_private(recipe: ResolvedRecipe) -> bool:
    """Whether the patients of a recipe exist and nobody declared that they may be shown."""
    public = cast(DatasetInfo, recipe.data.plugin.info).public or bool(getattr(recipe.data.params, "public", False))
    return is_real(recipe) and not public


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """How a run speaks of its patients.

    Attributes:
        real: Whether they exist.
        private: Whether they exist and may not be shown.
        identifiers: Words that no output may hold.
        vocabulary: Words that may stand in quotes in the reason of a failure.
        min_cell: Fewest real patients that a number may rest on.
    """

    real: bool
    private: bool
    identifiers: Identifiers
    vocabulary: frozenset[str] = frozenset()
    min_cell: int = 1

    @classmethod
    def of(cls, plan: Plan) -> Disclosure:
        """Return what follows from a plan.

        Raises:
            UserError: The recipe's own names hold an identifier of a patient.
        """
        real, private = is_real(plan.recipe), is_private(plan.recipe)
        if not real:
            return cls(real=False, private=False, identifiers=Identifiers({}))
        _check_names(plan)
        words = dict.fromkeys(_words(plan), IDENTIFIER) | (_sites(plan.inventory) if private else {})
        return cls(
            real=real, private=private, identifiers=Identifiers(words), vocabulary=_vocabulary(plan),
            min_cell=plan.recipe.report.min_cell if private else 1,
        )  # fmt: skip

    def outcome(self, outcome: Outcome) -> Outcome:
        """Return an outcome whose reason may be shown.

        Where patients are private, words of other code than leakaudit's are left out, and so is whatever stands in quotes
        without being a word of the recipe or of leakaudit.
        """
        if not self.real or outcome.status != "error":
            return outcome
        text = (outcome.public or _UNTOLD) if self.private else outcome.reason
        clean = sanitize(text, known=self.identifiers, thorough=True, limit=_LONGEST_REASON)
        if self.private:
            clean = _QUOTED.sub(self._quoted, clean)
        return replace(outcome, reason=clean, public="")

    def text(self, text: str) -> str:
        """Return any text of this run without identifiers."""
        return sanitize(text, known=self.identifiers, limit=_LONGEST_REASON) if self.real else text

    def report(self, report: Report, support: Mapping[tuple[str, str], Mapping[str, int]]) -> Report:
        """Return a report without identifiers, and where patients are private without numbers of too few of them.

        Args:
            report: The report as assembled.
            support: Test patients behind the Dice of each region, by (protocol, defense).
        """
        if not self.real:
            return report
        names = self._endpoint_names(report)
        clean = every_text(report, lambda text: names.get(text) or self._whole(text))
        # The operator's own words: a policy names its owner, and labels were checked before the run.
        clean = clean.model_copy(update={"policy": report.policy, "recipe": report.recipe})
        if not self.private:
            return clean
        alarms = [a.model_copy(update={"text": _alarm(a.text)}) for a in clean.alarms]
        return suppress(clean.model_copy(update={"alarms": alarms}), self.min_cell, support)

    def _endpoint_names(self, report: Report) -> dict[str, str]:
        """Return another name for each piece of evidence that its attack called after a patient, a file or a date.

        Two pieces of evidence never become one.
        """
        names: dict[str, str] = {}
        for endpoint in (e for p in report.pairings for e in p.endpoints):
            clean = sanitize(endpoint.name, known=self.identifiers)
            if clean != endpoint.name and endpoint.name not in names:
                count = sum(name == clean or name.startswith(f"{clean} (") for name in names.values())
                names[endpoint.name] = f"{clean} ({count + 1})" if count else clean
        return names

    def _whole(self, text: str) -> str:
        """Return a text without identifiers; a seat that is called like a hospital gets the hospital's neutral name."""
        other = self.identifiers.replacement(text)
        return other if other != text else self.identifiers.remove(text)

    def _quoted(self, match: re.Match[str]) -> str:
        word = match[1] if match[1] is not None else match[2]
        known = word in self.vocabulary or _NEUTRAL_SEAT.fullmatch(word) or word.startswith("<")
        return match.group() if known else "'...'"


def region_support(trainings: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> dict[tuple[str, str], dict[str, int]]:
    """Return how many test patients have each region, and so are behind its Dice, by (protocol, defense).

    Args:
        trainings: `train.json` of each repeat by (protocol, defense).
    """
    rows = {place: found[0]["utility"]["dice"] for place, found in trainings.items() if found}
    return {
        place: {region: sum(row[i] is not None for row in table) for i, region in enumerate(REGIONS)}
        for place, table in rows.items()
    }  # fmt: skip


def _alarm(text: str) -> str:
    detector = text.partition(":")[0].strip()
    name = detector if _DETECTOR.fullmatch(detector) else "a defense"
    return f"{name}: it stopped the training; what it says of real patients is not shown"


def _words(plan: Plan) -> Iterator[str]:
    """Yield keys of patients, names of files, and the folders that the recipe names."""
    yield from (entry.patient for entry in plan.inventory.patients)
    yield from plan.inventory.identifiers
    params: Any = plan.recipe.data.params.model_dump(mode="json")
    for value in params.values():
        if isinstance(value, str) and len(PurePath(value).parts) > 1:
            yield value
    yield from (str(patient) for patient in params.get("exclude") or ())


def _sites(inventory: Inventory) -> dict[str, str]:
    """Return a neutral name for every hospital that has one of its own."""
    sites = sorted({entry.site for entry in inventory.patients})
    taken = {site for site in sites if _NEUTRAL_SITE.fullmatch(site)}
    free = (name for i in range(1, 2 * len(sites) + 2) if (name := f"site-{i}") not in taken)
    return {site: next(free) for site in sites if site not in taken}


def _vocabulary(plan: Plan) -> frozenset[str]:
    recipe, facts = plan.recipe, [b.facts for b in plan.baselines]
    labels = {c.label for c in recipe.choices} | {d.label for d in recipe.defenses}
    names = {c.plugin.info.name for c in recipe.choices} | {c.plugin.distribution for c in recipe.choices}
    roles = {s.role for f in facts for s in f.seats} | {"outsider", "model"}
    return frozenset(labels | names | roles | {*CHANNELS, *GRANTS, *get_args(Auxiliary), *MODALITIES})


def _check_names(plan: Plan) -> None:
    """Refuse names of the recipe that hold a patient's: they head tables and stand in file names.

    Raises:
        UserError: One does.
    """
    patients = Identifiers(dict.fromkeys((e.patient for e in plan.inventory.patients), IDENTIFIER))
    recipe = plan.recipe
    labels = [c.label for c in (*recipe.choices, *recipe.sections)] + [d.label for d in recipe.defenses]
    named = [("name", recipe.name), *(("the label", label) for label in labels)]
    for what, name in named:
        if patients.occur_in(name):
            raise UserError(f"recipe: {what} {name!r} holds the key of a patient, and a report shows it. Give another name.")
