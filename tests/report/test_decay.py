"""Leakage over a federation: what is drawn, what stands in the table, and that no direction is read into overlapping intervals."""

from __future__ import annotations

import copy
import csv
import html
import io
import re

import pytest
from factory_decay import (
    INVERTER,
    MATCHING,
    attack,
    by_round,
    federation,
    federation_report,
    swept,
    trained,
    update_endpoint,
)
from markup import Page

from leakaudit.report.cells import suppress
from leakaudit.report.csv import csv_text
from leakaudit.report.decay import Decay, decay_reading, decays
from leakaudit.report.model import Report
from leakaudit.report.render import render_html

FALLS = {0: 0.6, 4: 0.4, 8: 0.2}


def made(data) -> Report:
    return Report.model_validate(data)


def section(page: str) -> str:
    start = page.index('<section class="part" id="decay"')
    return page[start : page.index("</section>", start)]


def one(data) -> Decay:
    (found,) = decays(made(data))
    return found


def rounds(values, **options) -> Decay:
    return one(federation(by_round(values, **options), [trained("fedsgd")]))


def words(values, **options) -> str:
    return rounds(values, **options).charts[0].words


def labels(svg: str, kind: str) -> list[str]:
    return [html.unescape(t) for t in re.findall(rf'<text class="{kind}"[^>]*>([^<]+)</text>', svg)]


# By round -----------------------------------------------------------------------------------------------------------------


def test_each_defense_is_a_line_of_one_chart_and_intervals_are_drawn():
    found = rounds({"update-noise": {0: 0.2, 4: 0.2, 8: 0.2}, "none": FALLS})
    assert (found.title, found.column, found.parameter) == ("fedsgd: by round", "Round of training", None)
    (chart,) = found.charts
    assert labels(chart.svg, "label") == ["no defense", "update-noise"], "the undefended training is the first line"
    assert [t for t in labels(chart.svg, "tick") if t.isdigit()] == ["0", "4", "8"]
    bars = re.findall('class="reach" d="([^"]+)"', chart.svg)
    assert [len(bar.split("M")) - 1 for bar in bars] == [3, 3]
    knots = [
        [tuple(map(float, p.split())) for p in d.split("M")[1:]]
        for d in re.findall('class="knots" d="([^"]+)h0"', chart.svg.replace("h0M", "M"))
    ]
    for bar, line in zip(bars, knots, strict=True):
        for piece, (x, y) in zip(bar.split("M")[1:], line, strict=True):
            at, low, high = map(float, re.split("[ V]", piece))
            assert at == x, "a bar stands at its own point, beside those of other lines"
            assert high < y < low
    assert knots[0][0][0] != knots[1][0][0]


def test_the_bars_have_the_intervals_heights():
    (chart,) = rounds({"none": FALLS}, half=0.1).charts
    (bar,) = re.findall('class="reach" d="([^"]+)"', chart.svg)
    ends = [tuple(map(float, re.split("[ V]", piece))) for piece in bar.split("M")[1:]]
    scale = (ends[0][1] - ends[2][1]) / (0.5 - 0.1)
    for (_, low, high), value in zip(ends, FALLS.values(), strict=True):
        assert (high - low) / scale == pytest.approx(0.2, abs=0.005)
        assert (low - ends[0][1]) / scale == pytest.approx(value - 0.6, abs=0.005)


def test_a_direction_only_where_the_intervals_of_both_ends_are_apart():
    assert words({"none": FALLS}) == "no defense: 0.60 in round 0, 0.20 in round 8 (lower, at every step)"
    assert words({"none": {0: 0.2, 4: 0.4, 8: 0.6}}).endswith("(higher, at every step)")
    assert words({"none": FALLS}, half=0.21).endswith("(intervals overlap, no direction)")
    assert words({"none": FALLS}, half=0.19).endswith("(lower)"), "apart at the ends, not at every step"
    assert words({"none": {0: 0.6, 4: 0.1, 8: 0.4}}).endswith("(lower)"), "not at every step: it rose in between"
    assert words({"none": {0: 0.6, 8: 0.2}}).endswith("(lower)"), "one step is no series of steps"


