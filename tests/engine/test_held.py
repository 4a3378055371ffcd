"""What an adversary's seats hold of the targets, as a plan tells the scorer."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakaudit.engine.planner import make_plan
from leakaudit.recipes.loading import load_recipe

RECIPE = """
version: 1
name: held
data:
  use: phantom
  params: {patients: 40, size: 16, sites: 2}
  split: {members: 16, validation: 4, test: 4, non_members: 8, auxiliary: 4, attacked: 8}
"""
PLACES = {
    "site": "protocols: [federated]\nattacks: [{use: membership-loss, params: {position: site}}]\n",
    "client": "protocols: [{use: split, params: {clients: [[flair], [t1]]}}]\n"
    "attacks: [{use: gradient-inversion, params: {position: 'client:client-0'}}]\n",
}


@pytest.mark.parametrize(("place", "held"), [("site", []), ("client", ["flair"])])
def test_a_client_holds_other_images_of_the_targets_and_a_site_none(place: str, held: list[str], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + PLACES[place])
    scores = [job.spec for job in make_plan(load_recipe(path)).jobs if job.kind == "score"]
    assert scores
    assert all(spec["held"] == held for spec in scores)
