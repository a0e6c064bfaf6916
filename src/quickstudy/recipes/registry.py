"""Recipes by name: each entry is the path of a TOML file."""

from quickstudy.recipes.shipped import names
from quickstudy.registry import Registry

recipes = Registry("recipe", "quickstudy.recipes", {name: f"quickstudy.recipes.shipped:{name}" for name in names()})
