"""The page in a real browser: silent, alone, never wider than the window, accessible, light and dark, large and small."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, MISSING, Browser
from factory_cut import cut_report
from factory_decay import federation_report

from leakaudit.report.render import render_html

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

SIZES = (1, 20, 500)
CUT = "cut"
"""A report of split learning: maps with rounds, detection, Fisher information."""
FEDERATION = "federation"
"""A report of a federation: lines by round and by batch size, a warning about the architecture."""
MADE = {CUT: lambda: cut_report(rounds=(0, 2, 5, None)), FEDERATION: federation_report}
WIDTHS = (360, 1280)

_WIDE = """(() => {
  const root = document.documentElement;
  const out = [...document.querySelectorAll("main > *, main section > *, header > *, footer > *")]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80));
  return {window: root.clientWidth, page: root.scrollWidth, out,
    boxes: [...document.querySelectorAll(".scroll")]
      .filter(e => !e.closest("details:not([open])") && e.scrollWidth > e.clientWidth + 1).length};
})()"""

# Pairings are alike: a few of them, with all tables and strips, stand for the rest.
_OPEN = "document.querySelectorAll('details').forEach((d, i, all) => { if (i < 24 || i % 97 == 0) d.open = true })"

# Of rows that are alike in all that the checker looks at, two of each table stand for the rest: colors take it minutes.
_THIN = """(() => {
  const kind = e => {
    const style = getComputedStyle(e), empty = !e.textContent.trim();
    return [e.tagName, e.getAttribute("class"), e.getAttributeNames(), style.color, style.backgroundColor, style.font, empty];
  };
  const alike = [...document.querySelectorAll("tbody")].flatMap(body => {
    const seen = new Map();
    return [...body.rows].filter(row => {
      const key = JSON.stringify([row, ...row.querySelectorAll("*")].map(kind));
      seen.set(key, (seen.get(key) || 0) + 1);
      return seen.get(key) > 2;
    });
  });
  alike.forEach(row => row.remove());
  return alike.length;
})()"""

_TWICE = """[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) != i)"""

_FOLD = """["verdict", "not-attacked", "not-shown"].map(id => document.getElementById(id).getBoundingClientRect().top)"""


@pytest.fixture(scope="module")
def pages(factory, tmp_path_factory):
    """Reports of several sizes as files, made when they are asked for."""
    folder, made = tmp_path_factory.mktemp("pages"), {}

    def page(count: int | str) -> Path:
        if count not in made:
            made[count] = folder / f"{count}.html"
            report = MADE[count]() if count in MADE else factory.make_report(count)
            made[count].write_text(render_html(report), encoding="utf-8")
        return made[count]

    return page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


def axe() -> str:
    """Return axe-core's script, or skip. The package brings it; of the rest of that package nothing is used."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no axe-core here (pip install --no-deps axe-playwright-python)")
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def findings(tab) -> dict[str, int]:
    """Return the serious and critical findings of axe-core by rule, with the number of places."""
    run = "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => [v.impact, v.id, v.nodes.length]))"
    tab.ask(axe())
    return {rule: count for impact, rule, count in tab.ask(run, timeout=1800) if impact in ("serious", "critical")}


@pytest.mark.parametrize("count", SIZES)
def test_console_is_silent_and_nothing_is_asked_for(browser, pages, count):
    tab = browser.open(pages(count))
    assert tab.ask("document.querySelectorAll('details.pairing').length") == count
    assert tab.console() == []
    assert tab.requests() == [pages(count).as_uri()]
    tab.close()


@pytest.mark.parametrize("count", [*SIZES, CUT, FEDERATION])
@pytest.mark.parametrize("width", WIDTHS)
def test_page_never_scrolls_sideways(browser, pages, count, width):
    tab = browser.open(pages(count), width=width)
    for opened in (False, True):
        if opened:
            tab.ask(_OPEN)
        found = tab.ask(_WIDE)
        assert (found["window"], found["page"], found["out"]) == (width, width, [])
    assert width > 360 or found["boxes"] > 0, "at 360 pixels wide tables must scroll inside their boxes"
    tab.close()


