"""Floor 6: from a recipe to a trained run: ``quickstudy.train``."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError, StorageError, in_words
from quickstudy.learners.learner import AbstractLearner
from quickstudy.memoryneed import memory_need
from quickstudy.progress import Line, TrainingProgress
from quickstudy.rankcount import RankCount, Ranks, ranks_to_train
from quickstudy.recipes import Built, Recipe, build, to_toml
from quickstudy.resuming import accepts, remark_on_torch, resolved, to_go_on
from quickstudy.runlist import note_end
from quickstudy.running import train_by_ranks, train_in
from quickstudy.runs import as_trained, newest_run_of, note_classes, recipe_of, seen_by
from quickstudy.train import Callback, Interrupted, RunFolder, Silent, StepEvent, Trained
from quickstudy.train.checkpoint import has_checkpoint
from quickstudy.train.precision import remark
from quickstudy.train.ranks import PeerLost, ProcessRanks, RanksLost, alike
from quickstudy.train.ranks_group import Seat, joined, seat
from quickstudy.train.ranks_state import check_agreement, versions_named

__all__ = ["Run", "kebab_keys", "pick_device", "say", "train"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Args:
        folder: its files.
        recipe: as it was resolved.
        learner: with the weights of the last step, on the device that it was trained on.
        trained: how many steps were done, and the best validation.
    """

    folder: RunFolder
    recipe: Recipe
    learner: AbstractLearner
    trained: Trained

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self.folder.path


def train(
    recipe: str | Path | Recipe,
    *,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    runs: str | Path = "runs",
    device: str | torch.device | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    tensorboard: bool = False,
    resume: bool = False,
    accept_changes: bool = False,
    ranks: Ranks | None = None,
) -> Run:
    """Meta-train a learner from a recipe, in a new run folder.

    Args:
        recipe: a name (``quickstudy list recipes``), the path of a TOML file, a recipe; or, to go on with it, the
            path of a run.
        overrides: dotted key of the recipe -> value, such as ``{"learner.inner-lr": 0.2}``.
        data_root: the folder of data sets; by default QUICKSTUDY_DATA, else the platform's user data folder.
        runs: the folder that gets the run's folder.
        device: where to compute; by default a GPU if there is one.
        callbacks: told of every step; see ``quickstudy.train.Callback``.
        progress: show progress on stderr.
        tensorboard: write event files into the run's folder too (the extra ``tracking``).
        resume: go on with the newest run of this recipe, or with the run that ``recipe`` names. The result is the
            same, bit for bit, as if it had never stopped. ``train.steps`` may grow then; another setting, other data or
            another version is refused.
        accept_changes: go on even so; checkpoints keep what changed, and after which step.
        ranks: processes that divide the tasks of each step, see docs/ranks.md, for a process that is alone (one that
            torchrun or srun started is one of theirs); ``"auto"``: as many as pay. One by
            default; a run that goes on takes as many as before. The result is the same but for rounding.

    Returns:
        The run. After Ctrl-C the step is finished and saved, and ``quickstudy.train.Interrupted`` raised.

    Raises:
        InputError: the recipe, the data or the options cannot be used; all mistakes of a recipe at once.
        RunError: training diverged, the disk refused, or a checkpoint cannot be gone on from.
    """
    overrides = kebab_keys(overrides)
    root = None if data_root is None else Path(data_root)
    place = seat(os.environ)
    plan = _Plan(recipe, overrides, Path(runs), root, resume, accept_changes)
    if accept_changes and not resume:
        raise InputError(
            "Changes are accepted of a run that goes on (--accept-changes, accept_changes): give --resume (resume) too."
        )
    if place is not None:
        return _train_in_group(place, plan, device, callbacks, progress=progress, tensorboard=tensorboard)
    old, asked = plan.run() if resume else (None, resolved(recipe, overrides))
    # Before there is a folder: recipes and data that cannot be used shall leave none behind.
    built = _built(old, asked, root)
    where = pick_device(device)
    built.learner.to(where)
    count = ranks_to_train(ranks, built, where, None if old is None else old.about.get("ranks"))
    line = Line() if progress else None
    with _folder_for(old, built, plan, count, line) as folder:
        shown: list[Callback] = []
        if line is not None:
            shown = [_SaysRanks(count, line)] if ranks is not None else []
            shown.append(TrainingProgress(line))
        told = [_StillOurs(folder), *shown, *callbacks]
        if count.number == 1:
            trained = train_in(folder, built, callbacks=told, line=line, tensorboard=tensorboard)
        else:
            trained = train_by_ranks(
                folder, built, count.number, callbacks=told, line=line, tensorboard=tensorboard, data_root=data_root
            )
    built.learner.seen = seen_by(folder, built.train.shape)
    return Run(folder, asked, built.learner, trained)


