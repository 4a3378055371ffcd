from __future__ import annotations

from pathlib import Path

import pytest

from leakaudit.errors import UserError
from leakaudit.recipes import library


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    text = "# yaml-language-server: $schema=x\n# A first audit.\n#\n# Takes a minute.\nversion: 1\n# not this\n"
    (folder / "first.yaml").write_text(text)
    monkeypatch.setattr(library, "library_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_library_of_a_checkout_is_the_folder_at_its_root() -> None:
    assert library.library_folder().name in ("recipes", "library")
    assert library.library_folder().is_dir()


def test_description_is_the_leading_comment(folder: Path) -> None:
    (recipe,) = library.packaged_recipes()
    assert recipe.name == "first"
    assert recipe.description == "A first audit.\n\nTakes a minute."
    assert recipe.summary == "A first audit."
    with pytest.raises(UserError, match="Did you mean 'first'"):
        library.find_recipe("frist")


def test_copy_never_overwrites_by_accident(folder: Path, tmp_path: Path) -> None:
    path = library.copy_recipe("first")
    assert path.read_text() == (folder / "first.yaml").read_text()
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already; choose another name or add --force"):
        library.copy_recipe("first")
    library.copy_recipe("first", force=True)
    assert path.read_text() != "mine"
    (tmp_path / "sub").mkdir()
    assert library.copy_recipe("first.yaml", Path("sub")) == Path("sub/first.yaml")
    with pytest.raises(UserError, match="there is no folder nowhere"):
        library.copy_recipe("first", Path("nowhere/a.yaml"))
