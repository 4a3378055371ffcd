"""The leakage map: what stands where, what is missing, what is the same in the table, and that it stays small and legible."""

from __future__ import annotations

import copy
import html
import re
from importlib import resources
from itertools import pairwise

import pytest
from factory_cut import ATTACKS, LEVELS, SCRUTINIZER, cut_dict, cut_report
from markup import Page

from leakaudit.report import render
from leakaudit.report.cells import suppress
from leakaudit.report.heatmap import STEPS, step, step_words
from leakaudit.report.leakage_map import leakage_maps
from leakaudit.report.model import Report
from leakaudit.report.phrases import number
from leakaudit.report.render import render_html

CELL = re.compile(
    r'<path class="(m\d|gone)" d="M(\d+) (\d+)h\d+v\d+h-\d+z"/>(?:<text class="\w+" x="[\d.]+" y="\d+">([^<]+)</text>)?'
)


def made(data) -> Report:
    return Report.model_validate(data)


def cells(svg: str) -> list[list[tuple[str, str]]]:
    """Return class and number of every cell, row by row from above, each from left to right."""
    rows: dict[int, list[tuple[int, str, str]]] = {}
    for kind, x, y, text in CELL.findall(svg):
        rows.setdefault(int(y), []).append((int(x), kind, html.unescape(text)))
    return [[(kind, text) for _, kind, text in sorted(rows[y])] for y in sorted(rows)]


def words(svg: str, kind: str) -> list[str]:
    return [html.unescape(t) for t in re.findall(rf'<text class="{kind}"[^>]*>([^<]+)</text>', svg)]


def leakage(report: Report, defense: str, attack: str, seat: str, level: str | None, round_: int | None = None) -> float | None:
    pairing = next(p for p in report.pairings if (p.defense, p.attack) == (defense, attack))
    return next((e.leakage.value for e in pairing.endpoints if (e.seat, e.level, e.round) == (seat, level, round_)), None)


def section(page: str, anchor: str = "leakagemap") -> str:
    start = page.index(f'<section class="part" id="{anchor}"')
    return page[start : page.index("</section>", start)]


@pytest.fixture(scope="module")
def report() -> Report:
    return made(cut_dict())


@pytest.fixture(scope="module")
def by_round() -> Report:
    return cut_report(rounds=(2, 10, 5, None), defenses=1)


def test_every_number_stands_in_its_row_and_column(report):
    (found,) = leakage_maps(report)
    assert (found.protocol, found.kind, found.channel, found.rounds, found.joint) == (
        "split",
        "fidelity",
        "activation",
        False,
        True,
    )
    assert [d.defense for d in found.maps] == ["none", "gaussian-noise-1", "gaussian-noise-2", "gaussian-noise-3"]
    for drawn in found.maps:
        rows = cells(drawn.svg)
        for i, attack in enumerate(ATTACKS):
            for c in range(4):
                values = [leakage(report, drawn.defense, attack, f"client-{c}", level) for level in LEVELS]
                values.append(leakage(report, drawn.defense, attack, f"client-{c}", None))
                expected = [("gone", "") if v is None else (f"m{step(v)}", number(v)) for v in values]
                assert rows[4 * i + c] == expected


def test_rows_say_what_a_seat_holds_and_columns_go_from_shallow_to_deep(report):
    svg = leakage_maps(report)[0].maps[0].svg
    seats = ["client-0 (flair)", "client-1 (t1)", "client-2 (t1ce)", "client-3 (t2)"]
    names = words(svg, "tick")
    assert [n for n in names if n.startswith("client")] == seats * 2
    assert [n for n in names if not n.startswith("client")] == [*LEVELS, "joint"]
    assert words(svg, "label") == list(ATTACKS)
    plain = leakage_maps(made(cut_dict(seats=False)))[0].maps[0].svg
    assert [n for n in words(plain, "tick") if n.startswith("client")] == [f"client-{i}" for i in range(4)] * 2


