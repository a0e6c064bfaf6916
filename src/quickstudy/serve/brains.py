"""Floor 6: tasks that were learned, each by revision and learner, as many as there is room for.

They are derived: from the examples in the database any replica learns the same. Learned once, a task answers without
looking at its examples again. A learner is shared by all tasks that it learned, so that they can be answered together.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from quickstudy.episode import map_leaves
from quickstudy.errors import InputError, QuickstudyError
from quickstudy.estimators.answering import Answering
from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.together import answer_together, share_learner
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.states import map_state
from quickstudy.serve.content import Decoder
from quickstudy.serve.errors import Refused
from quickstudy.serve.learners import Roster
from quickstudy.serve.metrics import Metrics
from quickstudy.serve.records import Example, Task
from quickstudy.serve.store import Store

__all__ = ["LEARNS", "Brain", "Brains", "not_ready"]

_Key: TypeAlias = tuple[str, int, str]
LEARNS = "quickstudy-learns"
_BYTES = 1024 * 1024 * 1024  # of all tasks that are kept


@dataclass(eq=False)
class Brain:
    """A task that was learned.

    Args:
        task: as it was.
        ids: of its examples, in the order in which the learner saw them.
        answering: the classifier.
        rate: samples a second, of sounds.
        seconds: that it took to learn.
    """

    task: Task
    ids: Sequence[str]
    answering: Answering
    rate: int
    seconds: float
    _axes: tuple[Tensor, Tensor] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Of the learner."""
        return self.answering.model.chosen_.name

    @cached_property
    def losses(self) -> list[float] | None:
        """Of the labelled examples, before each inner step and after the last; None: it learns otherwise."""
        return self.answering.model.support_losses()

    @cached_property
    def bytes(self) -> int:
        """Of memory that it takes: its examples, their features, and what they taught."""
        model, sizes = self.answering.model, [self.answering.known.nbytes]

        def noted(leaf: Tensor) -> Tensor:
            sizes.append(leaf.nbytes)
            return leaf

        map_leaves(noted, model.support_)
        with contextlib.suppress(InputError):  # what a state of another package's learner is made of is not known
            map_state(noted, model.state_)
        return sum(sizes)

    def places(self, features: Tensor) -> NDArray[np.float64]:
        """Where features ``[n, D]`` lie in the plane in which the labelled examples differ most, in -1..1, ``[n, 2]``.

        The plane is that of the labelled examples' two principal components: a query moves none of them.
        """
        if self._axes is None:
            self._axes = _plane(self.answering.known)
        middle, axes = self._axes
        found: NDArray[np.float64] = ((features.double() - middle) @ axes).clamp(-1, 1).numpy()
        return found


def _plane(known: Tensor) -> tuple[Tensor, Tensor]:
    """The middle ``[D]`` and two axes ``[D, 2]``, so long that the examples reach 0.9."""
    middle = known.mean(0)
    _, _, axes = torch.linalg.svd(known - middle, full_matrices=False)
    axes = torch.cat([axes, torch.zeros(2, known.shape[1], dtype=axes.dtype)])[:2].T
    largest = axes.abs().argmax(0)  # an axis has two ends: the same one each time
    axes = axes * torch.sign(axes[largest, torch.arange(2)])
    reach = float(((known - middle) @ axes).abs().max())
    return middle, axes * (0.9 / max(reach, 1e-12))


