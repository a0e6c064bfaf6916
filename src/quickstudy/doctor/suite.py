"""Floor 5: the laws as a test suite for packages of others, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quickstudy.data.source import TaskSource
from quickstudy.doctor import lawbook, traininglaws
from quickstudy.doctor.law import LAWS, Subject
from quickstudy.doctor.report import Report
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner

__all__ = ["Doctor", "laws"]

_BOOKS = (lawbook, traininglaws)  # they enter their laws in LAWS when they are imported


def laws(
    build: Callable[[], AbstractLearner],
    *,
    target: str = "classes",
    tasks: Episode | TaskSource | None = None,
    tolerance: float = 1e-10,
    smooth: bool = True,
    follows_query: bool = True,
) -> Callable[..., None]:
    """A pytest function that holds a learner to every law that its traits promise; one test a law.

    ``test_laws = quickstudy.doctor.laws(lambda: MyLearner(MyNet()))`` in a test file is all.

    Args:
        build: makes the learner, with random weights.
        target: the kind of small tasks that it is given: ``"classes"`` (3-way, vectors of 4 numbers),
            ``"multi-label"`` or ``"real"`` (two values an example).
        tasks: other tasks, for a network that takes no vectors of 4 numbers: an episode of at least three regular
            tasks without masks, or a source, whose first three tasks are taken.
        tolerance: of float64 comparisons; larger only with a reason.
        smooth: the network has no kinks (ReLU, max-pooling), so that finite differences mean something.
        follows_query: ``meta_loss`` is the query loss, not a surrogate.

    Returns:
        A parametrised test function.

    Raises:
        InputError: pytest is not installed, or the tasks are fewer than three, or padded.

    >>> from quickstudy.learners import ProtoNet
    >>> from quickstudy.nets import MLP
    >>> test_laws = laws(lambda: ProtoNet(MLP(4, activation="tanh")))
    >>> test_laws(law="dtype_is_kept")
    """
    try:
        import pytest
    except ImportError as error:
        raise InputError("The laws are a pytest suite, and pytest is not installed: pip install pytest") from error
    episode = tasks.episodes(range(3)) if isinstance(tasks, TaskSource) else tasks
    if episode is not None:
        _check(episode)
    subject = Subject(build, target, episode, tolerance, smooth, follows_query)
    names = [name for name, law in LAWS.items() if law.applies(subject)]
    marked: Any = pytest.mark.parametrize("law", names)

    def test_laws(law: str) -> None:
        LAWS[law].check(subject)

    test: Callable[..., None] = marked(test_laws)
    return test


def _check(episode: Episode) -> None:
    if episode.n_task < 3 or episode.support.mask is not None or episode.query.mask is not None:
        raise InputError(
            f"The laws need at least three tasks without padding, received {episode.n_task}"
            f"{'' if episode.support.mask is None and episode.query.mask is None else ', padded'}. "
            "Give tasks of one size; the laws make ragged ones of them."
        )


class Doctor:
    """What ``quickstudy.doctor`` is to a type checker: a function, and the room where the laws stand."""

    laws = staticmethod(laws)

    def __call__(self, learner: AbstractLearner, source: TaskSource, *, tasks: int = 2, seed: int = 0) -> Report:
        """See :func:`quickstudy.doctor.examine.doctor`."""
        raise NotImplementedError("for type checkers; the room itself answers the call, see callable_module.py")
