from __future__ import annotations

import time
from pathlib import Path

import pytest

from leakaudit.errors import UserError
from leakaudit.recipes.reading import parse_document, parse_value, read_document


def test_scalars_follow_yaml_1_2() -> None:
    text = "a: 1e-3\nb: no\nc: 12:30\nd: 2020-01-01\ne: 0x10\nf: '7'\ng: -3\nh: .5\ni: true\nj:\nk: none\nl: .nan\n"
    assert parse_document(text, "x").data == {
        "a": 1e-3, "b": "no", "c": "12:30", "d": "2020-01-01", "e": "0x10", "f": "7", "g": -3, "h": 0.5, "i": True,
        "j": None, "k": "none", "l": ".nan",
    }  # fmt: skip


def test_lines_of_keys_and_items() -> None:
    document = parse_document("version: 1\nattacks:\n  - use: a\n    params:\n      n: 3\n  - b\n", "r.yaml")
    assert document.where(("attacks", 0, "params", "n")) == "r.yaml:5"
    assert document.where(("attacks", 1)) == "r.yaml:6"
    assert document.where(("attacks", 1, "params", "missing")) == "r.yaml:6"
    assert document.where(("nothing",)) == "r.yaml:1"


def test_aliases_are_copied() -> None:
    data = parse_document("a: &x {n: [1, 2]}\nb: *x\n", "r").data
    assert data["b"] == {"n": [1, 2]}
    assert data["b"] is not data["a"]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
LADDER = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: !!python/object/apply:os.system ['true']", "r:1: the tag '!!python/object/apply:os.system' is not allowed"),
        ("a: 1\nb: !secret x", "r:2: the tag '!secret' is not allowed: a recipe is data"),
        ("!!map {a: 1}", "r:1: the tag '!!map'"),
        (BOMB, "more than 20,000 values"),
        (LADDER, "nested more than 40 levels"),
        ("a: &a [*a]", "the alias *a refers to nothing that is complete"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "r:3: merge keys"),
        ("? [a, b]\n: 1\n", "r:1: a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "r:2: a second document"),
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("- a\n- b\n", "expected a mapping ('key: value' lines), got a list"),
        ("just words", "got a single value"),
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("a:\n\t- 1\n", "r:2: not valid YAML"),
        ("a: \x07", "not valid YAML"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_document(text, "r")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_nesting_below_the_size_limit_is_refused_at_once(tmp_path: Path, pair: str) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(f"a: {pair[0] * 400_000}{pair[1] * 400_000}")
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"nested more than 40 levels deep|must be a plain word"):
        read_document(path)
    assert time.perf_counter() - start < 1.0


def test_ten_megabytes_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("[" * 5_000_000 + "]" * 5_000_000)
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"huge\.yaml: larger than 1 MB"):
        read_document(path)
    assert time.perf_counter() - start < 1.0


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: 1")
    with pytest.raises(UserError, match=r"there is no such file. Did you mean 'recipe.yaml'"):
        read_document(tmp_path / "recipes.yaml")
    with pytest.raises(UserError, match="there is no such file"):
        read_document(tmp_path / "no" / "recipes.yaml")
    with pytest.raises(UserError, match="this is a folder"):
        read_document(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml:2: not UTF-8"):
        read_document(tmp_path / "latin.yaml")


def test_values_of_overrides() -> None:
    assert parse_value("[1, {a: x}]", "--set") == [1, {"a": "x"}]
    assert parse_value("", "--set") is None
    with pytest.raises(UserError, match="already stands in line 1"):
        parse_value("{a: 1, a: 2}", "--set")
