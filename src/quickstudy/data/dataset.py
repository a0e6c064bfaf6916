"""Floor 1: what every data set offers to those who build tasks from a name."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from quickstudy.data.counts import Count
from quickstudy.data.source import TaskSource
from quickstudy.errors import UnknownName

__all__ = ["DataSet", "check_role"]


@runtime_checkable
class DataSet(Protocol):
    """A named source of tasks for meta-training, meta-validation and meta-testing.

    Reading or making the data waits for the first call of :meth:`tasks`, so that a data set can be described
    where its files are not.
    """

    @property
    def name(self) -> str:
        """Its name in the registry, such as ``"omniglot"``."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The roles it can play, of ``"train"``, ``"validation"``, ``"test"``, ``"train+validation"``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example as a network receives it; pictures have their channel axis."""

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> TaskSource:
        """Tasks of one role; no class or function of one role occurs in another.

        A data set of classes may take one more argument, ``dirichlet``: the concentration of the classes' shares of the
        queries; see :class:`quickstudy.data.ClassTasks`.

        Args:
            role: one of :attr:`splits`.
            shot: support examples a class; a number or a range (low, high), both ends included.
            query: query examples a class, likewise.
            seed: tells sources of the same kind apart.
            way: classes a task, likewise; None for tasks that have no classes.

        Raises:
            UnknownName: it has no such role.
            InputError: a number does not fit, such as a way larger than the classes there are.
            DataError: its files are missing, incomplete or corrupt.
        """


def check_role(data_set: DataSet, role: str) -> None:
    """Refuse a role that ``data_set`` does not have.

    Raises:
        UnknownName: naming the nearest that it has.
    """
    if role not in data_set.splits:
        raise UnknownName.among(f"split of {data_set.name}", role, data_set.splits)