def test_levels_follow_the_protocol_and_what_it_does_not_name_follows_its_number():
    data = cut_dict(defenses=0)
    for seat in data["seats"]:
        seat["levels"] = ["level3", "level1", "deepest"] if "levels" in seat else []
    for e in data["pairings"][1]["endpoints"]:
        e["level"] = {"level0": "level10", "level4": "level9"}.get(e["level"], e["level"])
    drawn = leakage_maps(made(data))[0].maps[0]
    names = [n for n in words(drawn.svg, "tick") if not n.startswith("client")]
    assert names == ["level3", "level1", "deepest", "level0", "level2", "level4", "level9", "level10", "joint"]
    assert all(row[2] == ("gone", "") for row in cells(drawn.svg)), "a level that crosses and was not attacked is shown, empty"


def test_rounds_rise_and_the_last_comes_last(by_round):
    (found,) = leakage_maps(by_round)
    assert found.rounds
    drawn = found.maps[0]
    assert [w for w in words(drawn.svg, "label") if w not in (*ATTACKS, "fsha", "sdar")] == [
        "round 2",
        "round 5",
        "round 10",
        "last",
    ]
    above, below = (cells(drawn.svg)[:4], cells(drawn.svg)[4:])

    def row(attack: str, columns: list[tuple[int | None, str | None]]) -> list[tuple[str, str]]:
        values = [leakage(by_round, "none", attack, "client-1", level, r) for r, level in columns]
        return [("gone", "") if v is None else (f"m{step(v)}", number(v)) for v in values]

    # Three rounds of six columns fit side by side, the last goes below; who has nothing in a row of rounds is not in it.
    assert above[1] == row(ATTACKS[0], [(r, level) for r in (2, 5, 10) for level in (*LEVELS, None)])
    assert below[1] == row(ATTACKS[0], [(None, level) for level in (*LEVELS, None)])
    assert below[5] == row(ATTACKS[1], [(None, level) for level in (*LEVELS, None)])
    assert len(below) == 4 + 4 + 1 + 1, "attacks without any number here keep their rows: they were not tried"
    watched = next(d for d in found.maps if d.defense == SCRUTINIZER)
    assert "round 2" not in words(watched.svg, "label"), "no empty row of rounds"


def test_joint_evidence_is_the_last_column_whatever_it_is_called():
    data = cut_dict(defenses=0)
    for p in data["pairings"]:
        for e in p["endpoints"]:
            e["level"] = e["level"] or "joint"
    before, after = (leakage_maps(made(d))[0].maps[0].svg for d in (cut_dict(defenses=0), data))
    assert cells(before) == cells(after)


def test_without_any_level_there_is_no_map(factory):
    data = factory.make_dict(20, images=False)
    for p in data["pairings"]:
        for e in p["endpoints"]:
            e["level"] = None
    page = render_html(made(data))
    assert leakage_maps(made(data)) == []
    assert 'id="leakagemap"' not in page
    assert "#leakagemap" not in page


def test_every_kind_and_channel_has_a_map_of_its_own(factory):
    report = factory.make_report(20, images=False)
    found = [(m.protocol, m.kind, m.channel) for m in leakage_maps(report)]
    assert found == [("split", kind, "activation") for kind in ("fidelity", "identity", "membership")]


def test_a_missing_number_is_no_zero_and_the_table_says_why():
    data = cut_dict(defenses=0)
    gone = data["pairings"][0]["endpoints"][0]
    gone["leakage"] = {"value": None, "reason": "chance is too near", "scope": "this trained model", "patients": 36}
    del data["pairings"][0]["endpoints"][1]
    report = made(data)
    drawn = leakage_maps(report)[0].maps[0]
    assert cells(drawn.svg)[0][:2] == [("gone", "n/a"), ("gone", "")]
    assert "1 cell attacked without a number; empty cells were not attacked." in re.search("<desc[^>]*>(.*?)</desc>", drawn.svg)[1]
    assert "not available: chance is too near" in section(render_html(report))


