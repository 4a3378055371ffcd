"""dFIL beside the attacks' own numbers: on the seat and channel that it speaks of, with its caveats, and not of too few."""

from __future__ import annotations

import copy
import html
import re

import pytest
from factory_cut import cut_dict

from leakaudit.report.base import Measured
from leakaudit.report.cells import suppress
from leakaudit.report.model import Report
from leakaudit.report.pairing_tables import basis_table, fine
from leakaudit.report.render import render_html
from leakaudit.report.trainings import Information

NOISE = "gaussian-noise-1"
BOUND = "least MSE of an unbiased attacker with one message (1/dFIL)"


@pytest.fixture
def data():
    return copy.deepcopy(cut_dict(defenses=1))


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", markup)).split())


def of(report: Report, defense: str = NOISE):
    pairing = next(p for p in report.pairings if p.defense == defense)
    baseline = next(b for b in report.baselines if b.defense == defense)
    return pairing, {i.seat: i for i in baseline.information}


def rows(table: str) -> dict[str, str]:
    """Return the last cell of each endpoint's row."""
    found = re.findall(r'<tr><th scope="row">(.*?)</th>.*?<td>((?:(?!<td>).)*)</td></tr>', table)
    return {html.unescape(name): words(cell) for name, cell in found}


def test_the_bound_stands_beside_the_error_of_the_same_seat(data):
    report = Report.model_validate(data)
    found = rows(basis_table(*of(report)))
    assert found["client-0/level0 fidelity"].replace("\u00a0", " ").startswith("SSIM 0.61, n = 36 MSE 0.014, n = 36 least MSE")
    assert f"{BOUND} 0.024; this attack lies below it, so it is biased or saw more messages" in found["client-0/level0 fidelity"]
    assert f"{BOUND} 0.0083" in found["client-1/level3 fidelity"]
    assert "lies below" not in found["client-1/level3 fidelity"]
    assert BOUND not in found["client-2/level0 fidelity"]
    assert BOUND not in words(basis_table(*of(report, "none")))
    assert BOUND not in words(basis_table(of(report)[0]))


@pytest.mark.parametrize("change", [{"channel": "cut-gradient"}, {"seat": None}, {"raw": {"ssim": {"value": 0.5}}}])
def test_it_stands_nowhere_else(data, change):
    for p in data["pairings"]:
        for e in p["endpoints"]:
            e |= change
    report = Report.model_validate(data)
    assert BOUND not in words(basis_table(*of(report)))
    assert "bounds an unbiased attacker who sees one message" not in render_html(report)


def test_the_page_says_what_the_bound_does_not_cover(data):
    page = words(render_html(Report.model_validate(data)))
    assert page.count("bounds an unbiased attacker who sees one message; with k messages it is k times smaller.") == 2
    guarantees = page[page.index("Fisher information of what is sent") :]
    assert "split gaussian-noise-1 client-0 41.70 0.024 8" in guarantees
    assert "split gaussian-noise-1 client-1 120.00 0.0083 8" in guarantees
    assert "It is no guarantee: an attacker who owns images of other patients is biased and may do better" in guarantees
    assert "Maeng et al., NeurIPS 2023" in page
    data["baselines"][-1]["information"] = []
    assert "Fisher information of what is sent" not in render_html(Report.model_validate(data))


def test_an_unknown_bound_says_why(data):
    data["baselines"][-1]["information"][0]["mse"] = {"value": None, "reason": "an image sends nothing"}
    report = Report.model_validate(data)
    assert f"{BOUND} not available: an image sends nothing" in rows(basis_table(*of(report)))["client-0/level0 fidelity"]


def test_of_too_few_images_nothing_is_shown(data):
    data["data"]["synthetic"] = False
    first, second = data["baselines"][-1]["information"]
    first["images"] = 3
    few = suppress(Report.model_validate(data), 5, {}).baselines[-1].information
    assert (few[0].dfil.value, few[0].mse.value, few[0].images) == (None, None, "fewer than 5")
    assert "fewer than 5 real patients" in few[0].dfil.reason
    assert few[1] == Information.model_validate(second)


@pytest.mark.parametrize(
    ("number", "text"),
    [(41.7, "41.70"), (0.02398, "0.024"), (0.1, "0.10"), (0.00012, "0.00012"), (0.0, "0.00"), (-2e-9, "\u22120.0000000020")],
)
def test_small_numbers_keep_two_digits(number, text):
    assert fine(Measured(value=number)) == text
