"""The wording against misreading (rules of evidence, section 8): every sentence where it applies, and nowhere else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from leakaudit.report import phrases, statement
from leakaudit.report.model import Report
from leakaudit.report.pairing_words import worst_of_each_kind
from leakaudit.report.render import render_html
from leakaudit.report.words import verdict_sentence, with_sentences

PLACE = ("split", "gaussian-noise", "model-inversion")


@pytest.fixture
def plain(factory) -> dict[str, Any]:
    return copy.deepcopy(factory.make_dict(20, images=False))


def made(data: dict[str, Any]) -> Report:
    return with_sentences(Report.model_validate(data))


def pairing(report: Report, place=PLACE):
    return next(p for p in report.pairings if (p.protocol, p.defense, p.attack) == place)


def judged(data: dict[str, Any], status: str, code: int) -> Report:
    return made(data | {"verdict": {"status": status, "exit_code": code}})


def test_numbers_for_people():
    assert phrases.number(None) == "not available"
    assert phrases.number(-0.001) == "0.00"
    assert phrases.number(-0.05) == "\u22120.05"
    assert [phrases.percent(x) for x in (0, 0.0798, 0.0312, 0.45, 1)] == ["0 %", "8 %", "3.1 %", "45 %", "100 %"]
    assert [phrases.probability(p) for p in (0.0004, 0.001, 0.31)] == ["below 0.001", "0.001", "0.310"]
    assert phrases.listed(["a", "b", "c"]) == "a, b and c"
    assert phrases.listed([]) == "none"


def test_1_a_pass_is_about_these_attacks_and_patients(plain):
    sentence = judged(plain, "PASS", 0).sentences.verdict
    assert sentence.startswith("PASS: these attacks, on these patients, stayed below the limit. A stronger attack may not.")
    assert "Acceptable by this policy" not in sentence
    chain = next(b for b in plain["baselines"] if b["status"] == "PASS")
    chain["utility"]["status"] = "PASS"
    assert judged(plain, "PASS", 0).sentences.verdict.endswith(f"Acceptable by this policy: {chain['protocol']} with chain-0.")
    assert "A stronger attack may not." not in judged(plain, "REVIEW", 4).sentences.verdict


def test_2_review_is_not_a_mild_pass(plain):
    sentence = "REVIEW is not a mild PASS: the evidence cannot decide."
    assert sentence in judged(plain, "REVIEW", 4).sentences.verdict
    assert sentence not in judged(plain, "FAIL", 3).sentences.verdict
    for p in plain["pairings"]:
        if p["status"] == "REVIEW":
            p["status"] = "PASS"
    gaps = judged(plain, "REVIEW", 4).sentences.verdict
    assert "No single pairing is undecided, but the evidence as a whole has gaps." in gaps
    assert sentence in gaps


def test_3_leakage_is_no_share_of_patients(plain):
    assert any(
        line.endswith("Leakage .10 is not \u201c10 % of patients\u201d; identification is reported separately.")
        for line in made(plain).sentences.not_shown
    )


def test_4_the_worst_patient_stands_beside_the_mean(plain):
    report = made(plain)
    found = pairing(report)
    e = found.endpoints[0]
    line = (
        f"Mean {phrases.number(e.leakage.value)}; worst of 36 was {phrases.number(e.leakage.worst.value)}; "
        "up to 8 % of such patients may be worse."
    )
    assert line in found.sentences
    member = pairing(report, ("split", "gaussian-noise", "membership-loss"))
    assert not any("worst of" in s for s in member.sentences), "membership has no value by patient"


def test_5_what_was_not_attacked_is_not_known(plain):
    line = "Not attacked: label in split; model in federated, reconstruction attacks. Nothing is known about these channels."
    assert line in made(plain).sentences.against_release
    assert not any("Nothing is known" in s for s in made(plain | {"not_attacked": []}).sentences.against_release)
    page = render_html(made(plain))
    front = page[page.index(">Not attacked</h3>") : page.index(">What this does not show</h3>")]
    assert "Nothing is known about these channels:" in front
    assert "<li>label in split</li><li>model in federated, reconstruction attacks</li>" in front
    assert "Why: no attack in the recipe." in front


def test_6_a_weak_attack_proves_nothing(plain):
    line = "The attack recovered 0.71 undefended; below 3 times the limit (0.30) its failure means nothing."
    report = made(plain)
    assert line in pairing(report).sentences
    assert not any("undefended;" in s for s in pairing(report, ("split", "none", "model-inversion")).sentences)
    member = pairing(report, ("split", "gaussian-noise", "membership-loss"))
    assert any("below 3 times the limit (0.60)" in s for s in member.sentences), "each endpoint has its own limit"


def test_7_one_training_is_one_training(plain):
    line = "One training run: another may leak more."
    assert not any(line in s for s in made(plain).sentences.not_shown)
    for p in plain["pairings"]:
        p["repeats"] = 1
    single = made(plain)
    assert any(s.endswith(line) for s in single.sentences.not_shown)
    assert line in pairing(single).sentences
    for p in plain["pairings"]:
        p["repeats"] = 2
    assert any("Two training runs are too few to tell." in s for s in made(plain).sentences.not_shown)


def test_8_epsilon_is_scoped_and_the_audit_has_a_ceiling(plain):
    report = made(plain)
    line = "Epsilon covers update from site-0 and site-1, unit patient only; the audit could have shown at most epsilon = 3.50."
    assert any(line in s for s in pairing(report, ("federated", "dp-sgd", "membership-loss")).sentences)
    assert not any("Epsilon covers" in s for s in pairing(report).sentences)
    page = render_html(report).replace("\u00a0", " ")
    guarantees = page[page.index('id="guarantees"') : page.index('id="pairings"')]
    assert line in guarantees
    assert "at most epsilon = 2.25." in guarantees


def test_9_trying_many_defenses_costs(plain):
    line = "4 defenses were tried; limits were tightened accordingly."
    assert any(s.endswith(line) for s in made(plain).sentences.not_shown)
    plain["baselines"] = [b for b in plain["baselines"] if b["defense"] in ("none", "dropout")]
    assert not any("were tried" in s for s in made(plain).sentences.not_shown)


def test_10_synthetic_patients_are_nobody(plain):
    line = "Synthetic patients: this validates the procedure, not your data."
    assert any(s.endswith(line) for s in made(plain).sentences.not_shown)
    plain["data"]["synthetic"] = False
    assert not any("Synthetic" in s for s in made(plain).sentences.not_shown)


def test_a_fail_names_the_pairing_furthest_above_its_own_limit(plain):
    sentence = verdict_sentence(Report.model_validate(plain))
    failed = [p for p in plain["pairings"] if p["status"] == "FAIL"]
    assert sentence.startswith(f"FAIL: {len(failed)} of 16 defended pairings leaked more than the policy allows.")
    top = max(failed, key=lambda p: p["leakage"]["value"] / p["endpoints"][0]["limit"])
    assert f"The furthest above its limit: {top['attack']} against {top['protocol']} with {top['defense']}, leakage" in sentence
    assert sentence.endswith("36 patients).")


def test_without_any_defended_pairing_there_is_no_verdict(factory):
    assert factory.make_report(1).sentences.verdict == "REVIEW: no verdict. No defended pairing was evaluated."


def test_of_many_endpoints_the_worst_of_each_kind_is_said(plain):
    data = next(p for p in plain["pairings"] if (p["protocol"], p["defense"], p["attack"]) == PLACE)
    mild = copy.deepcopy(data["endpoints"][0])
    mild["name"], mild["leakage"]["value"], mild["leakage"]["ci"] = "mild", 0.02, [0.0, 0.04]
    gone = copy.deepcopy(data["endpoints"][1]) | {"name": "gone"}
    gone["leakage"] |= {"value": None, "ci": None, "reason": "no other visit", "worst": None, "per_patient": [], "quantiles": None}
    data["endpoints"] = [mild, gone, *data["endpoints"]]
    report = made(plain)
    assert [e.name for e in worst_of_each_kind(pairing(report))] == ["masked-ssim", "rank-1"]
    assert not any(s.startswith("mild") for s in pairing(report).sentences)


def test_a_missing_number_says_why(plain):
    data = next(p for p in plain["pairings"] if (p["protocol"], p["defense"], p["attack"]) == PLACE)
    data["endpoints"] = data["endpoints"][:1]
    nothing = {"value": None, "ci": None, "reason": "chance is too close.", "worst": None, "per_patient": [], "quantiles": None}
    data["endpoints"][0]["leakage"] |= nothing | {"above": None}
    assert "masked-ssim: no value, because chance is too close." in pairing(made(plain)).sentences


def test_a_guarantee_never_covers_other_channels_or_larger_units(report):
    baseline = next(b for b in report.baselines if b.guarantee and b.protocol == "split")
    lines = statement.not_covered(baseline.guarantee, [t for t in report.traffic if t.protocol == "split"])
    assert [line.split(" (")[0] for line in lines[:-1]] == ["channel activation", "channel cut-gradient", "channel label"]
    assert lines[-1] == "as a unit: a whole hospital"
    unknown = statement.not_covered(baseline.guarantee, [])
    assert unknown[0].startswith("any other channel (no traffic is recorded")


@pytest.mark.parametrize(("word", "side"), [("REFUTED", "against"), ("NOT REFUTED", "for"), ("UNTESTABLE", "against")])
def test_tested_claims_are_evidence(plain, word, side):
    for p in plain["pairings"]:
        if p["claim"]:
            p["claim"] |= {"word": word, "lower_bound": 3.4 if word == "REFUTED" else 0.1}
    sentences = made(plain).sentences
    both = {"for": sentences.for_release, "against": sentences.against_release}
    found = [line for line in both.pop(side) if f"is {word} by membership-loss" in line]
    assert len(found) == 2
    assert statement.CLAIM_WORDS[word] in found[0]
    assert not any(f"is {word} by" in line for lines in both.values() for line in lines)


def test_evidence_for_release_needs_both_words(plain):
    for b in plain["baselines"]:
        b["status"], b["utility"]["status"] = ("PASS", "PASS") if b["defense"] == "dropout" else ("PASS", "REVIEW")
    sentences = made(plain).sentences
    lines = [line for line in sentences.for_release if "privacy PASS, utility PASS" in line]
    assert [line.split(":")[0] for line in lines] == ["split with dropout", "federated with dropout"]
    assert "n = 40" in lines[0]
    assert "against no defense (" in lines[0]
    assert any("split with dp-sgd: privacy PASS, utility REVIEW" in line for line in sentences.against_release)


def test_the_front_repeats_nothing_and_names_the_first_gaps(plain):
    tried = "split: 4 defenses were tried; limits were tightened accordingly."
    plain["verdict"]["reasons"] = [tried, "Any of 3 must be acceptable."]
    gap = plain["not_attacked"][0]
    plain["not_attacked"] = [gap | {"family": "membership", "defenses": [f"d{i}"]} for i in range(11)]
    page = render_html(made(plain))
    front = page[page.index('id="verdict"') : page.index("<nav")]
    assert front.count("limits were tightened accordingly") == 1
    assert "Any of 3 must be acceptable." in front
    assert front.count("label in split, membership attacks with d") == 8
    assert "3 more under Coverage" in front
