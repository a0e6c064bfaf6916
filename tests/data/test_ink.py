"""Omniglot and glyphs in one data set."""

from pathlib import Path

import numpy as np
import pytest

from quickstudy.data.glyphs import Glyphs
from quickstudy.data.ink import Ink
from quickstudy.data.omniglot import Omniglot
from quickstudy.errors import UnknownName


def test_each_class_keeps_its_role_and_its_pictures(data_root: Path) -> None:
    ink, omniglot, glyphs = Ink(data_root), Omniglot(data_root), Glyphs()
    roles = {role: set(ink.classes(role)) for role in ("train", "validation", "test")}
    assert not (roles["train"] & roles["test"] or roles["train"] & roles["validation"])
    assert not roles["validation"] & roles["test"]
    assert set(ink.classes("train+validation")) == roles["train"] | roles["validation"]
    first = len(omniglot.store.classes)
    for role, numbers in roles.items():
        assert sorted(numbers) == sorted([*omniglot.classes(role), *(first + n for n in glyphs.classes(role))])
    assert (ink.store.of(3) == omniglot.store.of(3)).all()
    assert (ink.store.of(first + 5) == glyphs.store.of(5)).all()


def test_tasks_draw_from_both(data_root: Path) -> None:
    ink = Ink(data_root)
    episode = ink.tasks("test", way=5, shot=1, query=2, seed=0).episodes(range(20))
    assert episode.classes is not None
    first = len(Omniglot(data_root).store.classes)
    of_glyphs = np.asarray(episode.classes) >= first
    assert of_glyphs.any() and not of_glyphs.all()
    with pytest.raises(UnknownName, match="There is no split of ink called 'tests'"):
        ink.tasks("tests", way=5, shot=1, query=2, seed=0)
