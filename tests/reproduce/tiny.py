"""Claims that take a moment: a training of a few steps, and two figures of it."""

from pathlib import Path

import pytest

TINY = """
[every]
recipe = "sinusoid-maml-fast"
metric = "mse"
source = "a paper"
read = "in it"
notes = ["of all"]

[every.overrides]
"train.steps" = 6
"train.validate-every" = 3
"train.validate-episodes" = 4
"evaluate.episodes" = 40

[[claims]]
name = "one"
title = "first"
published = { mean = 0.5, ci95 = 0.1 }
overrides = { "learner.inner-steps" = 2 }
notes = ["of one"]

[[claims]]
name = "two"
title = "second"
training = "one"
test = { shot = 7 }
"""
LETTERS = """
[[claims]]
name = "letters"
title = "third"
source = "a paper"
read = "in it"
recipe = "glyphs-protonet-fast"
metric = "accuracy"

[claims.overrides]
"train.steps" = 2
"train.validate-every" = 0
"net.filters" = 4
"episodes.train.way" = 3
"episodes.train.query" = 2
"episodes.test.query" = 4
"evaluate.episodes" = 8
"""


def use_tiny_claims(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these be the claims that ship."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(TINY)
    (folder / "letters.toml").write_text(LETTERS)
    monkeypatch.setattr("quickstudy.reproduce.published._FOLDER", folder)
