"""What a report must not say: identifiers in any spelling, arrays, pseudonyms that could be undone, numbers of too few."""

from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
import zlib

import pytest

from leakaudit.errors import UserError
from leakaudit.report.cells import coarse, suppress
from leakaudit.report.csv import csv_text
from leakaudit.report.files import write_report
from leakaudit.report.images import check_png, encode_png, marked
from leakaudit.report.junit import junit_xml
from leakaudit.report.model import Report
from leakaudit.report.privacy import IDENTIFIER, Identifiers, every_text, pseudonym, sanitize
from leakaudit.report.render import render_html
from leakaudit.report.words import with_sentences

KEYS = ("Abiodun, Olga (1940)", "Müller-Lüdenscheidt Jürgen", "DOE-77", "BraTS-GLI-00421", "7", "JD")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("UserError: Ward 7/Abiodun, Olga (1940)/2019-03-12/t1.nii.gz has 80 NaN voxels (t1).",
         "UserError: <file> has 80 NaN voxels (t1)."),
        ("scan of DOE^JANE^^Mrs at /mnt/pacs/Ward 9 East/Doe Jane/flair.nii.gz fails",
         "scan of <name> at <path> fails"),
        ("cannot open '/srv/x y/z a' or \"C:\\scans a\\b\\x.dcm\"", "cannot open '<path>' or \"<path>\""),
        ("abiodun_OLGA-1940_t1 and mu\u0308ller lu\u0308denscheidt ju\u0308rgen", f"{IDENTIFIER}_t1 and {IDENTIFIER}"),
        ("a%20M%C3%BCller-L%C3%BCdenscheidt%20J%C3%BCrgen", f"a {IDENTIFIER}"),
        ("born 1940-05-04 or 4.5.1940", "born <date> or <date>"),
        (f"as {base64.b64encode(b'Abiodun, Olga 1940 0815').decode()} says", "as <code> says"),
        ("values 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 end", "values <values> end"),
        ("values 1,2,3,4,5,6,7,8,9,10 end", "values <values> end"),
        ("BraTS-GLI-00421-001-t2f is odd", f"{IDENTIFIER}-001-t2f is odd"),
    ],
)  # fmt: skip
def test_identifiers_go_in_any_spelling(text: str, clean: str) -> None:
    assert sanitize(text, known=KEYS) == clean


@pytest.mark.parametrize(
    "text",
    [
        "The attack returned 3 of 36 images with shape (64, 48); expected (64, 64) and/or masks at level0 (0.25 s).",
        "It needs train split/noise-0.5, which ended with timeout", "Rename it to end with .nii.gz", "fedavg / none / toy-v1.0",
        "interval 0.1 to 0.2, 3 of 5, 4 of 6, 7 of 9", "membership-inference-from-calibrated-losses", "5 % of 10 and/or 3/4",
        "RuntimeError (attackrun.py:33 in perform)", "3 modalities, 7 patients, level 7, JD",
    ],
)  # fmt: skip
def test_plain_words_stay(text: str) -> None:
    assert sanitize(text, known=KEYS) == text


def test_short_keys_go_only_where_they_cannot_be_numbers_of_something_else() -> None:
    """A patient called `7` must not take every 7 out of a report, but out of a message about patients."""
    assert sanitize("Patients 7 and JD have identical images", known=KEYS, thorough=True) == (
        f"Patients {IDENTIFIER} and {IDENTIFIER} have identical images"
    )


def test_long_texts_end_and_hostile_ones_take_no_time() -> None:
    assert len(sanitize("word " * 10_000)) <= 400
    for text in ("a" * 200_000, "/a " * 60_000, "1 " * 100_000, "x.nii" * 40_000, "[" * 100_000, "'" * 50_000):
        assert len(sanitize(text, known=KEYS)) <= 400


