"""No identifier leaves an audit: cohorts with planted names, foreign code that shouts them, and every output searched."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from leakaudit.cli import app
from leakaudit.engine.owners import _host, owned_name

from . import hospital
from .conftest import TOYS, Machine, attack
from .hospital import Planted, as_recipe, everything, hits
from .toys.leakaudit_leaky import words as foreign

NET = {"network": {"channels": [4, 8]}, "training": {"batch_size": 4}}
SPLIT = {"use": "split", "params": {"rounds": 1, "cut": 0, "clients": [["flair"], ["t1"]], **NET}}
FEDERATED = {"use": "federated", "params": {"rounds": 1, **NET}}
FOLDER = {"pattern": "{site}/{patient}/{visit}/{modality}", "labels": {1: 1, 2: 2, 3: 3}}
INVERSION = {"use": "model-inversion", "params": {"iterations": 5, "clients": ["client-1"]}}
VISITS = "(?P<patient>.+)_v(?P<visit>[0-9]+)"
LOUD = ("raises", "array", "lines", "chain", "prints", "requires", "rides", "play-raises")

SHAREABLE = {"report.json", "report.html", "report.junit.xml", "report.csv"}
CLEAN = {*SHAREABLE, "run.log", ".gitignore", "store/run.json", "store/.gitignore"}
"""Files of a run folder that hold no identifier. The rest is in the store, or says what the recipe said."""


def recipe(name: str, data: dict[str, Any], split: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    whole = {"version": 1, "name": name, "seed": 5, "data": data, "protocols": [SPLIT], "run": {"workers": 2, "device": "cpu"}}
    return {**whole, "data": {**data, "split": split or data["split"]}, **more}


@dataclass
class Told:
    """Everything that an audit told: its folder, and what each verb printed."""

    planted: Planted
    folder: Path
    said: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> set[str]:
        return {*self.planted.words, *foreign.ALL, str(self.planted.root), str(self.folder.parent)}

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "report.json").read_text()))

    def pairing(self, attack: str, defense: str = "none") -> dict[str, Any]:
        return dict(next(p for p in self.report["pairings"] if (p["attack"], p["defense"]) == (attack, defense)))


def call(*arguments: str | Path) -> tuple[int, str]:
    """Run a verb in this process; returns its exit code and all that it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("loud"))
    machine.install("leakaudit_leaky", TOYS / "leakaudit_leaky")
    machine.allowed += ["leakaudit-leaky", "leakaudit-membership", "leakaudit-dp"]
    return machine


Verb = Callable[..., tuple[int, dict[str, str]]]
"""Runs a verb of the command line; returns its exit code and what it said where."""


def in_process(planted: Planted) -> Verb:
    def run(*arguments: str | Path) -> tuple[int, dict[str, str]]:
        result = CliRunner(env={"PLANTED_ROOT": str(planted.root)}).invoke(app, [str(a) for a in arguments])
        return result.exit_code, {"stdout": result.stdout, "stderr": result.stderr}

    return run


def in_subprocess(machine: Machine, planted: Planted) -> Verb:
    def run(*arguments: str | Path) -> tuple[int, dict[str, str]]:
        done = subprocess.run(
            [sys.executable, "-m", "leakaudit.cli", *map(str, arguments)], capture_output=True, text=True, timeout=280,
            env={**machine.environment, "PLANTED_ROOT": str(planted.root)},
        )  # fmt: skip
        return done.returncode, {"stdout": done.stdout, "stderr": done.stderr}

    return run


def told(machine: Machine, planted: Planted, document: dict[str, Any], *, toys: bool) -> Told:
    """Run an audit and every verb that speaks of it, in `machine.root`, so that no path is in what was asked for."""
    name = document["name"]
    path = machine.write(document).relative_to(machine.root)
    audit = Told(planted, machine.root / name)
    inside = in_process(planted)
    outside = in_subprocess(machine, planted) if toys else inside
    every = [part for form in ("html", "json", "junit", "csv") for part in ("--format", form)]
    verbs: list[tuple[Verb, tuple[str | Path, ...]]] = [
        (inside if not toys else outside, ("validate", path)), (outside, ("plan", path, "--json")),
        (outside, ("run", path, "--out", name, "--fail-on", "never")), (inside, ("report", name, *every)),
        (inside, ("compare", name, name)), (inside, ("compare", name, name, "--json")), (inside, ("cache", "info", name)),
        (inside, ("cache", "info", name, "--json")), (inside, ("doctor", "--out", "/")),
    ]  # fmt: skip
    before = Path.cwd()
    os.chdir(machine.root)
    try:
        for run, arguments in verbs:
            code, said = run(*arguments)
            verb = " ".join(str(a) for a in arguments if a not in (path, name))
            audit.said |= {f"{verb} ({where})": text for where, text in said.items()}
            assert code == 0, f"{verb}: {said}"
    finally:
        os.chdir(before)
    return audit


