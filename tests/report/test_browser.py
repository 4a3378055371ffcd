"""The page in a real browser: no sideways scroll, no console message, links open closed details, printing shows details."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from leakaudit.report.render import render_html

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")

# The report itself has no script; this page beside it looks into frames of several widths.
_PROBE = """<!doctype html><body>__FRAMES__<pre id="out"></pre><script>
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const wide = [...page.querySelectorAll("main > *, main section > *, header > *, footer > *")]
      .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80));
    const target = page.getElementById("pairing-0"), pairing = target && target.closest("details");
    return {width: root.clientWidth, scroll: root.scrollWidth, wide: wide, opened: pairing ? pairing.open : null,
      boxes: [...page.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1).length};
  });
  document.getElementById("out").textContent = JSON.stringify(found);
}, 100));
</script></body>"""


def _chromium(folder, *arguments):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--enable-logging=stderr",
        "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module", params=[(1, 20), pytest.param((500,), marks=pytest.mark.slow)], ids=str)
def probe(request, factory, tmp_path_factory):
    """Open reports of several sizes at 360 and 1280 pixels, once for all tests."""
    folder = tmp_path_factory.mktemp("browser")
    for count in request.param:
        (folder / f"{count}.html").write_text(render_html(factory.make_report(count)), encoding="utf-8")
    frames = "".join(
        f'<iframe src="{count}.html#pairing-0" style="width:{width}px;height:800px;border:0"></iframe>'
        for count in request.param
        for width in (360, 1280)
    )
    (folder / "probe.html").write_text(_PROBE.replace("__FRAMES__", frames), encoding="utf-8")
    done = _chromium(folder, "--hide-scrollbars", "--virtual-time-budget=15000", "--dump-dom", f"file://{folder}/probe.html")
    match = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)
    assert match is not None
    return json.loads(html.unescape(match[1])), done.stderr


def test_page_never_scrolls_sideways(probe):
    found, _ = probe
    assert [round(f["width"]) for f in found] == [360, 1280] * (len(found) // 2)
    assert [f["scroll"] - f["width"] for f in found] == [0] * len(found)
    assert [f["wide"] for f in found] == [[]] * len(found)
    assert found[0]["boxes"] > 0, "at 360 pixels wide tables must scroll inside their boxes"


def test_following_a_cell_opens_its_pairing(probe):
    found, _ = probe
    assert [f["opened"] for f in found] == [True] * len(found)


def test_console_is_silent(probe):
    _, log = probe
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", ["A4", "letter"])
def test_prints_with_details_open(factory, tmp_path, size):
    pdf_text = shutil.which("pdftotext")
    if pdf_text is None:
        pytest.skip("no pdftotext on this machine (Debian: apt-get install poppler-utils)")
    text = render_html(factory.make_report(20)).replace("@page{", f"@page{{size:{size};")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    _chromium(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", f"file://{tmp_path}/page.html")
    printed = subprocess.run([pdf_text, "-layout", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert printed.count("Knows the defense") == 20
    assert "Signature" in printed
    # A figure that was cut in two would print its caption and its axis on different sheets.
    sheets = [sheet for sheet in printed.split("\f") if "patient by patient" in sheet]
    assert sheets
    assert all("0.50" in sheet for sheet in sheets)