@dataclass(frozen=True)
class _Plan:
    """What was asked for, before it is known whether it can be had."""

    recipe: str | Path | Recipe
    overrides: dict[str, Any]
    runs: Path
    root: Path | None
    resume: bool
    accept: bool

    def run(self) -> tuple[RunFolder, Recipe]:
        """That which is gone on with."""
        return to_go_on(self.recipe, self.overrides, self.runs, accept=self.accept)


def _train_in_group(
    place: Seat,
    plan: _Plan,
    device: str | torch.device | None,
    callbacks: Sequence[Callback],
    *,
    progress: bool,
    tensorboard: bool,
) -> Run:
    """The same as one rank of those that torchrun or srun started, each of which calls :func:`train`.

    Rank 0 alone looks for runs, writes and shows; what it found is told to the others.
    """
    where = pick_device(f"cuda:{place.local}" if device is None and torch.cuda.is_available() else device)
    with joined(place, where) as group:
        return _train_as(group, place, plan, where, callbacks, progress=progress, tensorboard=tensorboard)


def _train_as(
    group: ProcessRanks,
    place: Seat,
    plan: _Plan,
    where: torch.device,
    callbacks: Sequence[Callback],
    *,
    progress: bool,
    tensorboard: bool,
) -> Run:
    flags = f"{' --resume' if plan.resume else ''}{' --accept-changes' if plan.accept else ''}"
    asked = f"{plan.recipe} {plan.overrides}{flags}"
    check_agreement(group, versions_named() | {"what is to be trained": asked})
    with alike(group):
        found = _found_by_first(place, plan) if group.rank == 0 else None
    old_path, recipe = group.exchange(found)[0] or (None, None)
    assert recipe is not None
    old = None if old_path is None else RunFolder(old_path)
    with alike(group):
        built = _built(old, recipe, plan.root)
        built.learner.to(where)
    other = None if built.validation is None else built.validation.hash
    check_agreement(group, {"the hash of the data": built.train.hash, "the hash of the validation data": other})
    here = group.exchange(socket.gethostname()).count(socket.gethostname())
    line = Line() if progress and group.rank == 0 else None
    count = RankCount(group.size, f"started from outside, {place.job}")
    told = [*([] if line is None else [_SaysRanks(count, line), TrainingProgress(line)]), *callbacks]
    with ExitStack() as stack:
        folder = None
        with alike(group):
            if group.rank == 0:
                folder = stack.enter_context(_folder_for(old, built, plan, count, line, here))
                folder.note(job=place.job)
        path = group.exchange(None if folder is None else folder.path)[0]
        assert path is not None
        folder = RunFolder(path)
        trained = train_in(
            folder, built, callbacks=[_StillOurs(folder), *told], line=line, tensorboard=tensorboard, ranks=group
        )
    with alike(group):
        built.learner.seen = seen_by(folder, built.train.shape) if group.rank == 0 else built.learner.seen
    return Run(folder, recipe, built.learner, trained)


def _found_by_first(place: Seat, plan: _Plan) -> tuple[Path | None, Recipe]:
    """The run to go on with, if any: also the one that these ranks trained before they were started again."""
    if plan.resume:
        old, recipe = plan.run()
        return old.path, recipe
    recipe = resolved(plan.recipe, plan.overrides)
    before = newest_run_of(recipe, plan.runs) if place.start else None
    if before is not None and before.about.get("job") == place.job:
        return before.path, recipe_of(before)
    return None, recipe


def _built(old: RunFolder | None, recipe: Recipe, root: Path | None) -> Built:
    began = {} if old is None else {"as_trained": partial(as_trained, old)}
    return build(recipe, root, **began)


