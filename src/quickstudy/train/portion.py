"""Floor 4: what is computed at once of a step: some of its tasks, or its batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import explained
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.nets.secondorder import blamed_layer

__all__ = ["Portion", "naming_layers"]


@dataclass(frozen=True)
class Portion:
    """What is computed at once.

    Args:
        data: tasks, or a plain labelled batch.
        keys: randomness of each.
        of: how many losses are averaged in the whole step.
    """

    data: Episode | Examples
    keys: Keys
    of: int = 1

    def loss(self, learner: AbstractLearner) -> MetaLoss:
        """The learner's loss on it."""
        if isinstance(self.data, Episode):
            return learner.meta_loss(self.data, key=self.keys)
        return learner.batch_loss(self.data, key=self.keys)


@contextmanager
def naming_layers(learner: AbstractLearner, portion: Portion) -> Iterator[None]:
    """Where a missing second derivative ends what is done inside, the error names the layer.

    The adjoint, Newton's steps and the implicit gradient take that derivative themselves and know no layers: theirs is
    a sentence already, with torch's complaint as its cause.
    """
    try:
        yield
    except (RuntimeError, InputError) as error:
        cause = error if isinstance(error, RuntimeError) else error.__cause__
        if not isinstance(cause, RuntimeError):
            raise
        found = explained(cause, lambda: blamed_layer(learner, portion.loss))
        if found is cause:
            raise
        raise found from error
