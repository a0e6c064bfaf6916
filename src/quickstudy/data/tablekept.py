"""Floor 1: what a run keeps of the table that it was trained on, to read any table as it read that one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quickstudy.data.grouptasks import Asked
from quickstudy.data.tablecoding import Coding
from quickstudy.data.tablefile import Column
from quickstudy.errors import DataError, InputError

__all__ = ["Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run knows of the table that it was trained on.

    Args:
        source: its file.
        group: the column that said whose row it is; None where groups are no column.
        coding: of its columns.
        classes: of its target; None for numbers.
        mean: of its target.
        std: likewise.
        parts: group -> its role, of those that train or validate.
    """

    source: str
    group: str | None
    coding: Coding
    classes: tuple[str, ...] | None
    mean: float
    std: float
    parts: Mapping[str, str]

    @staticmethod
    def of(measured: Mapping[str, Any], divided: Mapping[str, Sequence[str]]) -> Trained:
        """From the records of a run."""
        target = measured["target"]
        classes = tuple(map(str, target["classes"])) if "classes" in target else None
        scale = (0.0, 1.0) if classes is not None else (float(target["mean"]), float(target["std"]))
        parts = {name: role for role in ("train", "validation") for name in divided.get(role, ())}
        return Trained(
            str(measured["source"]), measured.get("group"), Coding.of_record(measured), classes, *scale, parts
        )

    def words(self, target: str) -> dict[str, bool]:
        """Column -> whether it is one of words; and the target, whatever it is called now.

        Raises:
            InputError: the run was told this column.
        """
        if any(scale.name == target for scale in self.coding.scales):
            raise InputError(
                f"Cannot ask for {target!r}: it is a column that the run was trained to know, not its target. Leave "
                "the target as it is, or train anew."
            )
        return {s.name: s.words is not None for s in self.coding.scales} | {target: self.classes is not None}

    def roles(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Role -> its groups among these."""
        found: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for name in names:
            found[self.parts.get(name, "test")].append(name)
        return found

    def asked(self, source: str, column: Column) -> Asked:
        """The target in the run's units, or by the run's classes.

        Raises:
            DataError: a class that the run does not know.
        """
        if self.classes is None:
            return Asked(column.values, None, self.mean, self.std)
        words = column.words or ()
        new = [word for word in words if word not in self.classes]
        if new:
            raise DataError(
                f"Cannot use {source}: {column.name!r} has the class {new[0]!r}, and the run was trained on "
                f"{', '.join(map(repr, self.classes))}. Write classes as they were then, or train anew."
            )
        # A target that is missing, as it is asked for, is the last of these.
        number = np.array([*(self.classes.index(word) for word in words), -1], dtype=np.int64)
        return Asked(number[np.nan_to_num(column.values, nan=-1.0).astype(np.int64)], self.classes)