def test_numbers_of_too_few_patients_are_missing_from_the_map():
    data = cut_dict(defenses=0)
    data["data"]["synthetic"] = False
    for e in data["pairings"][0]["endpoints"]:
        e["leakage"]["patients"] = 3
    few = suppress(made(data), 5, {})
    rows = cells(leakage_maps(few)[0].maps[0].svg)
    assert rows[0] == [("gone", "n/a")] * 6
    assert rows[4][0][0] == f"m{step(leakage(few, 'none', ATTACKS[1], 'client-0', 'level0'))}"
    assert "fewer than 5" in section(render_html(few))


def test_several_endpoints_of_one_place_show_the_largest_and_the_table_lists_all():
    data = cut_dict(defenses=0)
    twice = copy.deepcopy(data["pairings"][0]["endpoints"][4])
    twice["name"] = "client-0/level4 again"
    twice["leakage"] |= {"value": 0.555, "ci": [0.5, 0.6]}
    data["pairings"][0]["endpoints"].append(twice)
    found = leakage_maps(made(data))[0]
    assert found.crowded
    assert cells(found.maps[0].svg)[0][4] == ("m4", "0.56" if number(0.555) == "0.56" else number(0.555))
    assert len(found.maps[0].entries) == len(data["pairings"][0]["endpoints"]) + len(data["pairings"][1]["endpoints"])
    page = section(render_html(made(data)))
    assert "it shows the largest" in page
    assert "client-0/level4 again" in page


def test_the_table_twin_holds_value_interval_n_and_worst_patient(by_round):
    page = section(render_html(by_round))
    start = page.index("<table")
    rows = re.findall("<tr>(.*?)</tr>", page[start : page.index("</table>", start)])
    texts = [re.sub("<[^>]+>", "|", row) for row in rows]
    pairing = by_round.pairings[0]
    e = next(e for e in pairing.endpoints if (e.seat, e.level, e.round) == ("client-0", "level0", 2))
    low, high = e.leakage.ci
    expected = [ATTACKS[0], "client-0 (flair)", "level0", "2", e.name, number(e.leakage.value),
                f"({number(low)} to {number(high)})", "36", number(e.leakage.worst.value)]  # fmt: skip
    assert [t.strip() for t in texts[1].split("|") if t.strip()] == expected
    order = [tuple(t.strip() for t in text.split("|") if t.strip())[1:4] for text in texts[1:25]]
    seat = "client-0 (flair)"
    assert order == [(seat, level, r) for r in ("2", "5", "10", "last") for level in (*LEVELS, "joint")]
    assert len(rows) == 1 + sum(len(p.endpoints) for p in by_round.pairings if p.defense == "none")


def test_charts_by_round_only_from_three_rounds_on(by_round):
    charts = leakage_maps(by_round)[0].maps[0].charts
    assert [c.title for c in charts] == [f"{ATTACKS[0]}, client-{i} ({m})" for i, m in enumerate(("flair", "t1", "t1ce", "t2"))]
    svg = charts[0].svg
    assert words(svg, "label") == [*LEVELS, "joint"]
    assert [w for w in words(svg, "tick") if w.isdigit()] == ["2", "5", "10"]
    start, end = (leakage(by_round, "none", ATTACKS[0], "client-0", "level0", r) for r in (2, 10))
    assert f"level0 from {number(start)} in round 2 to {number(end)} in round 10" in svg
    line = re.search('class="line d0" d="M([^"]+)"', svg)[1]
    xs, ys = zip(*[map(float, point.split()) for point in line.split("L")], strict=True)
    assert len(xs) == 3
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(3 / 8, abs=0.01), "rounds keep their distances"
    values = [leakage(by_round, "none", ATTACKS[0], "client-0", "level0", r) for r in (2, 5, 10)]
    assert (ys[0] - ys[1]) / (ys[0] - ys[2]) == pytest.approx((values[1] - values[0]) / (values[2] - values[0]), abs=0.02)
    names = [float(y) for y in re.findall(r'<text class="label" x="[\d.]+" y="([\d.]+)"', svg)]
    ordered = sorted(names)
    assert min(b - a for a, b in pairwise(ordered)) >= 12, "no name covers another"
    assert leakage_maps(cut_report(rounds=(0, 9), defenses=1))[0].maps[0].charts == []


