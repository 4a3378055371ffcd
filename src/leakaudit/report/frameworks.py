"""What reviewers' frameworks ask, in our own words, and where the report holds material for it. Never a claim of conformity.

The official texts were not all read for this list, so nothing is quoted and no paragraph is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from leakaudit.report.model import Report
from leakaudit.report.phrases import listed

__all__ = ["FRAMEWORKS", "Question", "likelihoods"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question of a framework.

    Attributes:
        framework: Its name.
        asks: The question in short, in our words.
        places: Sections with material: anchor and name.
        absent: What the framework also asks and this report does not hold.
    """

    framework: str
    asks: str
    places: tuple[tuple[str, str], ...]
    absent: str


_COVERAGE, _PAIRINGS = ("coverage", "Coverage"), ("pairings", "Pairing by pairing")
_EVIDENCE, _LIMITS = ("evidence", "Evidence for and against release"), ("limits", "Limitations")
_DATA = ("provenance", "Provenance")

FRAMEWORKS: tuple[Question, ...] = (
    Question(
        framework="EDPB Opinion 28/2024",
        asks="How likely is it that data of the people trained on is extracted from the model, and how likely that it is obtained "
        "by querying it, by all means reasonably likely to be used? The two lines under this table keep them apart.",
        places=(("matrix", "Matrix of pairings"), _COVERAGE, _LIMITS),
        absent="Means that were not attacked, and the judgment whether a likelihood is insignificant.",
    ),
    Question(
        framework="GDPR, data protection impact assessment",
        asks="Description of the processing, risks to patients, measures against them, remaining risk.",
        places=(_DATA, _PAIRINGS, ("utility", "What each defense costs"), ("guarantees", "Formal guarantees"), _EVIDENCE, _LIMITS),
        absent="Necessity and proportionality; risks other than what leaks between the partners.",
    ),
    Question(
        framework="EU AI Act, Annex IV",
        asks="Testing procedures, characteristics of the data, metrics, test logs, reports with date and signature.",
        places=(_PAIRINGS, ("policy", "Policy"), _DATA, ("signoff", "Sign-off")),
        absent="Everything but privacy testing. The log of the run lies beside this file.",
    ),
    Question(
        framework="NIST AI RMF, MEASURE 2.10",
        asks="Is the privacy risk of the system examined and documented?",
        places=(_EVIDENCE, ("channels", "Leakage by channel"), _LIMITS),
        absent="The map of the system\u2019s other risks.",
    ),
    Question(
        framework="ISO/IEC 27559",
        asks="Threat modeling, average and maximum risk, adversarial testing, when to test again.",
        places=(_PAIRINGS, ("matrix", "Matrix of pairings"), _COVERAGE, ("signoff", "Sign-off")),
        absent="Governance, and the environment in which the data is used.",
    ),
    Question(
        framework="HIPAA, expert determination",
        asks="Methods and results that an expert relies on to judge how small the risk of identification is.",
        places=(_EVIDENCE, _PAIRINGS, _LIMITS),
        absent="The determination itself. Scans of a head can show a face; whether they count as comparable to a photograph of it "
        "is for the expert.",
    ),
)  # fmt: skip


def likelihoods(report: Report) -> list[tuple[str, str]]:
    """Return what was tried for each of the two likelihoods: extraction from what is exchanged, and queries to the model."""
    rows = []
    for name, query in (("Extraction, from messages and the shared model", False), ("Queries to the finished model", True)):
        cells = [c for c in report.coverage if (c.channel == "output") is query and c.state != "not applicable"]
        tested = dict.fromkeys(f"{c.family} on {c.channel}" for c in cells if c.state == "tested")
        open_ = dict.fromkeys(f"{c.family} on {c.channel}" for c in cells if c.state != "tested")
        if not cells:
            rows.append((name, "not examined in this audit: nothing is known"))
            continue
        text = f"tried against a defense: {listed(tested)}"
        rows.append((name, f"{text}; not, or not validly, against every defense: {listed(open_)}" if open_ else text))
    return rows
