"""What the page shows of an endpoint, a control, a claim, a comparison: every number the model holds, and why one is missing."""

from __future__ import annotations

import copy
import html
import re
from typing import Any

import pytest
from markup import Page

from leakaudit.report.cells import suppress
from leakaudit.report.model import Report
from leakaudit.report.pairing_tables import basis_table, controls_table, endpoints_table, spread_table
from leakaudit.report.pairings import Pairing
from leakaudit.report.privacy import every_text
from leakaudit.report.render import render_html
from leakaudit.report.strips import patient_strip

PLACE = ("split", "gaussian-noise", "model-inversion")
MEMBER = ("split", "gaussian-noise", "membership-loss")


@pytest.fixture
def plain(factory) -> dict[str, Any]:
    return copy.deepcopy(factory.make_dict(20, images=False))


def raw(data: dict[str, Any], place=PLACE) -> dict[str, Any]:
    return next(p for p in data["pairings"] if (p["protocol"], p["defense"], p["attack"]) == place)


def pairing(data: dict[str, Any], place=PLACE) -> Pairing:
    return Pairing.model_validate(raw(data, place))


def words(markup: str) -> str:
    """Return the text of markup, tags as blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def test_the_worst_patient_stands_with_its_bound_its_shuffled_twin_and_the_limit_of_others(plain):
    text = words(endpoints_table(pairing(plain)))
    worst = raw(plain)["endpoints"][0]["leakage"]["worst"]
    assert (
        f"{worst['value']:.2f} up to 8 % of such patients may be worse; from shuffled messages 0.14; {worst['above']} of 36" in text
    )
    assert "beyond 0.19, which other patients\u2019 evidence hardly reaches" in text
    above = raw(plain)["endpoints"][0]["leakage"]["above"]
    assert f"{100 * above['value']:.0f} % of 36 95 % interval {100 * above['ci'][0]:.0f} %" in text
    member = words(endpoints_table(pairing(plain, MEMBER)))
    assert "no value by patient" in member
    assert "not by patient" in member


def test_every_endpoint_has_status_in_word_and_shape_limit_n_and_scope(plain):
    found = pairing(plain)
    markup = endpoints_table(found)
    assert Page(markup).unbalanced == []
    assert markup.count('<use href="#i-fail"/>') == len(found.endpoints) == 2
    for e in found.endpoints:
        assert f"{e.name} {e.kind} FAIL activation client-0, level0" in words(markup)
    assert words(markup).count("0.10 36") == 2
    assert words(markup).count("3 trainings, 36 patients") == 2


def test_controls_stand_by_endpoint_with_value_interval_n_criterion_and_result(plain):
    data = raw(plain)
    data["endpoints"][1]["controls"]["positive"] |= {"passed": False, "value": 0.2, "ci": [0.1, 0.3]}
    data["endpoints"][1]["controls"]["planted"] = {"value": 0.8, "ci": [0.7, 0.9], "n": 36, "criterion": "works", "passed": None}
    markup = controls_table(pairing(plain))
    text = words(markup)
    assert "masked-ssim not made: planted leak without defense (positive) met 0.71 (0.65 to 0.77) 36" in text
    failed = "rank-1 without defense (positive) not met 0.20 (0.10 to 0.30) 36"
    assert f"{failed} lower bound of the undefended leakage \u2265 3 \u00d7 0.1" in text
    assert "shuffled messages (negative) met 0.01 (\u22120.02 to 0.04) 99.9 % interval 36" in text
    assert "planted leak not decided 0.80 (0.70 to 0.90) 36 works" in text
    assert [markup.count(f"#i-{shape}") for shape in ("pass", "fail", "review")] == [3, 1, 1]


def test_exchanged_evidence_shows_p_adjusted_and_floor(plain):
    tests = raw(plain)["endpoints"]
    tests[0]["controls"]["evidence_shuffle"] = {"p": 0.02, "adjusted": 0.08, "floor": 0.0005, "possible": True, "n": 36}
    tests[1]["controls"]["evidence_shuffle"] = {"p": 0.5, "adjusted": None, "floor": 0.5, "possible": False, "n": 2}
    text = words(controls_table(pairing(plain)))
    assert "not told from chance p 0.020 adjusted 0.080 36 p value; the smallest that 36 patients allow is below 0.001" in text
    assert "not possible p 0.500 2 p value; the smallest that 2 patients allow is 0.500" in text
    tests[0]["controls"]["evidence_shuffle"]["adjusted"] = 0.04
    assert "about its own patient p 0.020" in words(controls_table(pairing(plain)))


def test_controls_of_the_pairing_stand_in_where_endpoints_have_none(plain):
    data = raw(plain)
    for e in data["endpoints"]:
        e["controls"] = {}
    assert "all not made: planted leak without defense (positive) met 0.71" in words(controls_table(pairing(plain)))
    data["controls"] = {}
    text = words(controls_table(pairing(plain)))
    assert "not made: without defense (positive), shuffled messages (negative), shuffled evidence, planted leak" in text


def test_numbers_rest_on_chance_anchor_seeds_blind_baseline_and_raw_scores(plain):
    text = words(basis_table(pairing(plain)))
    assert "masked-ssim 0.31 auxiliary mean 1.00 3 largest minus smallest leakage 0.02 masked SSIM" in text
    assert re.search(r"PSNR \d+\.\d+ dB, n = 36", text)
    assert "Blind baseline" not in text
    raw(plain)["endpoints"][1]["raw"]["gallery_size"] = {"value": 100.0, "unit": "patients of other visits"}
    assert "gallery size 100 (patients of other visits)" in words(basis_table(pairing(plain)))
    member = words(basis_table(pairing(plain, MEMBER)))
    assert "0.06 (\u22120.09 to 0.21) does not tell members apart" in member
    assert "TPR at 1 % FPR not resolvable: needs at least 100 non-members; there are 36" in member
    raw(plain, MEMBER)["endpoints"][0]["confounded"] = True
    assert "confounded: it tells members apart" in words(basis_table(pairing(plain, MEMBER)))


def test_strips_draw_quantiles_always_and_dots_only_for_listed_patients(plain):
    e = pairing(plain).endpoints[0]
    dotted = patient_strip(e, 0.3)
    assert dotted.count("h0") == 36
    bare = patient_strip(e.model_copy(update={"leakage": e.leakage.model_copy(update={"per_patient": []})}), 0.3)
    assert "h0" not in bare
    for shape in ("spread", "box", "median", "mean", "top"):
        assert bare.count(f'class="{shape}"') == 1
    assert '<use href="#scale"' in bare
    nothing = {"per_patient": [], "quantiles": None}
    assert patient_strip(e.model_copy(update={"leakage": e.leakage.model_copy(update=nothing)}), 0.3) is None
    assert patient_strip(pairing(plain, MEMBER).endpoints[0], 0.3) is None


def test_a_strip_beyond_the_shared_scale_gets_its_own_and_cuts_nothing(plain):
    leakage = raw(plain)["endpoints"][0]["leakage"]
    leakage["worst"]["value"] = 1.7
    leakage["quantiles"]["low"] = -0.6
    markup = patient_strip(pairing(plain).endpoints[0], 0.3)
    assert "#scale" not in markup
    assert ">\u22120.50<" in markup
    assert ">1.50<" in markup
    places = [float(x) for x in re.findall(r"M(-?[\d.]+) ", markup)]
    assert min(places) >= 0
    assert max(places) <= 400


def test_the_twin_table_holds_what_the_strip_draws(plain):
    q = raw(plain)["endpoints"][0]["leakage"]["quantiles"]
    numbers = " ".join(f"{q[name]:.2f}" for name in ("low", "quarter", "median", "three_quarters", "high"))
    assert numbers.replace("-", "\u2212") in words(spread_table(pairing(plain)))
    assert spread_table(pairing(plain, MEMBER)) == ""


def test_a_guarantee_states_everything_and_what_it_does_not_cover(page):
    start = page.index("federated with dp-sgd</h3>")
    text = words(page[start : page.index("</article>", start)])
    for part in (
        "epsilon 3.100 at delta 0.001", "clipped to 1, Gaussian noise 1.1 times that, 90 steps", "patient: all data of one patient",
        "data with or without one unit (add-or-remove)", "update from site-0 and site-1", "RDP (Opacus 1.5)",
        "Sampling used Poisson over patients, rate 0.1", "Sampling assumed Poisson over patients", "the noise stays secret",
        "channel model (the shared model, sent to every hospital)", "as a unit: a whole hospital",
        "the choice among the defenses of this audit by their results",
        "membership-loss NOT REFUTED 3.10 delta 0.001, unit patient 0.40 95 % , one-sided 3.50",
        "An attack can refute a claim, never prove it.",
    ):  # fmt: skip
        assert part.replace(" % ,", "\u00a0%,") in text.replace("95 %", "95\u00a0%"), part
    section = words(page[page.index('id="guarantees"') : page.index('id="pairings"')])
    assert "An epsilon for weights never covers an activation" in section
    assert "UNTESTABLE" in section


def test_an_untested_claim_says_so(plain):
    for p in plain["pairings"]:
        p["claim"] = None
    assert "No attack of this audit put this claim to the test." in render_html(Report.model_validate(plain))


def test_hd95_stands_with_unit_and_n(page):
    text = words(page[page.index("HD95 by region") : page.index('id="channels"')])
    assert "split dropout 6.1 7.4 none mm 40" in text


def test_frameworks_are_an_index_and_claim_nothing(page, report):
    text = words(page[page.index('id="frameworks-h">') + 20 : page.index('<section class="part" id="glossary"')])
    for name in ("EDPB Opinion 28/2024", "GDPR", "EU AI Act, Annex IV", "NIST AI RMF", "ISO/IEC 27559", "HIPAA"):
        assert name in text
    assert "It states no conformity with any of them" in text
    assert "Necessity and proportionality" in text
    assert "Extraction, from messages and the shared model tried against a defense: reconstruction on activation" in text
    assert "Queries to the finished model not examined in this audit: nothing is known" in text
    assert not re.search(r"[\u201c\"]", text), "nothing is quoted"


def test_every_text_of_a_report_is_escaped(report):
    evil = "<script>alert(1)</script>\"' onload=x"
    page = render_html(every_text(report, lambda text: evil + text))
    taken = Page(page)
    assert taken.unbalanced == []
    assert taken.having("script") == []
    assert not [name for _, attrs in taken.tags for name in attrs if name.startswith("on")]
    assert page.count("&lt;script&gt;") > 500
    assert "This section failed" not in page


def test_small_cells_are_words_wherever_a_count_stands(factory):
    data = factory.make_dict(20, images=False, synthetic=False)
    shown = suppress(Report.model_validate(data), 37, {})
    page = render_html(shown)
    assert "This section failed" not in page
    text = words(page)
    assert "fewer than 37" in text
    assert not re.search(r"\bn = 36\b|\b36 patients\b", text.replace("\u00a0", " "))


def test_several_claims_of_one_training_stand_apart_each_with_its_own_test(plain):
    baseline = next(b for b in plain["baselines"] if (b["protocol"], b["defense"]) == ("federated", "dp-sgd"))
    site = baseline["guarantee"] | {
        "unit": "site", "epsilon": 44.0, "releases": [["model", "aggregator"]], "mechanism": "site-level DP (central)",
    }  # fmt: skip
    baseline["further_guarantees"] = [site]
    for p in plain["pairings"]:
        if (p["protocol"], p["defense"]) == ("federated", "dp-sgd"):
            p["further_guarantees"] = [site]
    page = render_html(Report.model_validate(plain))
    starts = [page.index(f"federated with dp-sgd: claim {n} of 2</h3>") for n in (1, 2)]
    first, second = (words(page[start : page.index("</article>", start)]) for start in starts)
    assert "epsilon 3.100" in first
    assert "epsilon 44.0" in second
    assert "model from aggregator" in second
    assert "update from site-0" not in second
    assert "NOT REFUTED" in first
    assert "No attack of this audit put this claim to the test." in second
    (pairing_data,) = [p for p in plain["pairings"] if p["claim"] and (p["protocol"], p["defense"]) == ("federated", "dp-sgd")]
    pairing_data["claim"] |= {"unit": "site", "epsilon": 44.0}
    page = render_html(Report.model_validate(plain))
    start = page.index("federated with dp-sgd: claim 2 of 2</h3>")
    assert "NOT REFUTED" in words(page[start : page.index("</article>", start)])
