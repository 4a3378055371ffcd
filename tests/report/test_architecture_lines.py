"""The warning that an architecture in whose updates attacks found little is no defense: when it stands, and what it says."""

from __future__ import annotations

import html
from typing import Any

import pytest
from factory_decay import INVERTER, MATCHING, attack, federation, trained, update_endpoint

from leakaudit.report.architecture import architecture_lines
from leakaudit.report.model import Report
from leakaudit.report.render import render_html
from leakaudit.report.words import with_sentences

NONE_RUN = "No learned map was run on updates of fedsgd."


def ends(fidelity: float, identity: float | None = None, **options: Any) -> list[dict[str, Any]]:
    pairs = [("fidelity", fidelity)] + ([] if identity is None else [("identity", identity)])
    return [update_endpoint(kind, value, 0, many=False, **options) for kind, value in pairs]


def report(*pairings: dict[str, Any], **more: Any) -> Report:
    return with_sentences(Report.model_validate(federation(pairings, [trained("fedsgd", **more)])))


def line(*pairings: dict[str, Any], **more: Any) -> str:
    (found,) = architecture_lines(report(*pairings, **more))
    return found


def test_a_quiet_search_says_nothing_about_a_learned_map():
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05)))
    assert text.startswith(
        "In undefended updates of fedsgd, gradient-matching found little of the images (fidelity leakage 0.05 (95 % interval 0.01 "
        "to 0.09, 36 patients))."
    )
    assert "The architecture is no defense" in text
    assert "(here: instance normalization and rectifiers (leaky-relu)) make the search" in text
    assert text.endswith(f"says nothing about a learned map. {NONE_RUN}")


def test_what_is_known_of_the_architecture_is_named_and_nothing_else():
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05)), normalization="none", activation="gelu")
    assert "here:" not in text
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05)), normalization="group", activation=None)
    assert "(here: group normalization) make" in text
    bare = federation([attack("fedsgd", "none", MATCHING, ends(0.05))], [])
    assert "here:" not in architecture_lines(Report.model_validate(bare))[0]


def test_a_learned_map_that_identified_patients_is_named_with_its_number():
    pairings = attack("fedsgd", "none", MATCHING, ends(0.05)), attack("fedsgd", "none", INVERTER, ends(0.3, 0.9))
    text = line(*pairings)
    assert (
        "In this run gradient-inverter, a learned map, identified patients from updates of fedsgd more often than chance: "
        "identity leakage 0.90 (95 % interval 0.86 to 0.94, 36 patients)." in text
    )
    assert NONE_RUN not in text


def test_a_learned_map_that_identified_nobody_does_not_clear_the_updates():
    pairings = attack("fedsgd", "none", MATCHING, ends(0.05)), attack("fedsgd", "none", INVERTER, ends(0.03, 0.02))
    text = line(*pairings)
    assert text.startswith("In undefended updates of fedsgd, gradient-matching and gradient-inverter found little")
    assert "did not show that patients can be identified; the most it reached: identity leakage 0.02" in text
    assert text.endswith("Another map may.")
    without = line(attack("fedsgd", "none", MATCHING, ends(0.05)), attack("fedsgd", "none", INVERTER, ends(0.03)))
    assert "the most it reached: fidelity leakage 0.03" in without


def test_a_search_that_identified_patients_with_little_fidelity_says_so_too():
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05, 0.5)))
    assert "In this run gradient-matching identified patients" in text
    assert text.endswith(NONE_RUN)


def test_several_protocols_share_one_paragraph():
    other = attack("batch-1", "none", MATCHING, ends(0.07))
    loud = attack("batch-2", "none", MATCHING, ends(0.6))
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05)), attack("fedsgd", "none", INVERTER, ends(0.3, 0.9)), other, loud)
    assert text.startswith(
        "In undefended updates of fedsgd and batch-1, gradient-matching found little of the images (fidelity leakage 0.07"
    )
    assert "36 patients), the largest in batch-1)" in text
    assert "from updates of fedsgd more often than chance: identity leakage 0.90" in text
    assert text.endswith("No learned map was run on updates of batch-1.")
    assert "batch-2" not in text


def test_few_patients_are_called_indicative():
    text = line(attack("fedsgd", "none", MATCHING, ends(0.05, n=7)), attack("fedsgd", "none", INVERTER, ends(0.3, 0.9, n=4)))
    assert "7 patients), indicative)" in text
    assert "identity leakage 0.90 (no interval, 4 patients), indicative." in text


@pytest.mark.parametrize("value", [0.15, 0.6])
def test_no_warning_where_a_leak_was_shown(value):
    assert architecture_lines(report(attack("fedsgd", "none", MATCHING, ends(value)))) == []


def test_no_warning_where_another_search_showed_a_leak():
    quiet, loud = attack("fedsgd", "none", MATCHING, ends(0.05)), attack("fedsgd", "none", "longer-matching", ends(0.6))
    assert architecture_lines(report(quiet, loud)) == []


def test_an_interval_that_reaches_below_the_limit_shows_no_leak():
    assert architecture_lines(report(attack("fedsgd", "none", MATCHING, ends(0.15, half=0.06))))


def test_one_round_that_leaked_is_enough():
    both = [update_endpoint("fidelity", 0.6, 0), update_endpoint("fidelity", 0.02, 8)]
    assert architecture_lines(report(attack("fedsgd", "none", MATCHING, both))) == []


def change(**update: Any) -> dict[str, Any]:
    return attack("fedsgd", "none", MATCHING, ends(0.05)) | update


@pytest.mark.parametrize(
    "made",
    [
        change(defense="update-noise", status="REVIEW", reasons=["n"], adaptive=True),
        change(family="property"),
        change(threat=change()["threat"] | {"alters": ["task"]}),
        change(endpoints=[e | {"channel": "activation"} for e in ends(0.05)]),
        change(endpoints=[], leakage=None, status="ERROR", reasons=["it failed"]),
    ],
    ids=["defended", "no reconstruction", "active", "another channel", "failed"],
)
def test_only_passive_reconstruction_from_undefended_updates_counts(made):
    assert architecture_lines(report(made)) == []


def test_the_warning_stands_under_limitations():
    found = report(attack("fedsgd", "none", MATCHING, ends(0.05)))
    assert found.sentences is not None
    assert found.sentences.architecture == architecture_lines(found)
    page = html.unescape(render_html(found)).replace("\u00a0", " ")
    start = page.index('<section class="part" id="limits"')
    assert found.sentences.architecture[0] in page[start : page.index("</section>", start)]
