"""The recipes that come with leakaudit: starting points to copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from leakaudit.errors import UserError, nearest

__all__ = ["PackagedRecipe", "copy_recipe", "find_recipe", "library_folder", "packaged_recipes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedRecipe:
    """A recipe of the library.

    Attributes:
        name: File name without `.yaml`.
        description: The comment block at the top of the file.
        path: The file.
    """

    name: str
    description: str
    path: Path

    @property
    def summary(self) -> str:
        """First line of the description."""
        return self.description.partition("\n")[0]


def library_folder() -> Path:
    """Return the folder of packaged recipes: inside the package in a wheel, at the repository root in a checkout."""
    inside = Path(__file__).parent / "library"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "recipes"


def packaged_recipes() -> list[PackagedRecipe]:
    """Return the packaged recipes by name."""
    folder = library_folder()
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    return [PackagedRecipe(name=path.stem, description=_description(path), path=path) for path in files]


def find_recipe(name: str) -> PackagedRecipe:
    """Return a packaged recipe.

    Args:
        name: Its name, with or without `.yaml`.

    Raises:
        UserError: There is no such recipe.
    """
    recipes = {recipe.name: recipe for recipe in packaged_recipes()}
    wanted = name.removesuffix(".yaml")
    if wanted not in recipes:
        raise UserError(f"there is no packaged recipe {name!r}.{nearest(wanted, recipes)}")
    return recipes[wanted]


def copy_recipe(name: str, target: Path | None = None, *, force: bool = False) -> Path:
    """Copy a packaged recipe into a file of one's own.

    Args:
        name: Name of the packaged recipe.
        target: File or existing folder; by default `NAME.yaml` in the current folder.
        force: Overwrite an existing file.

    Returns:
        The written file.

    Raises:
        UserError: There is no such recipe, or the file exists already, or its folder does not.
    """
    recipe = find_recipe(name)
    path = target or Path(recipe.path.name)
    if path.is_dir():
        path = path / recipe.path.name
    if path.exists() and not force:
        raise UserError(f"{path} exists already; choose another name or add --force.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}.")
    shutil.copyfile(recipe.path, path)
    return path


def _description(path: Path) -> str:
    """Return the comment block at the top of a file, without the lines that are meant for editors."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        if not text.startswith(("yaml-language-server:", "$schema:")):
            lines.append(text)
    return "\n".join(lines).strip()