def test_following_a_cell_opens_its_pairing(browser, pages):
    tab = browser.open(pages(20).as_uri() + "#pairing-7")
    assert tab.ask("document.getElementById('pairing-7').closest('details').open") is True
    assert tab.ask("document.querySelectorAll('details.pairing[open]').length") == 1
    tab.close()


@pytest.mark.parametrize("count", SIZES)
def test_verdict_gaps_and_caveats_begin_above_the_fold(browser, pages, count):
    tab = browser.open(pages(count), width=1280, height=800)
    places = tab.ask(_FOLD)
    assert places[0] < places[1]
    assert max(places) < 600
    sides = tab.ask("['.for', '.against'].map(s => document.querySelector(s).getBoundingClientRect().top)")
    assert sides[0] == sides[1], "evidence for and against release stand side by side"
    tab.close()


@pytest.mark.parametrize(
    ("count", "width", "dark"),
    [
        (1, 360, False),
        (1, 360, True),
        (20, 1280, False),
        (20, 1280, True),
        (CUT, 360, False),
        (FEDERATION, 360, True),
        (FEDERATION, 1280, False),
    ],
)
def test_accessible(browser, pages, count, width, dark):
    tab = browser.open(pages(count), width=width, dark=dark)
    tab.ask(_OPEN)
    if count == FEDERATION:
        assert tab.ask("document.querySelectorAll('#decay svg.lines').length") == 2, "what is judged is on the page"
    assert tab.ask(_TWICE) == []
    tab.ask(_THIN)
    assert findings(tab) == {}
    tab.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "width", "dark"),
    [(CUT, 360, False), (CUT, 1280, True), (20, 360, False), (20, 360, True), (500, 1280, False)],
)
def test_accessible_with_every_row(browser, pages, count, width, dark):
    tab = browser.open(pages(count), width=width, dark=dark)
    tab.ask(_OPEN)
    assert findings(tab) == {}
    tab.close()


_COLORS = """[...document.querySelectorAll(".map .mid > path:not(.gone, .under)")].map(e => [
  e.getAttribute("class"), getComputedStyle(e).fill, getComputedStyle(e.nextElementSibling).fill])"""


