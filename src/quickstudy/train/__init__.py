"""Floor 4: meta-training. Called itself, ``quickstudy.train(recipe)`` trains from a recipe (see ``api.py``)."""

from quickstudy.callable_module import make_callable
from quickstudy.train.averaging import Average
from quickstudy.train.callbacks import (
    Callback,
    EndEvent,
    History,
    JsonLines,
    Silent,
    StepEvent,
    TensorBoard,
    Validation,
    ValidationEvent,
)
from quickstudy.train.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from quickstudy.train.engine import Interrupted, fit
from quickstudy.train.phases import Pretraining
from quickstudy.train.runfolder import RunFolder
from quickstudy.train.saving import Checkpointing, Trained
from quickstudy.train.schedules import Schedule, constant, cosine, decay_by, linear, of_torch, warmed

__all__ = [
    "Average",
    "Callback",
    "Checkpoint",
    "Checkpointing",
    "EndEvent",
    "History",
    "Interrupted",
    "JsonLines",
    "Pretraining",
    "RunFolder",
    "Schedule",
    "Silent",
    "StepEvent",
    "TensorBoard",
    "Trained",
    "Validation",
    "ValidationEvent",
    "constant",
    "cosine",
    "decay_by",
    "fit",
    "linear",
    "load_checkpoint",
    "load_weights",
    "of_torch",
    "save_checkpoint",
    "warmed",
]

make_callable(__name__)
