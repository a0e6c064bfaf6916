"""Floor 5: what a law is, of whom it speaks, and where laws are entered; they stand in lawbook.py, traininglaws.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.doctor.measures import moved_dtype
from quickstudy.doctor.smalltasks import ragged_of, small_tasks
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner, Traits

__all__ = ["LAWS", "Law", "Subject", "close", "every", "hold", "law", "refused", "trainable"]


@dataclass(frozen=True)
class Subject:
    """A learner that laws are held against.

    Args:
        build: a new learner with random weights from torch's global generator, which is seeded around the call.
        target: the kind of small tasks that it is given.
        tasks: other tasks to give it: T regular ones, without masks, at least three.
        tolerance: of float64 comparisons.
        smooth: its network has no kinks (ReLU, max-pooling), so that finite differences mean something.
        follows_query: ``meta_loss`` is the query loss (Reptile's is a surrogate).
    """

    build: Callable[[], AbstractLearner]
    target: str = "classes"
    tasks: Episode | None = None
    tolerance: float = 1e-10
    smooth: bool = True
    follows_query: bool = True

    def make(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> AbstractLearner:
        """The learner in eval mode, its weights fixed by ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build().to(dtype).eval()

    def episode(self, dtype: torch.dtype = torch.float64) -> Episode:
        """The tasks."""
        return moved_dtype(small_tasks(self.target) if self.tasks is None else self.tasks, dtype)

    def ragged(self, filler: float) -> Episode:
        """The same tasks with rows missing, and classes too if the learner takes any way."""
        return ragged_of(self.episode(), filler, any_way=self.make().traits.any_way)


@dataclass(frozen=True)
class Law:
    """One law.

    Args:
        check: raises AssertionError where the subject breaks it.
        speaks_of: whether it applies.
    """

    check: Callable[[Subject], None]
    speaks_of: Callable[[Subject, Traits], bool]

    @property
    def name(self) -> str:
        """As it is shown in a test's id."""
        return self.check.__name__

    def applies(self, subject: Subject) -> bool:
        """Whether it speaks of this subject, by its traits."""
        return self.speaks_of(subject, subject.make().traits)


LAWS: dict[str, Law] = {}


Holds: TypeAlias = Callable[[Subject], None]


def law(speaks_of: Callable[[Subject, Traits], bool]) -> Callable[[Holds], Holds]:
    """Enter a function among the laws."""

    def enter(check: Holds) -> Holds:
        LAWS[check.__name__] = Law(check, speaks_of)
        return check

    return enter


every = law(lambda subject, traits: True)
trainable = law(lambda subject, traits: traits.trainable)


def hold(condition: object, sentence: str) -> None:
    """The condition is true, or the law is broken."""
    if not condition:
        raise AssertionError(sentence)


def close(a: Tensor, b: Tensor, tolerance: float, sentence: str) -> None:
    """Two tensors agree."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda found: f"{sentence}\n{found}")


def refused(pattern: str, call: Callable[[], Any]) -> None:
    """The call ends in an InputError that says this."""
    try:
        call()
    except InputError as error:
        hold(re.search(pattern, str(error)), f"expected an InputError that says {pattern!r}, found {str(error)!r}")
        return
    except Exception as error:
        raise AssertionError(f"expected an InputError that says {pattern!r}, found {error!r}") from error
    raise AssertionError(f"expected an InputError that says {pattern!r}, but nothing was refused")
