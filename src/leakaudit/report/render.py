"""`report.html` from `report.json` alone: one file, offline, without JavaScript."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from leakaudit.errors import UserError
from leakaudit.report import detection, frameworks, glossary, pairing_tables, pieces, statement, tradeoffs, views, vocabulary
from leakaudit.report.decay import decay_reading, decays
from leakaudit.report.heatmap import step_words
from leakaudit.report.leakage_map import leakage_maps
from leakaudit.report.model import Report
from leakaudit.report.pairing_words import worst_endpoint
from leakaudit.report.pairings import Pairing
from leakaudit.report.phrases import defense_name, interval, number, percent, plural
from leakaudit.report.strips import patient_strip, scale_symbol
from leakaudit.report.svg import icon_id
from leakaudit.report.words import with_sentences

__all__ = ["IMAGE_BUDGET", "SECTIONS", "PageSection", "render_html"]

IMAGE_BUDGET = 4_000_000
"""Most characters of embedded images in one page; the rest stays in report.json and the page says so."""

_MOST_GAPS = 8
"""Channels that are named above the fold as not attacked; all of them stand under Coverage."""

_log = logging.getLogger(__name__)
_SECTION_ERRORS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class PageSection:
    """A section of the page: anchor (also its template's name), heading and short name in the contents."""

    anchor: str
    title: str
    short: str


SECTIONS = tuple(
    PageSection(*row)
    for row in (
        ("evidence", "Evidence for and against release", "Evidence"),
        ("matrix", "Matrix of pairings", "Matrix"),
        ("tradeoff", "Privacy against utility", "Privacy and utility"),
        ("utility", "What each defense costs", "Cost of defenses"),
        ("channels", "Leakage by channel", "Channels"),
        ("leakagemap", "Leakage map: who, which level, which attack", "Leakage map"),
        ("decay", "How leakage changes over a federation", "Over a federation"),
        ("coverage", "Coverage: channels and attack families", "Coverage"),
        ("guarantees", "Formal guarantees", "Guarantees"),
        ("pairings", "Pairing by pairing", "Pairings"),
        ("detection", "Detection of tampering", "Detection"),
        ("failures", "Failures and alarms", "Failures"),
        ("limits", "Limitations", "Limitations"),
        ("extra", "Further sections by plugins", "Further sections"),
        ("policy", "Policy: what counts as acceptable", "Policy"),
        ("provenance", "Provenance", "Provenance"),
        ("frameworks", "Where to find what frameworks ask for", "Frameworks"),
        ("glossary", "Glossary", "Glossary"),
        ("signoff", "Sign-off", "Sign-off"),
    )
)


@lru_cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("leakaudit.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    env.filters.update(
        num=number,
        percent=percent,
        sentence=lambda text: text[:1].upper() + text[1:],
        size=_size,
        sentence_of=statement.claim_sentence,
        defense_name=defense_name,
    )
    env.globals.update(
        icon=pieces.icon, status=pieces.status, claim=pieces.claim, value=pieces.value, missing=pieces.missing,
        defense=defense_name, interval=interval, plural=plural, icon_id=icon_id, term=glossary.term, strip=patient_strip,
        scale_symbol=scale_symbol, step_words=step_words, worst_endpoint=worst_endpoint, covered=statement.covered,
        not_covered=statement.not_covered, claims_of=views.claims_of, never_covered=statement.NEVER_COVERED,
        never_proved=statement.NEVER_PROVED, claim_words=statement.CLAIM_WORDS, status_words=vocabulary.STATUS_WORDS,
        channel_words=vocabulary.CHANNEL_WORDS, family_words=vocabulary.FAMILY_WORDS, unit_words=vocabulary.UNIT_WORDS,
        threshold_words=vocabulary.THRESHOLD_WORDS, glossary=glossary.GLOSSARY, frameworks=frameworks.FRAMEWORKS,
        **{name: getattr(pairing_tables, name) for name in pairing_tables.__all__},
    )  # fmt: skip
    return env


def _size(count: float | None) -> str:
    """Return bytes for people."""
    if count is None:
        return "not available"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"


def _context(report: Report, budget: int) -> dict[str, Any]:
    attacks, rows = views.matrix(report)
    by_protocol: dict[str, list[tuple[int, Pairing]]] = {}
    for i, pairing in enumerate(report.pairings):
        by_protocol.setdefault(pairing.protocol, []).append((i, pairing))
    groups: dict[str, list[views.MatrixRow]] = {}
    for row in rows:
        groups.setdefault(row.protocol, []).append(row)
    leakages = [e.leakage for p in report.pairings for e in p.endpoints]
    changing = decays(report)
    return {
        "report": report, "sentences": report.sentences, "attacks": attacks, "groups": groups, "by_protocol": by_protocol,
        "counts": views.status_counts(report), "gaps": views.gaps(report, _MOST_GAPS), "reasons": views.reasons(report),
        "trade_offs": tradeoffs.trade_offs(report), "compared": tradeoffs.comparisons(report),
        "curves": tradeoffs.equal_utility(report), "channels": views.channel_rows(report),
        "coverage": views.coverage_tables(report), "images": views.image_shares(report, budget),
        "likelihoods": frameworks.likelihoods(report), "leakage_maps": leakage_maps(report),
        "decays": changing, "decay_reading": decay_reading(changing, report.threshold("min_repeats") or 3),
        "detections": detection.detection_rows(report), "reading": detection.reading(report),
        "information": views.information(report), "sending": [b for b in report.baselines if b.information],
        "hd95_regions": list(dict.fromkeys(r for b in report.baselines for r in b.utility.hd95)),
        "patient_max": report.threshold("patient_max"), "expand": len(report.pairings) <= 60,
        "acceptable": any(b.status == b.utility.status == "PASS" for b in report.baselines),
        "strips": any(leakage.quantiles or leakage.per_patient for leakage in leakages),
    }  # fmt: skip


def _render_section(section: PageSection, context: dict[str, Any]) -> Markup:
    """Return one section; one that fails is shown as failed, and the rest of the page stands."""
    try:
        return Markup(_environment().get_template(f"{section.anchor}.html.j2").render(context))
    except _SECTION_ERRORS as error:
        _log.exception("section %s of the report failed", section.anchor)
        return Markup(_environment().get_template("failed.html.j2").render(kind=type(error).__name__))


def _shareable(report: Report, restricted: bool) -> Report:
    if not report.contains_patient_images or restricted or report.data.synthetic or report.data.public:
        return report
    return report.model_copy(update={"pairings": [p.model_copy(update={"images": []}) for p in report.pairings]})


def render_html(report: Report, *, restricted: bool = False, image_budget: int = IMAGE_BUDGET) -> str:
    """Return the page.

    Args:
        report: The report; its sentences are generated where they are missing.
        restricted: Show images of real patients that the run was asked for by a flag. The page is then watermarked and belongs
            into a directory that only its owner can read.
        image_budget: Most characters of embedded images.

    Raises:
        UserError: A restricted page is asked for and the report holds no images of real patients.
    """
    if restricted and not report.contains_patient_images:
        raise UserError("This report holds no images of real patients, so there is no restricted page to write.")
    report = _shareable(report, restricted)
    if report.sentences is None:
        report = with_sentences(report)
    context = _context(report, image_budget)
    present = {
        "extra": report.sections,
        "leakagemap": context["leakage_maps"],
        "decay": context["decays"],
        "detection": report.detections,
    }
    shown = [s for s in SECTIONS if present.get(s.anchor, True)]
    css = (resources.files("leakaudit.report") / "templates" / "style.css").read_text(encoding="utf-8")
    bodies = [(section, _render_section(section, context)) for section in shown]
    page = _environment().get_template("page.html.j2")
    text = page.render(context, sections=bodies, css=Markup(css), restricted=restricted)
    # A number stays on one line with its unit, and with what it counts.
    return text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")
