"""Floor 1: stores of examples, sources of tasks, and data sets.

Names are loaded when they are asked for, so that listing data sets or fetching one does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quickstudy.data.ahead import read_ahead
    from quickstudy.data.arabic import ArabicCommands
    from quickstudy.data.batches import BatchSource
    from quickstudy.data.big.computed import ComputedStore
    from quickstudy.data.big.datasets import Parquet, Shards
    from quickstudy.data.caltech import Caltech101
    from quickstudy.data.classtasks import ClassTasks
    from quickstudy.data.counts import Count
    from quickstudy.data.dataset import DataSet
    from quickstudy.data.digits import Digits
    from quickstudy.data.fewrel import FewRel
    from quickstudy.data.glyphs import Glyphs
    from quickstudy.data.intents import Banking77, Clinc150
    from quickstudy.data.omniglot import Omniglot
    from quickstudy.data.pictures import Images
    from quickstudy.data.picturetasks import PictureTasks
    from quickstudy.data.registry import data_sets
    from quickstudy.data.sinusoid import FunctionTasks, Sinusoid
    from quickstudy.data.sounds import Sounds
    from quickstudy.data.soundtasks import SoundTasks
    from quickstudy.data.source import TaskShape, TaskSource
    from quickstudy.data.spokendigits import SpokenDigits
    from quickstudy.data.store import ArrayStore
    from quickstudy.data.texts import Texts
    from quickstudy.data.texttasks import TextTasks

__all__ = [
    "ArabicCommands",
    "ArrayStore",
    "Banking77",
    "BatchSource",
    "Caltech101",
    "ClassTasks",
    "Clinc150",
    "ComputedStore",
    "Count",
    "DataSet",
    "Digits",
    "FewRel",
    "FunctionTasks",
    "Glyphs",
    "Images",
    "Omniglot",
    "Parquet",
    "PictureTasks",
    "Shards",
    "Sinusoid",
    "SoundTasks",
    "Sounds",
    "SpokenDigits",
    "TaskShape",
    "TaskSource",
    "TextTasks",
    "Texts",
    "data_sets",
    "read_ahead",
]

_WHERE = {
    "ArabicCommands": "arabic",
    "ArrayStore": "store",
    "Banking77": "intents",
    "BatchSource": "batches",
    "Caltech101": "caltech",
    "ClassTasks": "classtasks",
    "Clinc150": "intents",
    "ComputedStore": "big.computed",
    "Count": "counts",
    "DataSet": "dataset",
    "Digits": "digits",
    "FewRel": "fewrel",
    "FunctionTasks": "sinusoid",
    "Glyphs": "glyphs",
    "Images": "pictures",
    "Omniglot": "omniglot",
    "Parquet": "big.datasets",
    "PictureTasks": "picturetasks",
    "Shards": "big.datasets",
    "Sinusoid": "sinusoid",
    "SoundTasks": "soundtasks",
    "Sounds": "sounds",
    "SpokenDigits": "spokendigits",
    "TaskShape": "source",
    "TaskSource": "source",
    "TextTasks": "texttasks",
    "Texts": "texts",
    "data_sets": "registry",
    "read_ahead": "ahead",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
