"""Something to add to quickstudy from outside."""

from pathlib import Path

RECIPE = Path(__file__).with_name("recipe.toml")
