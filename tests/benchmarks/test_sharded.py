"""Sharded weights: the page says what was found, and it is found again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks.sharded import CASES, tried

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def on_the_page() -> dict[str, str]:
    """What was tried, and its outcome."""
    return dict(re.findall(r"^\| (.+?) \| (works|wrong|refused|fails|crashes) \|", PAGE, re.MULTILINE))


def test_the_page_has_every_case() -> None:
    assert list(on_the_page()) == [what for what, _ in CASES.values()]


@pytest.mark.e2e
def test_outcomes_are_those_of_the_page() -> None:
    if torch.__version__.split("+")[0] not in PAGE:
        pytest.skip("the page speaks of another torch")
    assert {row["what"]: row["outcome"] for row in tried(list(CASES))} == on_the_page()