@contextmanager
def _folder_for(
    old: RunFolder | None, built: Built, plan: _Plan, count: RankCount, line: Line | None, here: int | None = None
) -> Iterator[RunFolder]:
    """The run's folder, in which nobody else trains while it lasts, with everything noted that is known beforehand.

    ``here``: how many of its ranks are on this machine; None: all.
    """
    recipe = built.recipe
    where = next(built.learner.parameters(), torch.empty(0)).device
    folder = old or RunFolder.create(plan.runs, recipe.name, recipe.seed, to_toml(recipe))
    with ExitStack() as stack:
        try:
            stack.enter_context(folder.locked())
        except StorageError:  # no room for a lock
            if old is None:
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        stack.enter_context(_cleared(folder, new=old is None))
        note_end(folder, None)
        folder.note(**count.record)
        if old is None:
            sources: dict[str, TaskSource] = {recipe.train.role: built.train}
            if built.validation is not None:
                sources["validation"] = built.validation
            note_classes(folder, built.data, sources)
        else:
            say(remark_on_torch(old), line)
        if plan.accept:
            accepts(folder, built)
        say(remark(recipe.train.precision, where), line)
        say(_remark_on_compiling(recipe, where), line)
        need = memory_need(built, where, count.number, here)
        if need is not None:
            folder.note(**need.record)
            say(need.sentence, line)
        yield folder


# --- pieces ------------------------------------------------------------------------------------


def _remark_on_compiling(recipe: Recipe, device: torch.device) -> str | None:
    if recipe.train.compile == "no":
        return None
    from quickstudy.train import compiled  # what it needs of torch takes a while to load

    return compiled.remark(recipe.train.compile, recipe.train.precision, device)


def say(text: str | None, line: Line | None) -> None:
    """A sentence, if there is one: to who looks on, else to the log."""
    if text is not None and line is not None:
        line.keep(text)
    elif text is not None:
        _log.warning(text)


class _SaysRanks(Silent):
    """Says over how many ranks the run is divided, once it is certain that it runs."""

    def __init__(self, count: RankCount, line: Line) -> None:
        self._text: str | None = str(count)
        self._line = line

    @override
    def step(self, event: StepEvent) -> None:
        del event
        if self._text is not None:
            self._line.keep(self._text)
            self._text = None


class _StillOurs(Silent):
    """Lets nothing be saved in a run's folder that another process has taken over."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    @override
    def saving(self, step: int) -> None:
        del step
        self._folder.check_still_ours()


@contextmanager
def _cleared(folder: RunFolder, *, new: bool) -> Iterator[None]:
    """Where it ends early: how to go on with the run is said, and a new folder without a single step removed."""
    try:
        yield
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted} Go on with: quickstudy train {folder.path} --resume") from None
    except RanksLost as lost:  # what ranks printed stays
        raise RanksLost(f"{lost} Go on with: quickstudy train {folder.path} --resume --ranks 1") from None
    except PeerLost as lost:  # of ranks that were started from outside
        raise RanksLost(f"{lost} Start all of them again, with: quickstudy train {folder.path} --resume") from lost
    except Exception as error:  # whatever it was: a folder without a single step is of no use
        begun = has_checkpoint(folder.checkpoints / "last") or (
            folder.metrics.exists() and folder.metrics.stat().st_size
        )
        if new and not begun:
            shutil.rmtree(folder.path, ignore_errors=True)
        elif isinstance(error, StorageError):  # no place for a note
            raise StorageError(f"{error} Go on with: quickstudy train {folder.path} --resume") from error
        elif not isinstance(error, InputError):  # there is nothing to be noted
            note_end(folder, "failed", in_words(error))
        raise


def kebab_keys(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides with their keys as in TOML: Python users may write ``learner.inner_lr``.

    What lies deeper stays as it is: it may be the name of an environment's attribute, ``data.vary.max_speed``.
    """
    parts = {key: key.split(".") for key in overrides or {}}
    found = {key: [part.replace("_", "-") for part in names[:2]] + names[2:] for key, names in parts.items()}
    return {".".join(names): (overrides or {})[key] for key, names in found.items()}


def pick_device(given: str | torch.device | None) -> torch.device:
    """The device of that name; by default a GPU if there is one.

    Raises:
        InputError: this machine cannot compute there.
    """
    if given is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Cannot compute on the device {str(given)!r}: {error}. Use 'cpu', or 'cuda' with a GPU."
        ) from error
    return device