@pytest.mark.parametrize(("n", "note"), [(12, ""), (10, ""), (9, "indicative"), (5, "indicative"), (4, "value only")])
def test_few_patients_are_called_so_and_have_no_direction(n, note):
    found = rounds({"none": FALLS}, n=n)
    assert {r.note for r in found.rows} == {note}
    assert found.charts[0].words.endswith("(indicative, no direction)") is bool(note)
    assert ('class="reach"' in found.charts[0].svg) is (n >= 5)


def test_the_last_messages_and_single_rounds_are_no_line():
    assert decays(made(federation(by_round({"none": {3: 0.4}}), [trained("fedsgd")]))) == []
    data = federation([attack("fedsgd", "none", MATCHING, [update_endpoint("fidelity", 0.4, None)])], [trained("fedsgd")])
    assert decays(made(data)) == []


def test_another_channel_is_not_drawn():
    data = federation(by_round({"none": FALLS}), [trained("fedsgd")])
    for e in data["pairings"][0]["endpoints"]:
        e["channel"] = "model"
    assert decays(made(data)) == []


def test_attacks_kinds_and_seats_have_charts_of_their_own():
    ends = [update_endpoint(kind, 0.5, r) | {"seat": seat} for kind in ("fidelity", "identity") for r in (0, 5)
            for seat in ("site-0", "site-1")]  # fmt: skip
    found = one(federation([attack("fedsgd", "none", label, ends) for label in (MATCHING, INVERTER)], [trained("fedsgd")]))
    stems = [f"update/images {kind}, {seat}" for kind in ("fidelity", "identity") for seat in ("site-0", "site-1")]
    assert [c.title for c in found.charts] == [f"{label}, {stem}" for label in (MATCHING, INVERTER) for stem in stems]


def test_many_defenses_are_spread_over_charts_each_with_the_undefended_line():
    found = rounds(dict.fromkeys(("none", *(f"noise-{i}" for i in range(11))), FALLS))
    shown = [labels(c.svg, "label") for c in found.charts]
    assert [len(s) for s in shown] == [6, 6, 2]
    assert all(s[0] == "no defense" for s in shown)
    assert {name for s in shown for name in s[1:]} == {f"noise-{i}" for i in range(11)}


def test_a_missing_number_is_in_the_table_with_its_reason_and_not_in_the_chart():
    data = federation(by_round({"none": FALLS}), [trained("fedsgd")])
    gone = data["pairings"][0]["endpoints"][2]
    gone["leakage"] = {"value": None, "reason": "chance is too near", "scope": "this trained model", "patients": 36}
    found = one(data)
    assert found.charts[0].words.startswith("no defense: 0.60 in round 0, 0.40 in round 4")
    assert [r.at for r in found.rows] == [0, 4, 8]
    assert "not available: chance is too near" in section(render_html(made(data)))


def test_numbers_of_too_few_real_patients_are_not_drawn():
    data = federation(by_round({"none": FALLS}, n=3), [trained("fedsgd")])
    data["data"]["synthetic"] = False
    few = suppress(made(data), 5, {})
    (found,) = decays(few)
    assert found.charts == []
    assert "fewer than 5" in section(render_html(few))
    assert "0.60" not in section(render_html(few))


# Sweeps -------------------------------------------------------------------------------------------------------------------


def test_a_sweep_is_drawn_against_its_parameter():
    found = one(swept({"fedsgd": 0.2, "batch-2": 0.4, "batch-1": 0.6}))
    assert (found.column, found.parameter) == ("Samples in a batch", "batch_size")
    assert [(r.at, r.protocol, r.found.leakage.value) for r in found.rows] == [
        (1, "batch-1", 0.6), (2, "batch-2", 0.4), (4, "fedsgd", 0.2),
    ]  # fmt: skip
    (chart,) = found.charts
    assert chart.words == "no defense: 0.60 with a batch size of 1, 0.20 with a batch size of 4 (lower, at every step)"
    assert labels(chart.svg, "axis") == ["Samples in a batch"]
    assert "Fidelity leakage by batch size" in chart.svg


def test_between_trainings_that_were_not_repeated_no_direction_is_stated():
    found = one(swept({"fedsgd": 0.2, "batch-2": 0.4, "batch-1": 0.6}, repeats=2))
    assert found.charts[0].words == "no defense: 0.60 with a batch size of 1, 0.20 with a batch size of 4"
    assert any("no direction is stated between protocols" in line for line in decay_reading([found], 3))
    repeated = one(swept({"fedsgd": 0.2, "batch-1": 0.6}))
    assert not any("no direction is stated between protocols" in line for line in decay_reading([repeated], 3))