def test_pictures_have_words_and_a_table_and_are_escaped(by_round):
    page = render_html(by_round)
    parsed = Page(section(page) + "</section>")
    drawn = [a for a in parsed.having("svg") if "map" in (a.get("class") or "").split() or "lines" in a["class"].split()]
    found = leakage_maps(by_round)[0]
    assert len(drawn) == len(found.maps) + sum(len(d.charts) for d in found.maps)
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in drawn)
    assert len(parsed.having("desc")) == len(parsed.having("title")) == len(drawn)
    assert len(parsed.having("table")) == len(found.maps)
    assert parsed.unbalanced == []
    evil = "<script>alert(1)</script>\"'"
    data = cut_dict(rounds=(0, 1, 2), defenses=1)
    for p in data["pairings"]:
        for e in p["endpoints"]:
            e["seat"], e["level"], e["name"] = f"{evil}{e['seat']}", e["level"] and f"{evil}{e['level']}", f"{evil}{e['name']}"
    for s in data["seats"]:
        s["seat"], s["modalities"] = f"{evil}{s['seat']}", [evil]
    text = render_html(made(data))
    assert "<script" not in text
    assert Page(text).unbalanced == []
    assert "This section failed" not in text


def test_defended_maps_are_folded_so_that_twenty_defenses_stay_readable():
    page = section(render_html(made(cut_dict(defenses=20))))
    assert page.count('<details class="folded">') == 20
    before = page[: page.index('<details class="folded">')]
    assert before.count("<svg") == 1
    assert "no defense" in before


def test_five_hundred_pairings_stay_small():
    report = made(cut_dict(defenses=249))
    assert len(report.pairings) == 500
    place = next(s for s in render.SECTIONS if s.anchor == "leakagemap")
    text = render._render_section(place, {"report": report, "leakage_maps": leakage_maps(report)})
    endpoints = sum(len(p.endpoints) for p in report.pairings)
    assert text.count('<details class="folded">') == 249
    assert len(text.encode()) / endpoints < 600, "bytes for an endpoint: a cell, and a row of the table"


# Colors -------------------------------------------------------------------------------------------------------------------


def test_what_is_negative_looks_like_zero_and_what_is_beyond_one_like_one():
    assert step(-3.0) == step(0.0) == step(0.049) == 0
    assert step(1.0) == step(7.0) == len(STEPS) == 6
    assert [step(edge) for edge in STEPS] == [1, 2, 3, 4, 5, 6]
    assert len(step_words()) == 7
    assert step_words()[0] == "below 0.05"
    assert step_words()[-1] == "0.80 and more"


def _luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2) of `#rgb` or `#rrggbb`."""
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_every_step_can_be_read_and_told_from_the_next(theme):
    css = (resources.files("leakaudit.report") / "templates" / "style.css").read_text(encoding="utf-8")
    colors = dict(re.findall(r"--(\w+):(#\w+)", re.findall(r":root\{(.*?)\}", css, re.S)[theme]))
    steps = [colors[f"m{i}"] for i in range(7)]
    for i, color in enumerate(steps):
        assert _contrast(color, colors["low" if i < 4 else "high"]) >= 4.5
    light = [_luminance(c) for c in steps]
    assert light == sorted(light, reverse=theme != 1), "lightness alone carries the scale"
    assert min(_contrast(a, b) for a, b in pairwise(steps)) > 1.12
