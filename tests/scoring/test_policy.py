from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from leakaudit.scoring.policy import Policy, Threshold
from leakaudit.threats import CHANNELS


def test_defaults_are_the_conventions_and_each_has_owner_and_reason():
    thresholds = Policy().thresholds()
    assert {name: t.value for name, t in thresholds.items()} == {
        "leakage_max": 0.10, "membership_max": 0.20, "patient_max": 0.30, "tail_share": 0.10, "tail_fail": 0.05,
        "control_factor": 3, "min_patients": 36, "min_repeats": 3, "dice_margin": 0.05,
    }  # fmt: skip
    assert all(t.owner == "leakaudit default" and len(t.reason) > 20 for t in thresholds.values())
    assert set(Policy().required) == set(CHANNELS)


def test_a_bare_number_is_a_threshold_of_the_recipe():
    policy = Policy.model_validate({"leakage_max": 0.05, "min_patients": {"value": 50, "owner": "DPO", "reason": "caution"}})
    assert policy.leakage_max == Threshold(value=0.05, owner="this recipe", reason="not stated")
    assert policy.min_patients.owner == "DPO"
    assert Policy.model_validate(policy.model_dump()) == policy


@pytest.mark.parametrize(
    "data",
    [
        {"leakage_max": 0}, {"leakage_max": 1.0}, {"min_repeats": -1}, {"leakage_max": float("nan")}, {"leakage_max": True},
        {"leakage_maximum": 0.1}, {"required": {"wire": ["label"]}}, {"required": {"label": ["theft"]}}, {"fail_on": "always"},
        {"require": "most"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(data):
    with pytest.raises(ValidationError):
        Policy.model_validate(data)


def test_reading_a_policy_loads_nothing_heavy():
    code = "import sys, leakaudit.scoring.policy; sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'skimage')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scoring_never_loads_torch():
    code = (
        "import importlib, sys, leakaudit.scoring as s\n"
        "for name in s.__all__: importlib.import_module('leakaudit.scoring.' + name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
