"""Floor 6: over how many ranks a run is divided, and why.

``"auto"`` does not look at a clock, so that the same run is divided in the same way again: it counts the arithmetic of
one task (multiplications and additions of matrix products and convolutions, forwards and backwards) and multiplies. The
limits below come from ``benchmarks/ranks.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import Built
from quickstudy.train.contexts import global_generators, training_mode
from quickstudy.train.ranks_state import goes_from_task_to_task

__all__ = ["RankCount", "Ranks", "ranks_to_test", "ranks_to_train", "threads_of_a_rank"]

Ranks: TypeAlias = int | Literal["auto"]

LEAST_IN_ALL = 1e12
"""Operations below which a run ends before starting other processes has paid."""

LEAST_A_STEP = 5e8
"""Operations of a step below which ranks spend their time on telling each other what they found."""


MOST_A_CORE = 8
"""Ranks of a core; more wait for each other, and fill the memory."""


@dataclass(frozen=True)
class RankCount:
    """A number of ranks.

    Args:
        number: how many.
        why: in a few words.
    """

    number: int
    why: str

    def __str__(self) -> str:
        return f"ranks: {self.number} ({self.why})"

    @property
    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"ranks": self.number, "ranks_why": self.why}


def ranks_to_train(asked: Ranks | None, built: Built, device: torch.device, before: int | None) -> RankCount:
    """Over how many ranks the steps of a run are divided.

    Args:
        asked: a number, ``"auto"``, or None for one.
        built: what is trained.
        device: where.
        before: by how many the run was trained that goes on, None for a new one.

    Raises:
        InputError: that many cannot be had.
    """
    train = built.recipe.train
    if not train.steps and built.pretrain is None:
        return RankCount(1, "nothing to train")
    if before is not None and asked in (None, "auto"):
        return _checked(RankCount(before, "as many as before"), device)
    if asked != "auto":
        found = _checked(RankCount(1 if asked is None else asked, "as asked for"), device)
        return found if built.batches is not None else _with_idle(found, train.tasks_per_step)
    if device.type != "cpu":
        return RankCount(1, "one device; more only where they are asked for")
    if built.batches is not None or not train.steps:
        return RankCount(1, "plain labelled batches are not divided" if train.steps else "nothing to train")
    if goes_from_task_to_task(built.learner):
        return RankCount(1, "each task goes on from what the one before it left, so ranks would take turns")
    if built.learner.traits.together:
        return RankCount(1, "its step is one computation over all tasks")
    most, each = min(_processes(), train.tasks_per_step), training_work(built)
    return _where_it_pays(most, each * train.tasks_per_step, train.steps, "step")


def ranks_to_test(
    asked: Ranks | None, learner: AbstractLearner, source: TaskSource, episodes: int, device: torch.device
) -> RankCount:
    """Over how many ranks a meta-test is divided; see :func:`ranks_to_train`."""
    if asked != "auto":
        return _checked(RankCount(1 if asked is None else asked, "as asked for"), device)
    if device.type != "cpu":
        return RankCount(1, "one device; more only where they are asked for")
    with evaluating(learner):
        each = _operations(lambda: answer(learner, source.episodes(range(1))))
    return _where_it_pays(min(_processes(), episodes), each, episodes, "episode")


def threads_of_a_rank(number: int) -> int:
    """Threads of one operation: what OMP_NUM_THREADS says, which the command line sets; else a share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max(1, _cores() // number)


def _checked(found: RankCount, device: torch.device) -> RankCount:
    number = found.number
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"ranks must be a whole number of at least 1, or 'auto', received {number!r}.")
    if number == 1:
        return found
    most = MOST_A_CORE * _cores()
    if device.type == "cpu" and number > most:
        raise InputError(
            f"Cannot divide the work over {number} ranks: each is a process with all weights, and this one may use "
            f"{_cores()} core{'' if _cores() == 1 else 's'}. Use at most {most}, or 'auto'."
        )
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"Cannot divide the work over {number} ranks on {device}: only on 'cpu' and 'cuda'.")
    if device.type == "cuda":
        there = torch.cuda.device_count()
        if device.index is not None:
            raise InputError(f"Each of {number} ranks has a GPU of its own, received {str(device)!r}. Say 'cuda'.")
        if there < number:
            raise InputError(
                f"Cannot divide the work over {number} ranks on {there} GPU{'' if there == 1 else 's'}: each rank has "
                f"one of its own. Use at most {there}."
            )
    return found


def _with_idle(found: RankCount, tasks: int) -> RankCount:
    """The same, and how many have no task in any step."""
    idle = found.number - tasks
    if idle < 1:
        return found
    step = f"a step has {tasks:,} task{'' if tasks == 1 else 's'}"
    return RankCount(found.number, f"{found.why}; {step}, so {idle:,} of them {'has' if idle == 1 else 'have'} none")


def _where_it_pays(most: int, work: float, times: int, what: str) -> RankCount:
    said = f"{work / 1e9:.3g} billion operations a {what}, {times:,} {what}s, {_cores()} cores"
    if most < 2:
        return RankCount(1, f"nothing to divide: {said}")
    if work < LEAST_A_STEP and what == "step":
        return RankCount(1, f"steps too small to divide: {said}")
    if work * times < LEAST_IN_ALL:
        return RankCount(1, f"too little in all to pay for starting processes: {said}")
    return RankCount(most, said)


def training_work(built: Built) -> float:
    """Operations of one task of meta-training, forwards and backwards."""
    learner = built.learner
    episode = built.train.episodes(range(1))
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    keys = Keys.default(1)

    def work() -> None:
        loss = learner.meta_loss(episode, key=keys).loss.sum()
        torch.autograd.grad(loss, trained, allow_unused=True)

    with training_mode(learner), global_generators(torch.device("cpu"), keys.key):
        return _operations(work)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what matrix products and convolutions cost."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: float = 0.0

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        cost = flop_registry.get(func.overloadpacket)
        if cost is not None:
            self.total += cost(*args, **(kwargs or {}), out_val=out)
        return out


def _operations(work: Callable[[], object]) -> float:
    """Multiplications and additions of what is done; nothing where it fails, which is then told by the run itself."""
    counting = _Counting()
    with counting:
        try:
            work()
        except Exception:  # whatever it is: the run meets it again, and there it is told
            return 0.0
    return counting.total


def _processes() -> int:
    return max(1, _cores() // threads_of_a_rank(_cores()))


def _cores() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)  # where the system knows which cores are ours
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