def test_only_the_same_round_is_compared():
    data = swept({"fedsgd": 0.2, "batch-2": 0.4, "batch-1": 0.6})
    data["pairings"][0]["endpoints"][0]["round"] = 3
    found = one(data)
    assert [(r.at, r.endpoint) for r in found.rows] == [
        (1, "update/images fidelity, round 0"),
        (2, "update/images fidelity, round 0"),
    ]


def test_of_swept_rounds_the_last_one_counts():
    values = {"short": {0: 0.6, 2: 0.5}, "long": {0: 0.6, 4: 0.3, 8: 0.2}}
    pairings = [
        attack(p, "none", MATCHING, [update_endpoint("fidelity", v, r) for r, v in line.items()]) for p, line in values.items()
    ]
    settings = [{"protocol": "short", "value": 3}, {"protocol": "long", "value": 9}]
    data = federation(
        pairings, [trained("short", rounds=3), trained("long", rounds=9)], [{"parameter": "rounds", "settings": settings}]
    )
    found = [d for d in decays(made(data)) if d.parameter == "rounds"]
    assert [(r.at, r.found.leakage.value) for d in found for r in d.rows] == [(3, 0.5), (9, 0.2)]
    assert found[0].charts[0].words == "no defense: 0.50 after rounds: 3, 0.20 after rounds: 9 (lower)"


def test_values_of_a_sweep_rise():
    data = swept({"fedsgd": 0.2, "batch-1": 0.6})
    data["sweeps"][0]["settings"].reverse()
    with pytest.raises(ValueError, match="must rise"):
        made(data)


# The page -----------------------------------------------------------------------------------------------------------------


def test_without_anything_of_the_kind_there_is_no_section(factory):
    page = render_html(factory.make_report(20, images=False))
    assert 'id="decay"' not in page
    assert "#decay" not in page


def test_pictures_have_words_and_a_table_and_are_escaped():
    report = federation_report()
    page = render_html(report)
    part = section(page)
    parsed = Page(part + "</section>")
    found = decays(report)
    drawn = [a for a in parsed.having("svg") if "lines" in (a.get("class") or "").split()]
    assert len(drawn) == sum(len(d.charts) for d in found) == 2
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in drawn)
    assert len(parsed.having("desc")) == len(parsed.having("title")) == len(drawn)
    assert len(parsed.having("table")) == len(found) == 2
    assert parsed.unbalanced == []
    assert "One training run: another may leak more." in part
    evil = "<script>alert(1)</script>\"'"
    data = federation(by_round({"none": FALLS}, label=evil), [trained("fedsgd")])
    text = render_html(made(data))
    assert "<script" not in text
    assert Page(text).unbalanced == []
    assert "This section failed" not in text


def test_the_table_twin_holds_every_number():
    page = section(render_html(federation_report()))
    rows = [re.sub("<[^>]+>", "|", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    texts = [[t.strip() for t in row.split("|") if t.strip()] for row in rows]
    assert ["matching-by-round", "update/images fidelity", "no defense", "4", "0.31", "(0.27 to 0.35)", "12"] in texts
    assert [
        MATCHING,
        "update/images fidelity, round 0",
        "no defense",
        "2",
        "batch-2",
        "0.03",
        "(\u22120.01 to 0.07)",
        "36",
    ] in texts


def test_csv_says_how_each_protocol_trained():
    rows = list(csv.DictReader(io.StringIO(csv_text(federation_report()))))
    found = {row["protocol"]: (row["rounds"], row["batch_size"], row["local_steps"], row["local_epochs"]) for row in rows}
    assert found == {"fedsgd": ("9", "4", "", "1"), "batch-2": ("9", "2", "", "1"), "batch-1": ("9", "1", "", "1")}
    assert {row["reasons"] for row in rows if row["defense"] == "none"} == {""}
    bare = copy.deepcopy(federation(by_round({"none": FALLS}), []))
    assert {row["batch_size"] for row in csv.DictReader(io.StringIO(csv_text(made(bare))))} == {""}
