"""Floor 5: recipes, one TOML file a result."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quickstudy.recipes.building import Built, build
    from quickstudy.recipes.load import load_recipe, parse_recipe
    from quickstudy.recipes.registry import recipes
    from quickstudy.recipes.schema import Recipe
    from quickstudy.recipes.write import recipe_hash, to_toml

__all__ = ["Built", "Recipe", "build", "load_recipe", "parse_recipe", "recipe_hash", "recipes", "to_toml"]

# Imported when asked for: listing recipes waits for neither torch nor pydantic.
_WHERE = {
    "Built": "building",
    "Recipe": "schema",
    "build": "building",
    "load_recipe": "load",
    "parse_recipe": "load",
    "recipe_hash": "write",
    "recipes": "registry",
    "to_toml": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
