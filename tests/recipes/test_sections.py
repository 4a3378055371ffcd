"""Sections of the report in a recipe: bare names, parameters, round trip, schema, errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.recipes.loading import load_recipe
from leakaudit.recipes.schema import recipe_schema

PLUGIN = """
    from pydantic import Field
    from leakaudit.plugins import Params, SectionInfo, hookimpl

    class Listing(Params):
        most: int = Field(default=3, ge=1, description="How many.")

    @hookimpl
    def leakaudit_report_sections():
        yield SectionInfo(
            name="listing", summary="Lists something.", params=Listing, target="leakaudit_listing.writer:Writer", api_version="1.0"
        )
"""
RECIPE = """\
version: 1
name: toy
data: toy-data
protocols: [toy-split]
run: {executor: toy-executor}
report: {sections: %s}
"""


@pytest.fixture
def load(toys: Site, tmp_path: Path):
    toys.install("leakaudit-listing", {"plugin.py": PLUGIN})

    def loads(sections: str):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE % sections)
        return load_recipe(path, manager=toys.discover())

    return loads


def test_bare_names_and_entries_are_resolved_in_order(load):
    recipe = load("[listing, {use: listing, name: long-list, params: {most: 40}}]")
    assert [(c.label, c.params.most) for c in recipe.sections] == [("listing", 3), ("long-list", 40)]
    assert {c.plugin.distribution for c in recipe.sections} == {"leakaudit-listing"}
    assert [c.label for c in recipe.choices[-2:]] == ["listing", "long-list"]


def test_the_resolved_recipe_loads_to_itself(load, toys, tmp_path):
    recipe = load("[listing]")
    assert recipe.document["report"]["sections"] == [{"use": "listing", "params": {"most": 3}, "name": "listing"}]
    recipe.write(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml", manager=toys.discover()).sha256 == recipe.sha256
    assert load("[]").sections == ()


@pytest.mark.parametrize(
    ("sections", "place"),
    [("[listing, lisitng]", "report.sections.1.use"), ("[{use: listing, params: {most: 0}}]", "report.sections.0.params.most")],
)
def test_errors_name_their_place(load, sections, place):
    with pytest.raises(UserError, match=place):
        load(sections)


def test_the_schema_knows_installed_sections(load, toys):
    load("[]")
    schema = recipe_schema(toys.discover())
    items = schema["definitions"]["recipe.ReportSettings"]["properties"]["sections"]["items"]["oneOf"]
    assert items[0] == {"type": "string", "enum": ["listing"]}
    assert items[1]["properties"]["params"]["$ref"].endswith("section.leakaudit-listing.listing")
