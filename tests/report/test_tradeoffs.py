"""Privacy against utility on the page: plots with their bands and limits, comparisons, defenses at equal usefulness."""

from __future__ import annotations

import copy
import html
import re
from typing import Any

import pytest

from leakaudit.report.model import Report
from leakaudit.report.render import render_html
from leakaudit.report.tradeoffs import comparisons, kind_limit, trade_offs


@pytest.fixture
def plain(factory) -> dict[str, Any]:
    return copy.deepcopy(factory.make_dict(20, images=False))


def words(markup: str) -> str:
    """Return the text of markup, tags as blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def test_each_kind_of_leakage_has_its_plot_and_its_own_limit(plain):
    report = Report.model_validate(plain)
    plots = trade_offs(report)
    assert [(t.protocol, t.kind) for t in plots] == [
        (p, k) for p in ("split", "federated") for k in ("fidelity", "identity", "membership")
    ]
    assert (kind_limit(report, "fidelity"), kind_limit(report, "membership")) == (0.10, 0.20)
    member = next(t for t in plots if t.kind == "membership")
    assert "limit 0.20" in member.svg
    assert "Membership leakage of the strongest attack" in member.svg
    assert [r.patients for r in member.rows] == [36] * 5


def test_the_band_is_drawn_and_said(plain):
    for b in plain["baselines"]:
        b["not_dominated"] = b["defense"] in ("dropout", "chain-0")
    plot = trade_offs(Report.model_validate(plain))[0]
    assert plot.svg.count('class="ring"') == 2
    assert re.search(r'class="band" d="(M[\d.]+ [\d.]+h0){2}"', plot.svg)
    assert plot.band == "Not significantly dominated: dropout and chain-0. Between these the evidence does not choose."
    assert plot.band in plot.svg
    for b in plain["baselines"]:
        b["not_dominated"] = None
    plot = trade_offs(Report.model_validate(plain))[0]
    assert 'class="ring"' not in plot.svg
    assert "cannot be said: that takes at least 3 repeats" in plot.band
    for b in plain["baselines"]:
        b["not_dominated"] = True
    assert trade_offs(Report.model_validate(plain))[0].band.startswith("Nothing is significantly dominated")


def test_trainings_without_kinds_share_one_plot(plain):
    for b in plain["baselines"]:
        b["by_kind"] = []
    plots = trade_offs(Report.model_validate(plain))
    assert [(t.protocol, t.kind, t.title) for t in plots] == [("split", None, "split"), ("federated", None, "federated")]


def test_comparisons_say_how_many_and_under_which_correction(plain):
    report = Report.model_validate(plain)
    view = comparisons(report)
    beats = [c for c in report.comparisons if c.outcome != "not distinguishable"]
    assert len(report.comparisons) > 40
    assert view.rows == beats
    assert view.words[0].startswith(
        f"{len(report.comparisons)} comparisons of two trainings, each in both directions: {len(beats)} s"
    )
    assert "(Bonferroni)" in view.words[0]
    assert "all of them are in report.json" in view.words[-1]
    plain["comparisons"] = plain["comparisons"][:3]
    plain["comparisons"][0] |= {"outcome": "not distinguishable", "reason": "too few repeats"}
    view = comparisons(Report.model_validate(plain))
    assert len(view.rows) == 3
    assert "1 comparison: too few repeats" in view.words
    text = words(render_html(Report.model_validate(plain)))
    assert "is said only where A leaks significantly less and is not significantly less useful" in text


def test_equal_usefulness_has_chart_and_table(page, report):
    text = words(page[page.index('id="tradeoff"') : page.index('id="utility"')])
    point = report.equal_utility[0].points[0]
    assert "split, fidelity: leakage at mean Dice 0.820" in text
    assert f"{point.defense} 0.24 (0.18 to 0.31) no defense, gaussian-noise" in text
