"""Further sections of the report: each plugin that the recipe names writes one; one that fails says so and harms nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import cast

from leakaudit.engine.disclosure import Disclosure
from leakaudit.engine.reasons import public_sentence, sentence
from leakaudit.plugins.descriptors import SectionInfo
from leakaudit.plugins.targets import import_target
from leakaudit.recipes.resolved import Choice
from leakaudit.report.model import Report, Section, SectionTable
from leakaudit.report.privacy import every_text, sanitize

__all__ = ["with_sections"]

_log = logging.getLogger(__name__)
_LONGEST = 4000


def with_sections(report: Report, choices: Sequence[Choice], disclosure: Disclosure) -> Report:
    """Return the report with the sections that its recipe names, in the recipe's order.

    Plugins get the report as it is shown. They run in this process: a plugin is code with the operator's rights.

    Args:
        report: The report, complete but for its sections and sentences.
        choices: Section plugins with their parameters.
        disclosure: What may be said of this run's patients.
    """

    def clean(text: str) -> str:
        return sanitize(text, known=disclosure.identifiers, limit=_LONGEST) if disclosure.real else text

    describe = public_sentence if disclosure.private else sentence
    sections = [_section(report, choice, clean, describe) for choice in choices]
    return report.model_copy(update={"sections": sections})


def _section(
    report: Report, choice: Choice, clean: Callable[[str], str], describe: Callable[[BaseException], str]
) -> Section:  # fmt: skip
    info, name = cast(SectionInfo, choice.plugin.info), choice.plugin.qualified
    # Two sections by one plugin are told apart by the labels that the recipe gives them.
    title = choice.label if choice.label != info.name else info.title or info.name
    try:
        parts = list(import_target(info.target)(choice.params).write(report))
        _check(parts)
        found = Section(
            title=title, plugin=name, paragraphs=[p for p in parts if isinstance(p, str)],
            tables=[SectionTable.model_validate(p.model_dump()) for p in parts if isinstance(p, SectionTable)],
        )  # fmt: skip
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code; its failure is shown in its place
        reason = sanitize(clean(describe(error)))
        _log.warning("section %s of the report failed: %s", name, reason)
        return Section(title=title, plugin=name, failed=reason)
    return every_text(found, clean)


def _check(parts: Sequence[object]) -> None:
    for part in parts:
        if not isinstance(part, (str, SectionTable)):
            raise TypeError(f"write() returned a {type(part).__name__}; expected text (str) or a SectionTable")
