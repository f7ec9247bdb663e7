"""Facts about well-known applications: the data files in recipes/, chosen by image name."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import ValidationError

from .faults import CatalogError
from .images import parse
from .spec import Recipe
from .validation import faults_of
from .yamlfile import load

FOLDER = Path(__file__).parent / "recipes"


@cache
def all_recipes() -> dict[str, Recipe]:
    """Recipe name to recipe. A broken recipe file raises CatalogError."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        source = load(path)
        try:
            found[path.stem] = Recipe.model_validate(source.data)
        except ValidationError as error:
            raise CatalogError(faults_of(error, source)) from error
    return found


@cache
def _names_by_image() -> dict[str, str]:
    return {image: name for name, recipe in all_recipes().items() for image in recipe.images}


def name_of(reference: str) -> str:
    """The name of the recipe for an image reference, "" when nobody has written one."""
    return _names_by_image().get(parse(reference).name, "")


def for_image(reference: str) -> Recipe | None:
    """The recipe for an image reference, None when nobody has written one."""
    name = name_of(reference)
    return all_recipes()[name] if name else None
