"""The small benchmark by the same rules."""

from pathlib import Path

import numpy as np
import pytest

from quickstudy.data.metadataset.mini import MINI, MiniMetaDataset
from quickstudy.data.metadataset.spectrograms import pictured
from quickstudy.errors import InputError, UnknownName


def test_the_digits(cache: Path) -> None:
    """What needs no files."""
    source = MiniMetaDataset(test="digits").tasks("test", seed=0)
    assert source.shape.example == (1, 28, 28) and source.shape.outputs == 10
    for number in range(20):
        member, one = source.composition(number)
        assert member.name == "digits" and 5 <= len(one.classes) <= 10 and one.query == 10
    episode = source.episodes(range(2))
    assert episode.support.x.shape[2:] == (28, 28)  # type: ignore[union-attr]


def test_omniglot_is_drawn_by_alphabets(data_root: Path, omniglot: object) -> None:
    data = MiniMetaDataset(data_root, datasets=("omniglot",))
    counts = {role: len(names) for role, names in data.divided.items()}
    assert counts == {"train": 883, "validation": 81, "test": 659}  # as in Meta-Dataset
    source = data.tasks("train", seed=0)
    names = source.members[0].store.classes
    for number in range(20):
        member, one = source.composition(number)
        assert len({names[n].split("/")[0] for n in member.classes[one.classes]}) == 1
    roles = [set(data.divided[role]) for role in data.splits]
    assert not (roles[0] & roles[1] or roles[0] & roles[2] or roles[1] & roles[2])


def test_a_tone_is_a_line() -> None:
    time = np.arange(8000) / 8000
    low, high = (np.sin(2 * np.pi * f * time).astype(np.float32) for f in (300, 2000))
    quiet_then_loud = np.where(time < 0.5, 0.0, high).astype(np.float32)
    found = pictured(np.stack([low, high, 0.1 * high, quiet_then_loud, 0 * high]), 8000, 28)
    assert found.shape == (5, 28, 28) and found.dtype == np.uint8
    rows = found.max(2).argmax(1)
    assert rows[0] > rows[1]  # low tones below
    assert np.abs(found[1].astype(int) - found[2]).max() <= 1  # loudness is no matter
    assert found[3][:, :12].max() == 0 and found[3][:, 16:].max() == 255
    assert found[4].std() == 0


def test_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no data set of mini-meta-dataset called 'birds'"):
        MiniMetaDataset(test="birds")
    with pytest.raises(InputError, match="Cannot train on mednist: its classes are all for tests"):
        MiniMetaDataset(datasets=("mednist",))
    with pytest.raises(InputError, match="Cannot take glyphs twice"):
        MiniMetaDataset(datasets=("glyphs", "glyphs"))
    with pytest.raises(InputError, match="pictures of size 9: use 14 to 64"):
        MiniMetaDataset(size=9)
    assert list(MINI) == ["omniglot", "glyphs", "caltech101", "arabic-commands", "mednist", "digits", "spoken-digits"]
