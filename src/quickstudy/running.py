"""Floor 6: the training of a run in its folder: by this process, or by ranks that this process starts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TextIO, cast

import torch
from typing_extensions import override

from quickstudy.errors import StorageError
from quickstudy.files import atomic_write_bytes, storage_error
from quickstudy.nets.strategy import StrategyRecord, recorded
from quickstudy.notes import MemoryNotes, StrategyNotes
from quickstudy.progress import Line
from quickstudy.rankcount import threads_of_a_rank
from quickstudy.recipes import Built, Recipe, build, to_toml
from quickstudy.recipes.fitting import fit_built
from quickstudy.resuming import is_accepted
from quickstudy.runs import as_trained, identity, named_settings
from quickstudy.train import Callback, Checkpointing, EndEvent, JsonLines, RunFolder, Silent, TensorBoard, Trained
from quickstudy.train.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, load_weights, save_checkpoint
from quickstudy.train.ranks import AbstractRanks, OneRank, alike
from quickstudy.train.ranks_messages import Job
from quickstudy.train.ranks_worker import Relay, Starter

__all__ = ["device_of", "train_by_ranks", "train_in"]


def train_in(
    folder: RunFolder,
    built: Built,
    *,
    callbacks: Sequence[Callback] = (),
    line: Line | None = None,
    tensorboard: bool = False,
    ranks: AbstractRanks | None = None,
) -> Trained:
    """Train in a folder that no other process trains in, from its last checkpoint, if there is one.

    Args:
        folder: of the run.
        built: what its recipe describes; the learner on its device.
        callbacks: told of every step.
        line: where strategies are said.
        tensorboard: write event files too.
        ranks: those that divide the tasks, of which this process is one; rank 0 alone writes.
    """
    ranks, recipe = ranks or OneRank(), built.recipe
    checkpoints = Checkpointing(
        folder.checkpoints,
        _every(recipe),
        identity(recipe, built.train.shape),
        settings=named_settings(recipe),
        accept_changes=is_accepted(folder, built),
    )
    if ranks.rank:
        return fit_built(built, callbacks=[MemoryNotes()], checkpoints=checkpoints, resume=True, ranks=ranks)
    metrics = JsonLines(folder.metrics, resumed_at=_steps_done(folder))
    strategies = StrategyRecord()
    mine = [metrics, StrategyNotes(strategies, folder, line), MemoryNotes(), _RecipeWithFirstCheckpoint(folder, recipe)]
    try:
        if tensorboard:
            mine.append(TensorBoard(folder.path / "tensorboard"))
        if recipe.train.steps == 0 and recipe.pretrain is None:
            return _as_it_is(built, checkpoints)
        with recorded(strategies):
            return fit_built(built, callbacks=[*mine, *callbacks], checkpoints=checkpoints, resume=True, ranks=ranks)
    finally:
        metrics.end(EndEvent(0, "failed"))  # once more, as the engine tells nobody if it refuses before it begins


def train_by_ranks(
    folder: RunFolder,
    built: Built,
    number: int,
    *,
    callbacks: Sequence[Callback] = (),
    line: Line | None = None,
    tensorboard: bool = False,
    data_root: str | Path | None = None,
) -> Trained:
    """The same by ``number`` ranks; the learner of ``built`` gets the weights of the last step.

    Raises:
        RanksLost: ranks were killed too often.
    """
    from quickstudy.train.ranks_launch import run_ranks  # torch's launch takes a second to import

    device = next(built.learner.parameters()).device
    root = None if data_root is None else Path(data_root)
    arguments = (folder, built.recipe, root, device.type, tensorboard, bool(callbacks))
    trained: Trained = run_ranks(
        Job(_train_on_rank, arguments, device.type, threads_of_a_rank(number)),
        number,
        logs=folder.path / "ranks",
        callbacks=callbacks,
        polite=True,
        note=None if line is None else line.keep,
    )
    last = folder.checkpoints / "last"
    load_weights(built.learner, load_checkpoint(last), last)
    return trained


def _train_on_rank(
    ranks: AbstractRanks,
    starter: Starter,
    folder: RunFolder,
    recipe: Recipe,
    data_root: Path | None,
    device: str,
    tensorboard: bool,
    tell: bool,
) -> Trained:
    with alike(ranks):
        built = build(recipe, data_root, partial(as_trained, folder))
        built.learner.to(device_of(ranks, device))
    line = Line(cast(TextIO, SaidByStarter(starter)))
    if ranks.rank == 0 and (built.batches is not None or built.pretrain is not None):
        line.keep("Plain labelled batches are not divided: every rank computes each one whole.")
    relay: list[Callback] = [Relay(starter)] if tell else []
    return train_in(folder, built, callbacks=relay, line=line, tensorboard=tensorboard, ranks=ranks)


def device_of(ranks: AbstractRanks, kind: str) -> torch.device:
    """Where a rank computes: on a GPU of its own, or on the CPU."""
    return torch.device("cuda", ranks.rank) if kind == "cuda" else torch.device(kind)


class SaidByStarter(io.TextIOBase):
    """A stream whose lines are shown by the process that started the ranks.

    Args:
        starter: that process.
    """

    def __init__(self, starter: Starter) -> None:
        super().__init__()
        self._starter = starter

    @override
    def write(self, text: str) -> int:
        self._starter.tell("note", text.rstrip("\n"))
        return len(text)


# --- pieces ------------------------------------------------------------------------------------


class _RecipeWithFirstCheckpoint(Silent):
    """Writes the recipe, which may ask for more steps than before, once there is progress to go with it."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        self._path, self._text = folder.recipe, to_toml(recipe).encode()

    @override
    def saving(self, step: int) -> None:
        """Before a checkpoint, which would make the folder anew if that is gone."""
        try:
            same = self._path.read_bytes() == self._text
        except FileNotFoundError as error:
            raise StorageError(
                f"Cannot save step {step}: {self._path} is gone, so the run's folder was moved or deleted, or its disk "
                "taken away. Nothing is written in its place. Put it back and resume from its last checkpoint."
            ) from error
        except OSError as error:
            raise storage_error(self._path, error) from error
        if not same:
            atomic_write_bytes(self._path, self._text)


def _as_it_is(built: Built, checkpoints: Checkpointing) -> Trained:
    """A checkpoint of a learner that no step has touched, so that its run is tested like any other."""
    state = {"step": 0, "steps": 0, "best": None, "best_step": None, "identity": checkpoints.identity}
    save_checkpoint(checkpoints.folder / "last", Checkpoint(built.learner.state_dict(), {}, state))
    return Trained(0)


def _every(recipe: Recipe) -> int:
    """Steps between checkpoints: a run that is killed loses a twentieth of its work at most."""
    steps = recipe.train.steps + (recipe.pretrain.steps if recipe.pretrain else 0)
    return max(1, min(500, steps // 20))


def _steps_done(folder: RunFolder) -> int:
    last = folder.checkpoints / "last"
    return int(load_checkpoint(last).state["step"]) if has_checkpoint(last) else 0