def _luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2) of `rgb(r, g, b)`."""
    parts = [int(c) / 255 for c in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("dark", "media"), [(False, ""), (True, ""), (True, "print")])
def test_numbers_on_the_map_can_be_read_on_every_color(browser, pages, dark, media):
    """The checker leaves text in drawings out."""
    tab = browser.open(pages(CUT), dark=dark, media=media)
    found = {tuple(entry) for entry in tab.ask(_COLORS)}
    tab.close()
    assert {step for step, _, _ in found} == {f"m{i}" for i in range(7)}
    for step, box, text in found:
        high, low = sorted((_luminance(box), _luminance(text)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (step, box, text)
    zero = next(_luminance(box) for step, box, _ in found if step == "m0")
    assert zero < 0.02 if dark and not media else zero > 0.9, "zero recedes into the page, printed from a dark setting, too"


_BEYOND = """[...document.querySelectorAll(".map text, .lines text")].filter(t => t.checkVisibility()).filter(t => {
  const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();
  return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1})
  .map(t => t.textContent)"""


def test_numbers_on_the_map_stay_inside_their_cells(browser, pages):
    tab = browser.open(pages(CUT))
    tab.ask(_OPEN)
    outside = """[...document.querySelectorAll(".map .mid > path:not(.under) + text")].filter(t => {
      const a = t.getBBox(), b = t.previousElementSibling.getBBox();
      return a.x < b.x || a.y < b.y || a.x + a.width > b.x + b.width || a.y + a.height > b.y + b.height}).length"""
    assert tab.ask(outside) == 0
    assert tab.ask(_BEYOND) == []
    tab.close()


def test_words_of_charts_over_a_federation_stay_inside(browser, pages):
    tab = browser.open(pages(FEDERATION))
    tab.ask(_OPEN)
    assert tab.ask("document.querySelectorAll('#decay .lines text').length") > 10
    assert tab.ask(_BEYOND) == []
    tab.close()


def test_the_accessibility_checker_finds_what_is_planted(browser, pages, tmp_path):
    text = (
        pages(1)
        .read_text(encoding="utf-8")
        .replace("<main", '<img src="data:image/png;base64,AAAA"><p style="color:#eee">pale</p><main')
    )
    (tmp_path / "bad.html").write_text(text, encoding="utf-8")
    tab = browser.open(tmp_path / "bad.html")
    assert set(findings(tab)) >= {"image-alt", "color-contrast"}
    tab.close()


def test_a_fault_in_one_of_many_rows_is_still_found(browser, pages):
    tab = browser.open(pages(1))
    tab.ask(_OPEN)
    tab.ask("[...document.querySelectorAll('tbody')].sort((a, b) => b.rows.length - a.rows.length)[0].id = 'long'")
    tab.ask("document.querySelectorAll('#long td').forEach((cell, i, all) => cell.lang = i < all.length - 1 ? 'en' : 'en-US')")
    tab.ask("document.styleSheets[0].insertRule('td:lang(en-US) { color: #eee }', document.styleSheets[0].cssRules.length)")
    before = tab.ask("document.querySelectorAll('#long tr').length")
    assert tab.ask(_THIN) > 0
    assert tab.ask("document.querySelectorAll('#long tr').length") < before
    assert findings(tab) == {"color-contrast": 1}
    tab.close()


def test_dark_and_light_differ_and_keep_their_contrast(browser, pages):
    colors = {}
    for dark in (False, True):
        tab = browser.open(pages(1), dark=dark)
        style = "getComputedStyle(document.body)"
        colors[dark] = tab.ask(f"[{style}.backgroundColor, {style}.color]")
        tab.close()
    assert colors[False] == ["rgb(255, 255, 255)", "rgb(23, 34, 43)"]
    assert colors[True] == ["rgb(18, 25, 31)", "rgb(230, 237, 241)"]


def hosts(netlog: Path) -> set[str]:
    """Return every host that a browser's network log names, whatever it was wanted for."""
    text = netlog.read_text(encoding="utf-8", errors="replace")
    events = json.loads(text)["events"]
    found = set()
    for event in events:
        for name in ("url", "host", "origin", "original_url"):
            match = re.match(r"(?:(?:https?|wss?|ftp)://)?([\w.-]+\.[a-z]+)", str(event.get("params", {}).get(name, "")))
            found |= {match[1]} if match else set()
    return found


def test_the_network_log_names_no_host(factory, tmp_path):
    """Whatever the page asked for would be in the log of the browser's own network stack, and a planted request is."""
    report = render_html(factory.make_report(20))
    planted = report.replace("default-src 'none'; img-src data:", "default-src *; img-src *")
    planted = planted.replace(
        "<main", '<link rel="preconnect" href="https://early.invalid"><img alt="" src="https://planted.invalid/x.png"><main'
    )
    seen = {}
    for name, text in (("report", report), ("planted", planted), ("blank", "<!doctype html><title>blank</title>")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "page.html").write_text(text, encoding="utf-8")
        browser = Browser(folder)
        tab = browser.open(folder / "page.html")
        tab.ask("document.querySelectorAll('details').forEach(d => { d.open = true })")
        tab.ask("new Promise(done => setTimeout(done, 1500))")
        requests = tab.requests()
        browser.close()
        seen[name] = hosts(browser.netlog)
        assert ("https://planted.invalid/x.png" in requests) is (name == "planted")
    assert seen["planted"] - seen["blank"] >= {"planted.invalid", "early.invalid"}
    assert seen["report"] - seen["blank"] == set(), "the report asked for something that an empty page does not"