ROOTS: dict[str, tuple[Callable[[Path], Planted], str]] = {
    "brats": (lambda root: hospital.brats(root, count=23), "PACS-Export_Mooswald"),
    "nnunet": (hospital.nnunet, "Anforderung_9912_Rabental"),
    "folder": (hospital.folder, "Wendelin-transfer-3310"),
    "broken": (hospital.folder, "Wendelin-defekt-3311"),
}


def documents(kind: str, planted: Planted) -> dict[str, Any]:
    """Return the recipe of a cohort: whatever speaks, speaks in one of them."""
    named = f"image of {planted.patients[1]}"
    match kind:
        case "brats":
            talking = {"use": "leaky-defense"}
            alarmed = {"use": "leaky-defense", "name": "alarmed", "params": {"alarm": True}}
            raising = {"use": "leaky-defense", "name": "raising", "params": {"raises": True}}
            attacks = [attack("leaky-attack", how, how=how) for how in LOUD]
            attacks += [attack("toy-guess", defenses=("none", "leaky-defense", "alarmed", "raising"))]
            split = {"members": 8, "validation": 5, "test": 5, "non_members": 0, "auxiliary": 5, "attacked": 6}
            data = as_recipe("brats-2023", planted)
            more = {"defenses": [talking, alarmed, raising], "attacks": attacks, "report": {"per_patient": True}}
            return recipe(kind, data, split, **more)
        case "nnunet":
            attacks = [attack("leaky-attack", "named", how="name", called=named), attack("membership-loss")]
            attacks += [attack("toy-canary", count=8), attack("toy-guess", defenses=("none", "leaky-defense"))]
            split = {"members": 6, "validation": 3, "test": 3, "non_members": 2, "auxiliary": 2, "attacked": 3}
            data = as_recipe("nnunet-raw", planted, patient_pattern=VISITS)
            return recipe(kind, data, split, attacks=attacks, defenses=["leaky-defense"])
        case "folder":
            data = as_recipe("nifti-folder", planted, **FOLDER)
            defenses = [{"use": "dp-sgd", "params": {"noise_multiplier": 1.0, "delta": 0.001}}]
            split = {"members": 8, "validation": 2, "test": 2, "non_members": 4, "auxiliary": 2}
            attacks = [{"use": "membership-loss"}]
            return recipe(kind, data, split, protocols=[FEDERATED], defenses=defenses, attacks=attacks)
        case _:
            for path in planted.files.values():
                _spoil(path)
            return recipe(kind, as_recipe("nifti-folder", planted, **FOLDER), attacks=[INVERSION])


def _spoil(path: Path) -> None:
    """Put a NaN into the voxels, which only loading can find: inside a cell."""
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).astype(np.float32)
    voxels[12, 13, 2] = np.nan
    spoiled = nib.Nifti1Image(voxels, image.affine, image.header)
    spoiled.set_data_dtype(np.float32)
    nib.save(spoiled, path)


@pytest.fixture(scope="module", params=list(ROOTS))
def audit(request: pytest.FixtureRequest, loud: Machine, tmp_path_factory: pytest.TempPathFactory) -> Told:
    make, root = ROOTS[request.param]
    planted = make(tmp_path_factory.mktemp("disk") / root)
    return told(loud, planted, documents(request.param, planted), toys=request.param in ("brats", "nnunet"))


def test_no_identifier_leaves_an_audit(audit: Told) -> None:
    """Neither in what is shared, nor in the log, nor in the store's index, nor on the terminal."""
    found = {verb: hits(text, audit.words) for verb, text in audit.said.items()}
    files = everything(audit.folder)
    assert set(files) >= {*SHAREABLE, "run.log"}
    for name, data in files.items():
        if not name.startswith("store/cells/"):
            found[name] = hits(name, audit.words) | (hits(data, audit.words) if name in CLEAN else set())
    assert {where: words for where, words in found.items() if words} == {}