def test_a_hospital_gets_the_name_that_stands_for_it() -> None:
    names = Identifiers({"St. Wendelin": "site-1", "Kai": "site-2"})
    assert names.replacement("Kai") == "site-2"
    assert names.replacement("Kairo") == "Kairo"
    assert names.remove("update of ST_WENDELIN, by Kai") == "update of site-1, by Kai"
    assert names.remove("update of Kai", thorough=True) == "update of site-2"
    assert names.occur_in("noise-st-wendelin")
    assert not names.occur_in("noise")


def test_every_text_of_a_report_is_reached_and_nothing_else(report: Report) -> None:
    changed = every_text(report, lambda text: f"X{text}")
    assert Report.model_validate(changed.model_dump()) == changed, "it is still a report"
    before, after = report.pairings[0], changed.pairings[0]
    assert after.attack == f"X{before.attack}"
    assert after.threat.words == f"X{before.threat.words}"
    assert after.endpoints[0].name == f"X{before.endpoints[0].name}"
    assert changed.limitations == [f"X{line}" for line in report.limitations]
    assert after.status == before.status
    assert after.endpoints[0].channel == before.endpoints[0].channel
    assert [p.patient for e in after.endpoints for p in e.leakage.per_patient] == [
        p.patient for e in before.endpoints for p in e.leakage.per_patient
    ]
    assert changed.recipe.sha256 == report.recipe.sha256
    assert [t.original for p in changed.pairings for t in p.images] == [t.original for p in report.pairings for t in p.images]


# Pseudonyms ---------------------------------------------------------------------------------------------------------------


def test_a_pseudonym_tells_nothing_without_the_salt() -> None:
    """Whoever knows all keys, but not the salt, is where a guess leaves him."""
    keys = [f"BraTS-GLI-{i:05d}" for i in range(2000)]
    names = [pseudonym(b"s" * 32, key) for key in keys]
    assert all(re.fullmatch("P-[0-9a-f]{8}", name) for name in names)
    assert len(set(names)) == len(keys)
    guesses = {pseudonym(bytes(31) + bytes([i]), key) for i in range(3) for key in keys}
    assert len(guesses & set(names)) <= 1
    assert not {zlib.crc32(key.encode()) for key in keys} & {int(name[2:], 16) for name in names}


# Small cells --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("T1 ends short of the brain in 1 patient", "T1 ends short of the brain in fewer than 5 patients"),
        ("evidence on 1 of 3 patients", "evidence on some of fewer than 5 patients"),
        ("left out for want of a mask: 2 of 34 cases", "left out for want of a mask: fewer than 5 of 34 cases"),
        ("clipped in 33 of 34 patients", "clipped in all but fewer than 5 of 34 patients"),
        ("3 attacked patients; PASS needs 36.", "fewer than 5 attacked patients; PASS needs 36."),
        ("One test patient: no interval.", "Fewer than 5 test patients: no interval."),
        ("12 patients, 3 trainings, 4 defenses, level 2", "12 patients, 3 trainings, 4 defenses, level 2"),
        ("0 patients and 5 members", "0 patients and 5 members"),
        ("3 trainings, 20 patients", "3 trainings, 20 patients"),
        ("Any of 2 candidates must be acceptable", "Any of 2 candidates must be acceptable"),
        ("3 patients give values only; no interval can be trusted below 5.",
         "fewer than 5 patients give values only; no interval can be trusted below 5."),
    ],
)  # fmt: skip
def test_counts_of_few_are_said_in_words(text: str, clean: str) -> None:
    assert coarse(text, 5) == clean


