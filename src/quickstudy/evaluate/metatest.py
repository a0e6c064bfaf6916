"""Floor 4: meta-testing: let a learner learn tasks that it has never seen, and score what it says."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.ahead import read_ahead
from quickstudy.data.source import RowMoves, TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.evaluate.intervals import class_ci95, episode_ci95, row_ci95, row_effects
from quickstudy.evaluate.portions import drawn_together, portions
from quickstudy.evaluate.result import Other, Result
from quickstudy.evaluate.scores import Flags, Floats, Numbers, Scores, score
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner

__all__ = ["Division", "answer", "check_tasks", "diverged_episodes", "evaluating", "meta_test"]

DIVERGED_DEVIATIONS = 10.0
"""A regression task diverged if its root-mean-square error exceeds this many standard deviations of the labels."""

Progress = Callable[[int, int], None]
"""Told how many episodes are done, of how many."""

T = TypeVar("T")


class Division(Protocol):
    """Processes that divide a test; ``train.ranks`` has them."""

    def mine(self, n: int) -> range:
        """Which of n chunks of episodes this process does."""

    def results_of(self, work: Callable[[], T]) -> list[T]:
        """What each process's ``work`` gives, in the order of what they did, on every process."""


def meta_test(
    learner: AbstractLearner,
    source: TaskSource,
    *,
    episodes: int = 600,
    first: int = 0,
    tasks_at_once: int | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    division: Division | None = None,
    observe: Callable[[Tensor, Episode], None] | None = None,
) -> Result:
    """Adapt to each episode's support set and score the predictions for its query set.

    The learner runs in eval mode and without gradients (one that needs them to adapt enables them itself);
    each submodule's training flag is as before afterwards, errors and Ctrl-C included.

    An episode that goes wrong is counted in ``diverged``; it neither stops the test nor drops out of the mean:

    - classification: it diverged if the outputs of a labelled query row hold a NaN, or their largest value is
      infinite. Those rows are wrong; the others count as usual.
    - regression: it diverged if its error is not finite (it then counts as infinite), or its root-mean-square
      error exceeds 10 standard deviations of the query labels of all episodes tested.

    Who calls may add what only they know: ``dataclasses.replace(result, learner="maml", recipe_hash=...)``.

    Args:
        learner: on the device that it is to run on.
        source: where the tasks come from; its task numbers ``first`` .. ``first + episodes - 1`` are used, so
            two learners tested on the same source saw the same tasks.
        episodes: how many tasks.
        first: the number of the first task.
        tasks_at_once: how many tasks are adapted together; bounds the memory. By default 16, or fewer where they are so
            large that these may not have room in 8 GB (``evaluate/portions.py``).
        device: where the learner's parameters lie; None finds out.
        seed: of the learner's own randomness.
        progress: called with (episodes done, episodes in all) whenever some are done; where the test is divided, with
            what this process has done of its part, as if all were as far.
        division: processes that call this function with the same arguments and do a part each, in whole chunks; each
            gets the whole result, which is that of one process.
        observe: told of each chunk's outputs (CPU) and tasks, for figures over all answers together, such as
            calibration; where the test is divided, of this process's part.

    Raises:
        InputError: the learner cannot learn this kind of task, was trained on these classes or examples, or lies on
            another device; or there are fewer tasks.
        EpisodeError: the source's tasks hold NaN or labels out of range.
    """
    _check_counts(episodes, first, tasks_at_once, source.count)
    check_tasks(learner, source)
    where = _device(learner, device)
    started = time.perf_counter()
    chunk = drawn_together(source) if tasks_at_once is None else tasks_at_once
    chunks = [range(at, min(at + chunk, first + episodes)) for at in range(first, first + episodes, chunk)]
    mine = chunks if division is None else [chunks[number] for number in division.mine(len(chunks))]

    def work() -> _Tally:
        tally, done, in_all = _Tally(), 0, sum(map(len, mine))
        with evaluating(learner), read_ahead(source) as drawn:
            for numbers in mine:
                whole = drawn.episodes(numbers)
                for episode in portions(whole) if tasks_at_once is None else (whole,):
                    outputs = answer(learner, episode, seed=seed, device=where).cpu()
                    tally.add(score(outputs, episode, source), episode, source.row_moves(outputs, episode))
                    if observe is not None:
                        observe(outputs, episode)
                    done += episode.n_task
                    if progress is not None:
                        progress(episodes * done // in_all, episodes)
        return tally

    tally = work() if division is None else _Tally.joined(division.results_of(work))
    return _result(tally, learner, source, first, seed, time.perf_counter() - started)


def answer(
    learner: AbstractLearner, episode: Episode, *, seed: int = 0, device: torch.device | str | None = None
) -> Tensor:
    """The learner's outputs for the query rows of these tasks, as meta-testing gets them.

    Args:
        learner: in the mode that it is to run in; see :func:`evaluating`.
        episode: T tasks. Their numbers decide the learner's randomness, with ``seed``.
        seed: of the learner's own randomness.
        device: where the learner's parameters lie; None finds out.

    Returns:
        ``[T, Nq, W]`` logits or ``[T, Nq, D]`` values, on the learner's device, without a graph.

    Raises:
        EpisodeError: the tasks hold NaN or labels out of range.
    """
    episode.check()
    keys = Keys(Key.of(seed, "meta-test"), episode.indices.numpy())
    there = episode.to(_device(learner, device))
    with torch.no_grad():
        state = learner.adapt(there.support, key=keys)
        return learner.predict(state, there.query.unlabelled(), key=keys.fold("predict")).detach()


@contextmanager
def evaluating(learner: AbstractLearner) -> Iterator[None]:
    """Eval mode for a while; afterwards every submodule's training flag is what it was (frozen parts too)."""
    flags = [(module, module.training) for module in learner.modules()]
    learner.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def diverged_episodes(values: Floats, unusable: Flags, labels: Floats | None) -> Flags:
    """Which episodes diverged; see :func:`meta_test`.

    The yardstick for an error is the spread of the labels, which no learner can move, rather than the learner's
    own median error, which is large itself when most episodes diverge.

    Args:
        values: ``[E]``, accuracy or mean squared error.
        unusable: bool ``[E]``: some output was no usable number.
        labels: ``[R, D]``, the query labels of all episodes for regression; None for classification.

    Returns:
        Bool ``[E]``.
    """
    if labels is None:
        return unusable
    variance = float(labels.var(0).mean())
    if variance == 0:  # constant labels give no yardstick
        return unusable
    return unusable | (values > DIVERGED_DEVIATIONS**2 * variance)


@dataclass(frozen=True)
class _Tally:
    """The scores of all chunks, the classes of their episodes, and how their figures hang on single rows."""

    parts: list[Scores] = field(default_factory=list)
    classes: list[Numbers] = field(default_factory=list)
    moves: list[RowMoves] = field(default_factory=list)

    @staticmethod
    def joined(tallies: Sequence[_Tally]) -> _Tally:
        return _Tally(
            [part for one in tallies for part in one.parts],
            [part for one in tallies for part in one.classes],
            [part for one in tallies for part in one.moves],
        )

    def add(self, scores: Scores, episode: Episode, moves: RowMoves | None) -> None:
        self.parts.append(scores)
        if episode.classes is not None:
            self.classes.append(episode.classes.numpy())
        if moves is not None:
            self.moves.append(moves)

    @property
    def values(self) -> Floats:
        return np.concatenate([part.values for part in self.parts])

    @property
    def diverged(self) -> Flags:
        labels = [part.labels for part in self.parts if part.labels is not None]
        unusable = np.concatenate([part.unusable for part in self.parts])
        return diverged_episodes(self.values, unusable, np.concatenate(labels) if labels else None)

    @property
    def others(self) -> dict[str, Other]:
        found = {n: np.concatenate([part.others[n] for part in self.parts]) for n in self.parts[0].others}
        return {name: self._other(name, values) for name, values in found.items() if not np.isnan(values).all()}

    def _other(self, name: str, values: Floats) -> Other:
        defined = ~np.isnan(values)
        with np.errstate(over="ignore"):
            mean = float(values[defined].mean())
        return Other(
            mean=mean,
            ci95=episode_ci95(values[defined]),
            per_episode=tuple(None if np.isnan(value) else float(value) for value in values),
            ci95_classes=self.over_classes(values),
            ci95_rows=self.over_rows(name, values),
        )

    def over_classes(self, values: Floats) -> float | None:
        """The interval over classes of a figure ``[E]``, of the episodes that have it (it is not NaN)."""
        if len(self.classes) < len(self.parts):
            return None
        widest = max(part.shape[1] for part in self.classes)  # ragged chunks have each their own way
        padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=-1) for part in self.classes]
        defined = ~np.isnan(values)
        return class_ci95(values[defined], np.concatenate(padded)[defined])

    def over_rows(self, name: str, values: Floats) -> float | None:
        """The interval over rows of a figure ``[E]``, likewise; None where tasks do not say how it hangs on them."""
        if not self.moves or name not in self.moves[0].of:
            return None
        defined = values[~np.isnan(values)]
        if not np.isfinite(defined).all():
            return math.inf
        moves, rows = np.concatenate([part.of[name] for part in self.moves]), [part.rows for part in self.moves]
        there = ~np.isnan(moves)  # of tasks that have the figure
        return row_ci95(row_effects(moves[there], np.concatenate(rows)[there], len(defined)))