def test_what_is_not_for_sharing_is_for_its_owner_only(audit: Told) -> None:
    rest = {name for name in everything(audit.folder) if name not in CLEAN}
    assert {name for name in rest if not name.startswith("store/cells/")} <= {
        "recipe.resolved.yaml",
        "store/salt",
        "store/private.log",
    }
    assert (audit.folder / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE((audit.folder / "store").stat().st_mode) == 0o700
    for name in ("recipe.resolved.yaml", "run.log", "store/salt", "store/private.log"):
        assert stat.S_IMODE((audit.folder / name).stat().st_mode) == 0o600, name


def test_the_store_itself_is_what_would_have_leaked(audit: Told) -> None:
    """The search finds what is there: without this, an empty search proves nothing."""
    inside = {word for name, data in everything(audit.folder / "store").items() for word in hits(data, audit.words)}
    assert len(inside) >= 3


def test_failures_have_a_place_and_no_words_of_others(audit: Told) -> None:
    errors = audit.report["errors"]
    if audit.folder.name == "brats":
        assert len(errors) >= 6
        assert any(
            re.fullmatch(r"ChildError: RuntimeError \(loud\.py:\d+ in run\) \(child\.py:\d+ in call\)", e["reason"]) for e in errors
        )
        log = (audit.folder / "store" / "private.log").read_text()
        assert foreign.NAME in log
        assert "store/private.log" in audit.said["run --out --fail-on never (stderr)"]
    if audit.folder.name == "broken":
        (error,) = [e for e in errors if e["kind"] == "cohort"]
        assert "<file> has 1 NaN or infinite voxels (flair)" in error["reason"]


def test_alarms_and_riders_keep_to_themselves(audit: Told) -> None:
    if audit.folder.name == "brats":
        (alarm,) = audit.report["alarms"]
        assert alarm["text"].startswith("leaky-detector: it stopped the training")
        assert audit.pairing("rides")["endpoints"]


def test_evidence_named_after_a_patient_is_renamed(audit: Told) -> None:
    if audit.folder.name == "nnunet":
        (endpoint,) = audit.pairing("named")["endpoints"]
        assert endpoint["name"] == "image of <identifier> fidelity"


def test_hospitals_get_neutral_names(audit: Told) -> None:
    if audit.folder.name == "folder":
        guarantee = next(b["guarantee"] for b in audit.report["baselines"] if b["defense"] == "dp-sgd")
        assert {seat for _, seat in guarantee["releases"]} - {"aggregator", "model"} == {"site-1", "site-2"}


def test_a_plan_that_says_which_hospitals_leave_gives_neutral_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = hospital.folder(tmp_path / "Wendelin-transfer-3310", count=12)
    monkeypatch.setenv("PLANTED_ROOT", str(planted.root))
    leaving = {"use": "federated", "params": FEDERATED["params"] | {"dropouts": [{"site": "Dr. Oyarzabal", "round": 0}]}}
    more = {"protocols": [leaving], "attacks": [{"use": "membership-loss"}], "defenses": [{"use": "secure-aggregation"}]}
    document = recipe("leaving", as_recipe("nifti-folder", planted, **FOLDER), QUICK, **more)
    file = tmp_path / "leaving.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    for form in ((), ("--json",)):
        code, output = call("plan", str(file), *form)
        assert code == 0, output
        assert re.search(r"1 of 2 sites can send an update \(away: 'site-1'\)", output)
        assert hits(output, planted.words) == set()


def test_patients_have_pseudonyms_of_this_run(audit: Told) -> None:
    if audit.folder.name == "brats":
        shown = [p["patient"] for e in audit.pairing("toy-guess")["endpoints"] for p in e["leakage"]["per_patient"]]
        assert len(set(shown)) == 6
        assert all(re.fullmatch("P-[0-9a-f]{8}", patient) for patient in shown)


def test_membership_names_nobody(audit: Told) -> None:
    for pairing in audit.report["pairings"]:
        if pairing["family"] == "membership":
            assert all(e["leakage"]["per_patient"] == [] for e in pairing["endpoints"])
    assert "canary-0" not in (audit.folder / "report.json").read_text()


# Small cells ------------------------------------------------------------------------------------------------------------


def scores_of(folder: Path) -> Iterable[dict[str, Any]]:
    for path in (folder / "store" / "cells").rglob("score.json"):
        yield from (endpoint for piece in json.loads(path.read_text())["evidence"] for endpoint in piece["endpoints"])


def test_nothing_rests_on_fewer_than_five_real_patients(audit: Told) -> None:
    if audit.folder.name != "nnunet":
        return
    report = audit.report
    few = "fewer than 5"
    assert report["data"]["min_cell"] == 5
    assert report["data"]["patients"] == {"members": 6, **dict.fromkeys(("validation", "test", "non_members", "auxiliary"), few)}
    for attacked in ("toy-guess", "named", "membership-loss"):
        pairing = audit.pairing(attacked)
        for endpoint in pairing["endpoints"]:
            leakage = endpoint["leakage"]
            assert (leakage["value"], leakage["ci"], leakage["worst"], leakage["per_patient"]) == (None, None, None, [])
            assert few in leakage["reason"]
            assert all(raw["value"] is None for raw in endpoint["raw"].values())
        assert pairing["leakage"]["value"] is None
    reviewed = audit.pairing("toy-guess", "leaky-defense")
    assert reviewed["status"] == "REVIEW"
    assert any("fewer than 5 patients give values only" in reason for reason in reviewed["reasons"])
    for baseline in report["baselines"]:
        assert baseline["utility"]["n"] == few
        assert set(baseline["utility"]["dice"].values()) == {None}
    # None of the true numbers is anywhere, however it is rounded.
    text = "".join((audit.folder / name).read_text() for name in sorted(SHAREABLE)).replace("\u2212", "-")
    true = [v for e in scores_of(audit.folder) if e["name"] == "fidelity" for v in (e["score"], np.mean(e["score"]).tolist())]
    flat = [abs(float(x)) for v in true for x in (v if isinstance(v, list) else [v])]
    assert len(flat) >= 8
    assert not [x for x in flat if repr(x)[:8] in text]


def test_enough_patients_are_counted(audit: Told) -> None:
    if audit.folder.name == "brats":
        report = audit.report
        assert report["data"]["patients"]["members"] == 8
        assert report["data"]["patients"]["test"] == 5
        (endpoint,) = [e for e in audit.pairing("toy-guess")["endpoints"] if e["kind"] == "fidelity"]
        assert (endpoint["leakage"]["patients"], endpoint["leakage"]["value"] is not None) == (6, True)


# Before anything runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    planted = hospital.folder(tmp_path / "Wendelin-transfer-3310", count=12)
    monkeypatch.setenv("PLANTED_ROOT", str(planted.root))
    monkeypatch.chdir(tmp_path)
    return planted


QUICK = {"members": 6, "validation": 2, "test": 2, "non_members": 0, "auxiliary": 2}


def written(name: str, planted: Planted, **more: Any) -> Path:
    document = recipe(name, as_recipe("nifti-folder", planted, **FOLDER), QUICK, attacks=[INVERSION], **more)
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def test_a_file_that_cannot_be_used_is_named_to_the_operator_alone(small: Planted) -> None:
    path = next(iter(small.files.values()))
    path.write_bytes(path.read_bytes()[:200])
    code, output = call("run", written("unusable", small), "--out", "out")
    assert code == 2
    assert f"{small.patients[0]}/2019-03-12/flair.nii.gz is damaged or cut short" in output
    assert str(small.root) not in output
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_label_that_names_a_patient_is_refused(small: Planted, verb: str) -> None:
    label = re.sub(r"[^A-Za-z0-9]+", "_", small.patients[0]).strip("_")
    code, output = call(verb, written("labels", small, defenses=[{"use": "gaussian-noise", "name": f"noise-{label}"}]))
    assert code == 2
    assert "holds the key of a patient, and a report shows it" in output


# Images -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    """A place with a private cohort and a finished audit of it, `out`, that asked for no images."""
    place = tmp_path_factory.mktemp("pictured")
    planted = hospital.folder(place / "Wendelin-transfer-3310", count=12)
    before = Path.cwd()
    os.chdir(place)
    os.environ["PLANTED_ROOT"] = str(planted.root)
    try:
        code, output = call("run", written("pictured", planted), "--out", "out", "--fail-on", "never")
        assert code == 0, output
    finally:
        os.chdir(before)
    return place, planted


@pytest.fixture
def place(pictured: tuple[Path, Planted], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLANTED_ROOT", str(pictured[1].root))
    monkeypatch.chdir(pictured[0])
    return pictured[0]


def with_images(folder: Path) -> set[str]:
    return {name for name, data in everything(folder).items() if not name.startswith("store/") and b"iVBORw0KGgo" in data}


@pytest.mark.parametrize("mode", ["none", "synthetic", "public"])
def test_private_images_are_not_shown_by_default(place: Path, mode: str) -> None:
    code, output = call("run", "pictured.yaml", "--out", "out", "--fail-on", "never", "--set", f"report.images={mode}")
    assert code == 0, output
    assert with_images(place / "out") == set()
    assert not (place / "out" / "restricted").exists()


def test_the_operator_may_insist_and_then_they_are_set_apart(place: Path, pictured: tuple[Path, Planted]) -> None:
    asked = ("run", "pictured.yaml", "--out", "insisted", "--fail-on", "never", "--set", "report.images=all")
    code, output = call(*asked)
    assert code == 2
    assert "--patient-images" in output
    code, output = call(*asked, "--patient-images")
    assert code == 0, output
    out = place / "insisted"
    assert with_images(out) == {"restricted/report.restricted.html"}
    assert stat.S_IMODE((out / "restricted").stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "restricted" / "report.restricted.html").stat().st_mode) == 0o600
    page = (out / "restricted" / "report.restricted.html").read_text()
    assert "CONTAINS PATIENT IMAGES" in page
    assert "CONTAINS PATIENT IMAGES" not in (out / "report.html").read_text()
    assert hits(page, pictured[1].words) == set()
    assert json.loads((out / "report.json").read_text())["contains_patient_images"] is False


def test_rendering_again_shows_no_image_that_the_run_did_not_show(place: Path) -> None:
    """Neither by the stored report, nor by judging again, nor by a recipe that was changed after the run."""
    out = place / "out"
    Path("lax.yaml").write_text("leakage_max: {value: 0.9, owner: a test, reason: to see a change}\n")
    every = [part for form in ("html", "json", "junit", "csv") for part in ("--format", form)]
    assert call("report", "out", *every)[0] == 0
    resolved = out / "recipe.resolved.yaml"
    before = resolved.read_text()
    try:
        resolved.write_text(before.replace("images: public", "images: all"))
        assert call("report", "out", "--policy", "lax.yaml", *every)[0] == 0
        assert with_images(out) == set()
        assert call("report", "out", "--policy", "lax.yaml", "--patient-images")[0] == 0
        assert with_images(out) == {"restricted/report.restricted.html"}
        resolved.write_text(before.replace("public: false", "public: true"))
        code, output = call("report", "out", "--policy", "lax.yaml", *every)
        assert code == 2
        assert "it declares patients public who were not" in output
        assert with_images(out) == {"restricted/report.restricted.html"}
    finally:
        resolved.write_text(before)
        shutil.rmtree(out / "restricted", ignore_errors=True)


def test_images_that_were_declared_public_are_shown_and_still_name_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = hospital.msd(tmp_path / "Luftbruecke-0815")
    monkeypatch.setenv("PLANTED_ROOT", str(planted.root))
    monkeypatch.chdir(tmp_path)
    document = recipe("public", as_recipe("msd-brain", planted, public=True), QUICK, attacks=[INVERSION])
    Path("public.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    code, output = call("run", "public.yaml", "--out", "out", "--fail-on", "never")
    assert code == 0, output
    assert with_images(tmp_path / "out") == {"report.html", "report.json"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["patients"]["test"] == 2, "numbers of public patients are not suppressed"
    assert report["data"]["min_cell"] is None
    for name in ("report.html", "report.json", "run.log"):
        assert hits((tmp_path / "out" / name).read_bytes(), planted.words) == set(), name


# Pruning ----------------------------------------------------------------------------------------------------------------


def left_by_the_dead(prefix: str) -> str:
    """Return a name as `owned_name` makes it, of a process that does not live."""
    assert re.sub(r"\d+-\d+", "", owned_name(prefix))  # the form below is that of owned_name
    return f"{prefix}.{_host()}-{2**22 + 1}-1-0123abcd"


def test_pruning_leaves_no_patient_and_a_report_that_still_renders(
    place: Path, pictured: tuple[Path, Planted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, output = call(
        "run", "pictured.yaml", "--out", "pruned", "--fail-on", "never", "--set", "report.images=all", "--patient-images"
    )
    assert code == 0, output
    out, planted = place / "pruned", pictured[1]
    (images,) = (out / "store" / "cells").rglob("cohort/images.npy")
    cohort = np.load(images)
    row = cohort[0, 0, cohort.shape[2] // 2].tobytes()
    key = "ab" * 32
    shelf = out / "store" / "cells" / "ab"
    scratch = tmp_path / "scratch"
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    leftovers = [shelf / key, shelf / left_by_the_dead(f".{key}"), scratch / left_by_the_dead("leakaudit")]
    for folder in leftovers:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "images.npy").write_bytes(row)
        (folder / "who.txt").write_text(planted.patients[0])
    apart = tmp_path / "apart"
    (apart / "cd" / ("cd" * 32)).mkdir(parents=True)
    (apart / "cd" / ("cd" * 32) / "precious.txt").write_text("not the store's")
    (out / "store" / "cells" / "cd").unlink(missing_ok=True) if (out / "store" / "cells" / "cd").is_symlink() else None
    links = [out / "store" / "cells" / "zz", shelf / ("ef" * 32), shelf / key / "link"]
    for link, target in zip(links, (apart / "cd", apart / "cd" / ("cd" * 32), apart), strict=True):
        link.symlink_to(target, target_is_directory=True)

    def holding(what: bytes) -> set[str]:
        return {name for folder in (out, scratch) for name, data in everything(folder).items() if what in data}

    def naming() -> set[str]:
        return {name for folder in (out, scratch) for name, data in everything(folder).items() if hits(data, planted.words)}

    assert len(holding(row)) >= 4
    assert len(naming()) >= 4
    shared = {name: (out / name).read_bytes() for name in ("report.json", "report.html")}
    code, output = call("cache", "prune", "pruned", "--sensitive", "--json")
    assert code == 0, output
    facts = json.loads(output)
    assert facts["freed_bytes"] > 100_000
    assert facts["in_use"] == 0
    assert holding(row) == set()
    assert naming() == set()
    assert not (out / "restricted").exists()
    assert not (out / "store" / "salt").exists(), "pseudonyms can be tied to keys as long as there is the salt"
    assert not (out / "store" / "private.log").exists()
    assert (apart / "cd" / ("cd" * 32) / "precious.txt").read_text() == "not the store's"
    assert not [path for path in (out / "store").rglob("*") if path.is_symlink()]
    assert not list(scratch.iterdir())
    # What was made to be shared stays, and renders; judging again needs what is gone, and says so.
    assert {name: (out / name).read_bytes() for name in shared} == shared
    assert call("report", "pruned", "--format", "html", "--format", "csv")[0] == 0
    assert (out / "report.html").read_bytes() == shared["report.html"]
    Path("lax.yaml").write_text("leakage_max: {value: 0.9, owner: a test, reason: to see a change}\n")
    code, output = call("report", "pruned", "--policy", "lax.yaml")
    assert code == 2
    assert "pruned" in output


def test_plain_pruning_removes_at_least_what_sensitive_pruning_does(place: Path, pictured: tuple[Path, Planted]) -> None:
    assert call("run", "pictured.yaml", "--out", "emptied", "--fail-on", "never")[0] == 0
    code, output = call("cache", "prune", "emptied", "--json")
    assert code == 0, output
    assert json.loads(output)["kept_entries"] == 0
    left = {name for name, data in everything(place / "emptied").items() if hits(data, pictured[1].words)}
    assert left == set()
    assert not (place / "emptied" / "store" / "salt").exists()


def test_a_folder_with_other_things_in_it_is_not_hidden_from_version_control(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "notes.txt").write_text("mine")
    assert call("run", "pictured.yaml", "--out", "mine", "--fail-on", "never")[0] == 0
    assert not (place / "mine" / ".gitignore").exists()
    assert (place / "mine" / "store" / ".gitignore").exists()


def test_runs_do_not_share_pseudonyms(place: Path) -> None:
    asked = ("--fail-on", "never", "--set", "report.per_patient=true")
    shown = []
    for out in ("one", "two"):
        assert call("run", "pictured.yaml", "--out", out, *asked)[0] == 0
        report = json.loads((place / out / "report.json").read_text())
        shown.append({p["patient"] for q in report["pairings"] for e in q["endpoints"] for p in e["leakage"]["per_patient"]})
    assert all(len(names) == 6 for names in shown)
    assert not shown[0] & shown[1]
