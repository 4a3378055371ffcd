"""The example policies that come with the recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from leakaudit.recipes.library import library_folder, packaged_recipes
from leakaudit.recipes.reading import read_document
from leakaudit.scoring.policy import Policy

POLICIES = library_folder() / "policies"


def test_the_default_policy_file_is_the_default() -> None:
    assert Policy.model_validate(read_document(POLICIES / "default.yaml").data) == Policy()


@pytest.mark.parametrize("name", ["default", "strict"])
def test_every_threshold_states_value_owner_and_reason(name: str) -> None:
    stated = read_document(POLICIES / f"{name}.yaml").data
    assert set(stated) == set(Policy.model_fields)
    for threshold in Policy().thresholds():
        assert set(stated[threshold]) == {"value", "owner", "reason"}


def test_a_recipe_names_the_strict_policy_by_a_relative_path(load: Any, tmp_path: Path) -> None:
    shutil.copytree(POLICIES, tmp_path / "policies")
    policy = load("policy: policies/strict.yaml\n").policy
    limits = {name: threshold.value for name, threshold in policy.thresholds().items()}
    changed = {name: value for name, value in limits.items() if value != Policy().thresholds()[name].value}
    assert changed == {"leakage_max": 0.05, "membership_max": 0.10, "patient_max": 0.20, "min_repeats": 5}
    assert policy.fail_on == "review"


def test_policies_are_not_listed_as_recipes() -> None:
    assert {recipe.path.parent for recipe in packaged_recipes()} == {library_folder()}