def _result(
    tally: _Tally, learner: AbstractLearner, source: TaskSource, first: int, seed: int, seconds: float
) -> Result:
    values, diverged, metric = tally.values, tally.diverged, tally.parts[0].metric
    converged = values[~diverged]
    settings = json.loads(json.dumps(source.settings))  # as it will be read back: lists, not tuples
    with np.errstate(over="ignore"):  # errors beyond 1e308 add up to infinity, which is the answer
        mean = float(values.mean())
    return Result(
        metric=metric,
        mean=mean,
        ci95=episode_ci95(values),
        ci95_classes=tally.over_classes(values),
        ci95_rows=tally.over_rows(metric, values),
        median=float(np.median(values)),
        diverged=int(diverged.sum()),
        mean_converged=float(converged.mean()) if len(converged) else None,
        ci95_converged=episode_ci95(converged) if len(converged) else None,
        episodes=len(values),
        first=first,
        way=settings.get("way"),
        shot=settings.get("shot"),
        query=settings.get("query"),
        data=settings.get("data", ""),
        split=settings.get("split", ""),
        seed=settings.get("seed", 0),
        source=settings,
        source_hash=source.hash,
        learner=type(learner).__name__,
        learner_seed=seed,
        transductive=learner.traits.transductive,
        balanced_prior=learner.traits.balanced_prior,
        seconds=seconds,
        per_episode=tuple(values.tolist()),
        others=tally.others,
    )


