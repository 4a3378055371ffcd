"""The benchmark of `imprint` on the default federated protocol, on a few phantoms."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(name="script")
def _script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("imprint_real")


@pytest.mark.parametrize("epochs", [1, 2], ids=["one step", "two steps"])
def test_a_site_s_images_are_found_and_the_next_site_s_are_not(script: Any, epochs: int) -> None:
    cohort, ranges, sites = script._scene(script._asked(["--sites", "2", "--slices", "3", "--own", "12"]))
    rows = script.attacked(cohort, ranges, sites, epochs, 0, script.ImprintParams())
    assert rows.patients == cohort.patients[:6]
    assert (rows.found > 0.9).sum() >= 5
    assert rows.exchanged.max() < 0.6
    assert np.mean(rows.baselines["mean"]) < 0.5


def test_the_summary_averages_slices_within_a_patient(script: Any) -> None:
    found, none = np.array([1.0, 0.5, 0.5, 1.0, 0.75, 0.75]), np.zeros(6)
    rows = script.Rows(patients=tuple("aabbcc"), found=found, exchanged=none, baselines={"mean": none, "medoid": none - 1})
    words = script.summary([rows])
    assert "3 patients, 6 slices, SSIM 0.750 (least 0.500, 2 above .9), chance 0.000 (mean)" in words
    # All three patients have .75: no spread.
    assert "leakage 0.750 (0.750 to 0.750), of exchanged updates 0.000 (0.000 to 0.000)" in words