def private(factory, attacked: int, **patients: int) -> Report:
    """Return a report of real patients with numbers that a reader could recognize."""
    data = factory.make_dict(20, images=False, synthetic=False)
    data["data"]["patients"] |= {"members": 40, "non_members": 36, "validation": 20, "test": 20, "auxiliary": 20} | patients
    data["limitations"] = [f"{attacked} attacked patients; PASS needs 36. Even if none of {attacked} leaked, up to 63% of such "
                           "patients might.", "negative intensities were clipped in 2 patients"]  # fmt: skip
    for i, pairing in enumerate(data["pairings"]):
        pairing["images"] = []
        for endpoint in pairing["endpoints"]:
            leakage = endpoint["leakage"]
            leakage |= {
                "patients": attacked,
                "value": 0.71717,
                "ci": [0.61616, 0.81818],
                "per_patient": leakage.get("per_patient", [])[:attacked],
            }
            leakage["scope"] = f"this trained model, {attacked} patients"
            if leakage.get("worst"):
                leakage["worst"] |= {"value": 0.91919}
            for raw in endpoint["raw"].values():
                raw |= {"value": 0.51515, "n": attacked, "reason": None}
        for control in ("positive", "negative", "planted"):
            found = pairing["controls"].get(control)
            if found:
                pairing["controls"][control] = found | {"value": 0.41414, "ci": None, "n": attacked}
        if pairing["leakage"] and pairing["endpoints"]:
            pairing["leakage"] |= {"value": 0.71717, "ci": [0.61616, 0.81818]}
        pairing["reasons"] = pairing["reasons"] and [
            *pairing["reasons"],
            f"fidelity: 1 of {attacked} patients are above 0.3. Mean 0.71717; worst of {attacked} was 0.91919.",
        ]  # fmt: skip
        pairing["sabotage"] = 0.94949 if i == 0 else None
    for baseline in data["baselines"]:
        utility = baseline["utility"]
        utility |= {"dice": {"WT": 0.93939, "TC": 0.94949, "ET": 0.95959, "mean": 0.96969}, "ci": [0.88888, 0.97979]}
        utility |= {"hd95": {"WT": 93.939, "TC": 94.949, "ET": 95.959}, "n": data["data"]["patients"]["test"]}
        if baseline.get("strongest"):
            baseline["strongest"] |= {"value": 0.71717, "ci": [0.61616, 0.81818]}
        baseline["by_kind"] = [b | {"value": 0.71717, "ci": [0.61616, 0.81818]} for b in baseline.get("by_kind", [])]
    data["comparisons"] = data["equal_utility"] = []
    return Report.model_validate(data)


def everything_written(report: Report) -> str:
    report = with_sentences(report)
    return "".join((report.model_dump_json(), render_html(report), csv_text(report), junit_xml(report)))


LEAKAGE_OF_FEW = ("71717", "61616", "81818", "91919", "51515", "41414", "0.72", "0.92", "such patients", "such\u00a0patients")
DICE_OF_FEW = ("93939", "94949", "95959", "96969", "88888", "97979", "93.9", "94.9", "0.939", "0.949", "0.960", "0.970")


def test_leakage_of_too_few_is_in_no_output(factory) -> None:
    shown = everything_written(private(factory, 3))
    assert all(number in shown for number in LEAKAGE_OF_FEW[:6]), "otherwise the search proves nothing"
    few = suppress(private(factory, 3), 5, {})
    hidden = everything_written(few)
    assert [number for number in LEAKAGE_OF_FEW if number in hidden] == []
    assert "fewer than 5" in hidden
    assert Report.model_validate_json(few.model_dump_json()) == few
    assert [p.status for p in few.pairings] == [p.status for p in private(factory, 3).pairings]
    assert all(p.reasons for p in few.pairings if p.status in ("FAIL", "REVIEW", "ERROR", "N/A"))
    assert few.data.min_cell == 5
    assert "negative intensities were clipped in fewer than 5 patients" in few.limitations
    assert any(n in hidden for n in DICE_OF_FEW), "20 test patients are not too few"


def test_dice_of_too_few_is_in_no_output(factory) -> None:
    few = suppress(private(factory, 36, test=4), 5, {})
    hidden = everything_written(few)
    assert [number for number in DICE_OF_FEW if number in hidden] == []
    assert few.data.patients.test == "fewer than 5"
    assert few.data.patients.members == 40
    assert "71717" in hidden, "36 attacked patients are not too few"


