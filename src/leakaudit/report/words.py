"""The plain-language sentences of a whole report, worded against misreading (rules of evidence, section 8)."""

from __future__ import annotations

from collections import Counter

from leakaudit.report.architecture import architecture_lines
from leakaudit.report.detection import detection_lines
from leakaudit.report.model import Baseline, Report, Sentences
from leakaudit.report.pairing_words import ONE_RUN, limit_of, pairing_sentences, worst_endpoint
from leakaudit.report.pairings import Pairing
from leakaudit.report.phrases import defense_name, gap_name, interval, listed, measured, number, pairing_name, plural
from leakaudit.report.statement import NEVER_COVERED, claim_lines

__all__ = ["NOT_MILD", "PASS_MEANS", "SYNTHETIC", "verdict_sentence", "with_sentences"]

PASS_MEANS = "these attacks, on these patients, stayed below the limit. A stronger attack may not."
NOT_MILD = "REVIEW is not a mild PASS: the evidence cannot decide."
SYNTHETIC = "Synthetic patients: this validates the procedure, not your data."
NOT_A_SHARE = "Leakage .10 is not \u201c10 % of patients\u201d; identification is reported separately."

_MOST_NAMED = 4


def verdict_sentence(report: Report) -> str:
    """Return the verdict of the whole run in one sentence or two, its word first."""
    status, gated = report.verdict.status, [p for p in report.pairings if p.status not in ("control", "N/A")]
    counts = Counter(p.status for p in gated)
    of = f"of {plural(len(gated), 'defended pairing')}"
    if not gated:
        return f"{status}: no verdict. No defended pairing was evaluated."
    if status == "PASS":
        return f"PASS: {PASS_MEANS}{_acceptable(report)}"
    if status == "FAIL":
        return _fail_sentence(gated, f"FAIL: {counts['FAIL']} {of} leaked more than the policy allows.")
    if status == "REVIEW":
        undecided = f"{counts['REVIEW']} {of} cannot be decided."
        if not counts["REVIEW"]:
            undecided = "No single pairing is undecided, but the evidence as a whole has gaps."
        return f"REVIEW: no verdict. {undecided} {NOT_MILD}"
    return f"ERROR: the audit is incomplete. {counts['ERROR']} {of} gave no result, and nothing is known about them."


def _acceptable(report: Report) -> str:
    names = [f"{b.protocol} with {defense_name(b.defense)}" for b in report.baselines if b.status == b.utility.status == "PASS"]
    if not names:
        return ""
    more = len(names) - _MOST_NAMED
    named = [*names[:_MOST_NAMED], *([f"{more} more"] if more > 0 else [])]
    return f" Acceptable by this policy: {listed(named)}."


def _fail_sentence(gated: list[Pairing], text: str) -> str:
    failed = [p for p in gated if p.status == "FAIL" and p.leakage and p.leakage.value is not None]
    if not failed:
        return text

    def excess(pairing: Pairing) -> float:
        value = pairing.leakage.value if pairing.leakage else None
        return (value or 0.0) / (limit_of(pairing) or 1.0)

    top = max(failed, key=excess)
    endpoint = worst_endpoint(top)
    n = endpoint.leakage.patients if endpoint else None
    shown = measured(top.leakage, n, canaries=endpoint is not None and endpoint.kind == "epsilon")
    return f"{text} The furthest above its limit: {pairing_name(top)}, leakage {shown}."


def _not_shown(report: Report) -> list[str]:
    repeats = min((p.repeats for p in report.pairings if p.status != "N/A"), default=0)
    tried = len({b.defense for b in report.baselines if b.defense != "none"})
    lines = ["What a stronger attack would find. Every figure is the least that leaks, never the most."]
    if report.data.synthetic:
        lines.append(f"Anything about your patients. {SYNTHETIC}")
    if repeats == 1:
        lines.append(f"What another training would leak. {ONE_RUN}")
    elif repeats == 2:
        lines.append("What another training would leak. Two training runs are too few to tell.")
    lines.append(f"How many patients can be identified. {NOT_A_SHARE}")
    if any(b.guarantee for b in report.baselines) or any(p.guarantee for p in report.pairings):
        lines.append(f"Protection beyond a formal guarantee\u2019s own channel and unit. {NEVER_COVERED}")
    if report.detections:
        lines.append("Whether a hijacker who knows the detector would be noticed. A detection rate speaks of these attacks only.")
    if tried > 1:
        lines.append(
            f"How a defense chosen beforehand would do. {plural(tried, 'defense')} were tried; limits were tightened accordingly."
        )
    lines.append("Whether any law or standard is met. That is for the people who sign below.")
    return lines


def _defense_line(baseline: Baseline) -> str:
    utility = baseline.utility
    dice = f"mean Dice {number(utility.dice.get('mean'))}, n = {utility.n}"
    if utility.difference is not None and utility.difference.value is not None:
        dice += f", {number(utility.difference.value)} against no defense"
        dice += f" ({interval(utility.difference.ci)})" if utility.difference.ci else ""
    name = f"{baseline.protocol} with {defense_name(baseline.defense)}"
    text = f"{name}: privacy {baseline.status}, utility {utility.status} ({dice})"
    reasons = baseline.reasons[:1] + ([utility.reason] if utility.status in ("FAIL", "REVIEW", "ERROR") and utility.reason else [])
    return f"{text}. {' '.join(reasons)}" if reasons else f"{text}."


def _for(report: Report) -> list[str]:
    lines = [_defense_line(b) for b in report.baselines if b.status == b.utility.status == "PASS"]
    return lines + claim_lines(report, ["NOT REFUTED"])


def _against(report: Report) -> list[str]:
    lines = claim_lines(report, ["REFUTED"])
    if report.errors:
        lines.append(f"{plural(len(report.errors), 'cell')} failed; see Failures.")
    if report.not_attacked:
        gaps = [gap_name(g) for g in report.not_attacked]
        more = len(gaps) - _MOST_NAMED
        named = "; ".join([*gaps[:_MOST_NAMED], *([f"{more} more, see Coverage"] if more > 0 else [])])
        lines.append(f"Not attacked: {named}. Nothing is known about these channels.")
    for status in ("FAIL", "ERROR", "REVIEW"):
        lines += [_defense_line(b) for b in report.baselines if b.status == status]
    lines += detection_lines(report)
    lines += [_defense_line(b) for b in report.baselines if b.status == "PASS" and b.utility.status != "PASS"]
    return lines + claim_lines(report, ["UNTESTABLE"])


def with_sentences(report: Report) -> Report:
    """Return the report with its generated sentences, for the run and for every pairing. Existing ones are replaced."""
    factor = report.threshold("control_factor")
    pairings = [p.model_copy(update={"sentences": pairing_sentences(p, factor)}) for p in report.pairings]
    sentences = Sentences(
        verdict=verdict_sentence(report),
        not_attacked=[f"{gap_name(gap)}: {gap.reason}" for gap in report.not_attacked],
        not_shown=_not_shown(report),
        architecture=architecture_lines(report),
        for_release=_for(report),
        against_release=_against(report),
    )
    return report.model_copy(update={"pairings": pairings, "sentences": sentences})