class Brains:
    """Learns tasks, in one thread, and keeps what was learned.

    Args:
        store: of the tasks.
        roster: of the learners.
        metrics: of the service.
        most: learned tasks to keep.
    """

    def __init__(self, store: Store, roster: Roster, metrics: Metrics, most: int) -> None:
        self._store, self._roster, self._metrics, self._most = store, roster, metrics, most
        self.decoder = Decoder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=LEARNS)
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Brain] = OrderedDict()
        self._held = 0  # bytes of those
        self._coming: dict[_Key, Future[Brain]] = {}
        self._learners: dict[tuple[Any, ...], AbstractLearner] = {}

    def of(self, task: Task, learner: str | None = None) -> Brain | Future[Brain]:
        """A learned task, or what will be one.

        Args:
            task: as it is now.
            learner: a name; None: the task's own.
        """
        key = (task.id, task.revision, learner or task.asked)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            if key not in self._coming:
                self._coming[key] = self._thread.submit(self._learn, task.owner, key, learner is None)
            return self._coming[key]

    def knows(self, task: Task, learner: str | None = None) -> bool:
        """Whether a task was learned, or is being learned, at its revision."""
        key = (task.id, task.revision, learner or task.asked)
        with self._lock:
            return key in self._known or key in self._coming

    def warm(self, loaded: Callable[[], object] | None = None) -> Future[None]:
        """Load what is loaded once, before somebody waits for it.

        Args:
            loaded: is called then.
        """
        return self._thread.submit(self._warm, loaded)

    def _warm(self, loaded: Callable[[], object] | None) -> None:
        self._roster.about()
        for X in ([Image.new("L", (28, 28), shade) for shade in (0, 255)], ["one", "two"]):
            model = FewShotClassifier().fit(X, ["a", "b"])
            self._share(model)
            Answering(model).answers(answer_together([Answering(model).asked(X)])[0])
        if loaded is not None:
            loaded()

    def close(self) -> None:
        """Begin nothing more. What is being learned is derived, and not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _learn(self, owner: str, key: _Key, own: bool) -> Brain:
        try:
            # It may be at a later revision by now, which somebody waited for before, and may have another learner.
            there = self._store.task(owner, key[0], classes=False)
            with self._lock:
                known = self._known.get((there.id, there.revision, there.asked if own else key[2]))
            if known is not None:
                return known
            task, examples = self._store.everything(owner, key[0])
            asked = task.asked if own else key[2]
            brain = self._learned(task, examples, asked)
            size = brain.bytes  # computed here, where nobody else waits for it
        finally:
            with self._lock:
                self._coming.pop(key, None)
        with self._lock:
            self._known[task.id, task.revision, asked] = brain
            self._held += size
            while len(self._known) > self._most or (self._held > _BYTES and len(self._known) > 1):
                self._held -= self._known.popitem(last=False)[1].bytes
            self._metrics.models.set(len(self._known))
        return brain

    def _learned(self, task: Task, examples: Sequence[Example], asked: str) -> Brain:
        if not task.full:
            raise not_ready(task)
        began, rate = time.perf_counter(), self._roster.rate(asked)
        own = asked == task.asked
        try:
            X: Any = [self.decoder.read(one.media, one.content or b"", rate, one.id) for one in examples]
            model = FewShotClassifier(
                learner=self._roster.learner(asked),
                reject_unknown=task.reject_unknown,
                rate=rate if task.kind == "sounds" else None,
            )
            model.fit(np.array(X) if task.kind == "rows" else X, [one.label for one in examples])
        except (QuickstudyError, ValueError) as error:
            if own:
                self._store.note_learned(task.id, task.revision, None, str(error), False)
            raise Refused(422, str(error), "cannot_learn") from error
        self._share(model)
        model.name_examples([one.id for one in examples])
        seconds = time.perf_counter() - began
        name = self._roster.called(asked, model.chosen_.name)
        self._metrics.learned.labels(name).inc()
        self._metrics.learning.observe(seconds)
        if own:
            self._store.note_learned(task.id, task.revision, name, model.chosen_.why, True)
        return Brain(task, [one.id for one in examples], Answering(model), rate, seconds)

    def _share(self, model: FewShotClassifier) -> None:
        """One object for all tasks of a learner: they can be answered together, and memory is spared."""
        chosen = model.chosen_
        whose = chosen.saved.digest if chosen.saved is not None else chosen.made
        dtypes = sorted({str(one.dtype) for one in chosen.learner.parameters()})
        key = (whose, type(chosen.learner), *dtypes)
        share_learner(model, self._learners.setdefault(key, chosen.learner))


def not_ready(task: Task) -> Refused:
    """Why a task of one class, or of none, is not learned."""
    there = ", ".join(map(repr, task.classes)) or "none"
    return Refused(
        409,
        f"This task cannot answer yet: it needs examples of at least two classes, and has {there}. Add some first.",
        "not_ready",
    )