def test_a_region_that_few_have_cannot_be_computed_from_the_others(factory) -> None:
    support = {(b.protocol, b.defense): {"WT": 20, "TC": 12, "ET": 2} for b in private(factory, 36).baselines}
    for baseline in suppress(private(factory, 36), 5, support).baselines:
        assert baseline.utility.dice == {"WT": 0.93939, "TC": None, "ET": None, "mean": 0.96969}
        assert baseline.utility.hd95 == {"WT": 93.939, "TC": 94.949, "ET": None}


def test_membership_needs_enough_on_both_sides(factory) -> None:
    few = suppress(private(factory, 36, non_members=4), 5, {})
    kinds = {e.kind: e.leakage.value for p in few.pairings for e in p.endpoints}
    assert kinds["membership"] is None
    assert kinds["fidelity"] == 0.71717


def test_enough_patients_or_a_minimum_of_one_leave_every_number(factory) -> None:
    report = private(factory, 3, test=2)
    assert suppress(report, 1, {}) == report
    enough = suppress(private(factory, 36), 5, {})
    assert [e.leakage.value for p in enough.pairings for e in p.endpoints] == [
        e.leakage.value for p in private(factory, 36).pairings for e in p.endpoints
    ]
    assert enough.data.patients == private(factory, 36).data.patients


# Images -------------------------------------------------------------------------------------------------------------------


def pixels(png: str) -> list[list[int]]:
    """Decode what `encode_png` wrote (filter 1, 8 bits)."""
    data = base64.b64decode(png)
    width, height = struct.unpack(">II", data[16:24])
    at, body = 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body += data[at + 8 : at + 8 + length] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    raw, rows = zlib.decompress(body), []
    for j in range(height):
        line = raw[j * (width + 1) + 1 : (j + 1) * (width + 1)]
        row, last = [], 0
        for value in line:
            last = (last + value) % 256
            row.append(last)
        rows.append(row)
    return rows


def test_images_of_patients_warn_in_their_own_pixels() -> None:
    for size in (8, 64, 128):
        image = [[0.5] * size for _ in range(size)]
        png = encode_png(marked(image))
        check_png(png)
        rows = pixels(png)
        assert all(row[:size] == [128] * size for row in rows[:size]), "the image itself is untouched"
        strip = rows[size:]
        assert {value for row in strip for value in row} == {0, 255}
        assert sum(value == 255 for row in strip for value in row) > 150
    wide = pixels(encode_png(marked([[0.0] * 128])))
    letters = ["".join("#" if v else "." for v in row[1:12]) for row in wide[2:7]]
    assert letters == ["###.###.##.", "#...#.#.#.#", "#...#.#.#.#", "#...#.#.#.#", "###.###.#.#"], "it begins with CON"


def test_a_restricted_folder_that_is_a_link_is_refused(factory, tmp_path) -> None:
    report = Report.model_validate(factory.make_dict(1, synthetic=False) | {"contains_patient_images": True})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "restricted").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        write_report(report, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("pdftotext")), reason="needs chromium and pdftotext")
def test_every_printed_page_says_that_it_shows_patients(factory, tmp_path) -> None:
    report = Report.model_validate(factory.make_dict(6, synthetic=False) | {"contains_patient_images": True})
    page, sheet = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(render_html(report, restricted=True))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    subprocess.run([*command, f"--print-to-pdf={sheet}", page.as_uri()], check=True, capture_output=True, timeout=120)
    pages = subprocess.run(["pdftotext", sheet, "-"], check=True, capture_output=True, text=True, timeout=60).stdout.split("\f")[
        :-1
    ]
    assert len(pages) > 3
    assert all("CONTAINS PATIENT IMAGES" in text for text in pages)
