"""Detection of tampering: rates with their intervals, what was lost before an alarm, and sentences that do not flatter."""

from __future__ import annotations

import copy
import html
import re

import pytest
from factory_cut import SCRUTINIZER, cut_dict, with_detections

from leakaudit.report.detection import detection_rows, reading
from leakaudit.report.model import Report
from leakaudit.report.render import render_html
from leakaudit.report.words import with_sentences


@pytest.fixture(scope="module")
def data():
    return with_detections(cut_dict(defenses=1))


def made(data) -> Report:
    return with_sentences(Report.model_validate(data))


def table(page: str) -> list[list[str]]:
    """Return the rows of the section's table as lists of words, cell by cell."""
    part = page[page.index('id="detection"') :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in re.findall("<tr>(.*?)</tr>", body, re.S)]
    return [[" ".join(html.unescape(re.sub("<[^>]+>", " ", c)).split()) for c in row] for row in cells]


def test_the_table_says_rate_interval_batches_and_leakage(data):
    honest, noticed, unseen = table(render_html(made(data)))
    assert honest == [
        "split",
        SCRUTINIZER,
        "honest an alarm is false",
        "1 of 3",
        "33 % 0.8 % to 91 %",
        "77 of 240",
        "nobody attacked",
    ]
    assert noticed[2:6] == ["fsha an alarm is right", "3 of 3", "100 % 29 % to 100 %", "16 (12 to 41) of 240 median (range)"]
    assert unseen[2:6] == ["sdar an alarm is right", "0 of 3", "0 % 0 % to 71 %", "no alarm"]
    fsha = next(p for p in made(data).pairings if p.attack == "fsha")
    assert noticed[6].startswith(f"{fsha.leakage.value:.2f} (")
    assert noticed[6].endswith("fidelity, n = 36")


def test_honest_trainings_come_before_attacks_on_the_same_defense(data):
    assert [r.detection.attack for r in detection_rows(made(data))] == [None, "fsha", "sdar"]
    assert detection_rows(made(data))[0].leakage is None


def test_what_is_unknown_says_so(data):
    changed = copy.deepcopy(data)
    place = {"protocol": "split", "defense": SCRUTINIZER, "alarms": 0, "trainings": 0}
    changed["detections"] = [place | {"attack": "gone", "rate": {"value": None, "reason": "no training ended"}}]
    report = made(changed)
    (row,) = table(render_html(report))
    assert row[3:] == ["0 of 0", "not available: no training ended", "no alarm", "not available"]
    assert not any(SCRUTINIZER in line and "alarm" in line for line in report.sentences.against_release)
    changed["detections"][0] |= {"alarms": 2, "trainings": 2, "rate": {"value": 1.0}, "batches": [3, 4]}
    (row,) = table(render_html(made(changed)))
    assert row[4:6] == ["100 %", "3.5 (3 to 4) median (range)"]


def test_false_alarms_and_attacks_never_noticed_speak_against_release(data):
    lines = made(data).sentences.against_release
    name = f"split with {SCRUTINIZER}"
    assert f"{name}: a false alarm stopped 1 of 3 honest trainings (95 % interval 0.8 % to 91 %)." in lines
    assert f"{name}: no alarm in 3 trainings under sdar (95 % interval 0 % to 71 %)." in lines
    assert not any("under fsha" in line for line in lines)
    assert not any("alarm" in line for line in made(data).sentences.for_release)
    silent = copy.deepcopy(data)
    silent["detections"] = silent["detections"][:1]
    assert not any("alarm" in line for line in made(silent).sentences.against_release)


def test_the_reader_is_told_what_a_rate_is_worth(data):
    report = made(data)
    lines = reading(report)
    assert "Few trainings make wide intervals: 3 of 3 trainings means a true rate anywhere from 29 % to 100 %." in lines
    assert lines[-1].endswith("A hijacker who knows the detector may adapt to it and evade it.")
    assert any("would be noticed" in line for line in report.sentences.not_shown)
    page = render_html(report).replace("\u00a0", " ")
    assert all(html.escape(line, quote=False) in page for line in lines)
    firm = copy.deepcopy(data)
    for d in firm["detections"]:
        d |= {"trainings": 300, "rate": {"value": 0.5, "ci": [0.45, 0.55]}}
    assert not any("Few trainings" in line for line in reading(made(firm)))


def test_without_a_watching_defense_there_is_no_section(report, page):
    assert 'id="detection"' not in page
    assert "#detection" not in page
    assert not any("detector" in line for line in report.sentences.not_shown)