# --- checks at the door -------------------------------------------------------------------------


def _check_counts(episodes: int, first: int, tasks_at_once: int | None, there: int | None) -> None:
    at_once = 1 if tasks_at_once is None else tasks_at_once
    for name, number, least in (("episodes", episodes, 1), ("first", first, 0), ("tasks_at_once", at_once, 1)):
        if number < least:
            raise InputError(f"Cannot meta-test: {name} must be a whole number of at least {least}, found {number}.")
    if there is not None and first + episodes > there:
        raise InputError(
            f"Cannot meta-test on the episodes {first} to {first + episodes - 1}: there are only {there} of these "
            f"tasks. Ask for at most {there}."
        )


def check_tasks(learner: AbstractLearner, source: TaskSource) -> None:
    """Whether a learner can be tested on these tasks.

    Raises:
        InputError: it cannot learn them; or, where it was loaded from a run, they are not new to it, or made of other
            examples than its network reads.
    """
    target, known = source.shape.target, learner.traits.targets
    if target not in known:
        raise InputError(
            f"Cannot meta-test {type(learner).__name__} on these tasks: their target is {target!r}, and it learns "
            f"only {', '.join(map(repr, known))}. Choose another learner or another data set."
        )
    if learner.seen is not None:
        learner.seen.check(source)
    learner.check_environment(source.shape.environment)


def _device(learner: AbstractLearner, given: torch.device | str | None) -> torch.device:
    """Where the learner is, or where a learner without parameters is asked to work."""
    lies = next((parameter.device for parameter in learner.parameters()), None)
    if given is None:
        return torch.device("cpu") if lies is None else lies
    asked = torch.device(given)
    # "cuda" means the current card, whichever its number is.
    if lies is not None and (asked.type != lies.type or asked.index not in (None, lies.index)):
        raise InputError(
            f"Cannot meta-test on {asked}: the parameters of {type(learner).__name__} lie on {lies}. "
            f"Move it first: learner.to({str(asked)!r})."
        )
    return asked
