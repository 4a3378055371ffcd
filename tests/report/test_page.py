"""The page as text: offline, escaped, in order, honest about what is missing."""

from __future__ import annotations

import jinja2
import pytest
from markup import Page

from leakaudit.errors import UserError
from leakaudit.report import render
from leakaudit.report.model import Report
from leakaudit.report.render import render_html


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


def test_nothing_is_loaded_from_outside(parsed, page):
    assert {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"} == set()
    for tag, attrs in parsed.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            target = attrs.get(name)
            if target is not None:
                assert target.startswith(("#", "data:image/png;base64,")), (tag, target[:60])
        assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
    assert "url(" not in page
    assert "@import" not in page


def test_content_security_policy_is_strict_and_comes_first(parsed):
    policy = [a["content"] for a in parsed.having("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    names = [tag for tag, _ in parsed.tags]
    assert names.index("meta") < names.index("style")


def test_markup_is_balanced_and_ids_are_unique_and_linked(parsed):
    assert parsed.unbalanced == []
    assert parsed.stack == []
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    linked = {attrs["href"][1:] for _, attrs in parsed.tags if (attrs.get("href") or "").startswith("#")}
    assert linked <= set(ids)
    labels = {name for _, attrs in parsed.tags for name in (attrs.get("aria-labelledby") or "").split()}
    assert labels <= set(ids)


def test_headings_and_landmarks_are_in_order(parsed):
    assert parsed.headings[0] == 1
    assert parsed.headings.count(1) == 1
    jumps = [(a, b) for a, b in zip(parsed.headings, parsed.headings[1:], strict=False) if b > a + 1]
    assert jumps == []
    order = [tag for tag, _ in parsed.tags if tag in ("header", "main", "nav", "footer")]
    assert order == ["header", "main", "nav", "footer"]
    assert parsed.having("html") == [{"lang": "en"}]
    assert [a["href"] for a in parsed.having("a") if a.get("class") == "skip"] == ["#main"]


def test_wide_tables_scroll_in_a_focusable_labelled_box(parsed):
    boxes = [a for a in parsed.having("div") if a.get("class") == "scroll"]
    assert boxes
    assert all(a.get("tabindex") == "0" and a.get("role") == "group" and a.get("aria-label") for a in boxes)
    assert len(parsed.having("caption")) == len(parsed.having("table"))


def test_charts_have_title_description_and_table_twin(parsed, page, report):
    charts = [a for a in parsed.having("svg") if a.get("class") == "chart"]
    strips = [a for a in parsed.having("svg") if a.get("class") == "strip"]
    kinds = {(b.protocol, s.kind) for b in report.baselines for s in b.by_kind}
    assert len(charts) == len(kinds) + len(report.equal_utility) == 7
    assert len(strips) == sum(bool(e.leakage.quantiles) for p in report.pairings for e in p.endpoints) > 10
    maps = [a for a in parsed.having("svg") if a.get("class") == "chart map"]
    assert len(maps) == len({(p.protocol, p.defense, e.kind) for p in report.pairings for e in p.endpoints if e.level})
    assert all(a.get("role") == "img" for a in charts + strips + maps)
    assert len(parsed.having("desc")) == len(charts) + len(strips) + len(maps)
    assert len(parsed.having("title")) == len(charts) + len(strips) + len(maps) + 1
    assert page.count("The same as a table") == len(kinds)
    assert page.count('with 95\u00a0% intervals</span></caption>\n<thead><tr><th scope="col">Defense') == len(report.equal_utility)
    assert page.count("Leakage by patient. Quantiles over patients") == sum(
        any(e.leakage.quantiles for e in p.endpoints) for p in report.pairings
    )


def test_above_the_fold_come_verdict_gaps_and_caveats(page, report):
    places = [page.index(text) for text in ('class="sentence"', ">Not attacked</h3>", ">What this does not show</h3>", "<nav")]
    assert places == sorted(places)
    assert "Synthetic patients: this validates the procedure, not your data." in page
    assert report.sentences.not_attacked[0] in page


def test_hostile_labels_are_escaped(factory):
    data = factory.make_dict(20)
    evil = "<script>alert(1)</script>\"' onload=x"
    for key in ("pairings", "baselines", "coverage"):
        for item in data[key]:
            for field in ("defense", "attack", "protocol"):
                if item.get(field) in ("gaussian-noise", "model-inversion", "split"):
                    item[field] = evil + item[field]
    data["recipe"]["name"] = data["data"]["dataset"] = evil
    data["sections"][0]["paragraphs"] = [evil]
    data["pairings"][2]["endpoints"][0]["name"] = evil
    data["pairings"][2]["endpoints"][0]["leakage"].update(value=None, ci=None, reason=evil, per_patient=[], worst=None)
    text = render_html(Report.model_validate(data))
    page = Page(text)
    assert page.unbalanced == []
    assert page.having("script") == []
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_images_only_if_allowed(factory, page):
    assert "data:image/png" in page
    assert "data:image/png" not in render_html(factory.make_report(20, images=False, synthetic=False))


def test_real_images_appear_in_the_restricted_page_only(factory):
    data = factory.make_dict(20, synthetic=False) | {"contains_patient_images": True}
    report = Report.model_validate(data)
    shareable, restricted = render_html(report), render_html(report, restricted=True)
    assert "data:image/png" not in shareable
    assert "CONTAINS PATIENT IMAGES" not in shareable
    assert "data:image/png" in restricted
    assert "CONTAINS PATIENT IMAGES" in restricted
    with pytest.raises(UserError, match="no images of real patients"):
        render_html(factory.make_report(1), restricted=True)


def test_images_beyond_the_budget_are_counted_not_dropped_silently(report):
    one_each = sum(len(t.original) + len(t.reconstruction) + len(t.chance) for p in report.pairings for t in p.images[:1])
    text = render_html(report, image_budget=one_each)
    assert "1 of 2 image sets were left out" in text
    assert text.count("data:image/png") == 3 * sum(bool(p.images) for p in report.pairings)


def test_failures_are_shown(factory, page):
    assert "The attack returned NaN for 3 of 36 patients." in page
    assert "This pairing has no endpoints, so nothing is known from it." in page
    data = factory.make_dict(1)
    data["sections"][0] = {"title": "Scanner mix", "plugin": "scanner-mix", "failed": "ValueError: no scanners"}
    text = render_html(Report.model_validate(data))
    assert "This section failed." in text
    assert "ValueError: no scanners" in text


def test_a_section_that_cannot_be_rendered_is_shown_as_failed(report, monkeypatch, caplog):
    environment = render._environment()
    loader = jinja2.DictLoader({"matrix.html.j2": "{{ nothing_of_this_name }}"})
    broken = environment.overlay(loader=jinja2.ChoiceLoader([loader, environment.loader]))
    monkeypatch.setattr(render, "_environment", lambda: broken)
    text = render_html(report)
    assert "This section failed." in text
    assert "UndefinedError" in text
    assert 'id="pairing-0"' in text
    assert "section matrix of the report failed" in caplog.text


def test_long_lists_of_evidence_fold_and_lose_nothing(factory):
    report = factory.make_report(500)
    text = render_html(report)
    assert f"<summary>{len(report.sentences.against_release) - 10} more</summary>" in text
    section = text[text.index('id="evidence"') : text.index('id="matrix"')]
    assert section.count("<li>") == len(report.sentences.against_release) + len(report.sentences.for_release)


def test_no_claim_that_is_not_ours_to_make(page):
    text = page.lower()
    for word in ("anonymous", "compliant", "complies", "certified", "conforms"):
        assert word not in text


def test_percent_signs_stay_with_their_numbers(page):
    assert "95\u00a0%" in page
    assert "95 %" not in page


def test_empty_report_renders(factory):
    data = factory.make_dict(1)
    for key in ("pairings", "baselines", "coverage", "traffic", "sections", "not_attacked", "comparisons"):
        data[key] = []
    data["verdict"] = {"status": "ERROR", "exit_code": 4}
    text = render_html(Report.model_validate(data))
    assert "This report has no pairings: nothing was attacked." in text
    assert "This section failed" not in text


def test_a_thousand_pairings_stay_small(factory):
    text = render_html(factory.make_report(1000))
    assert text.count('class="pairing"') == 1000
    assert "This section failed" not in text
    assert len(text.encode()) < 15e6
