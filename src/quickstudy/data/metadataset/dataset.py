"""Floor 1: the data set ``meta-dataset``: the ten data sets as records, by the protocols of its leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from quickstudy.data.big.abstract import check_ahead
from quickstudy.data.counts import Count, bounds
from quickstudy.data.dataset import check_role
from quickstudy.data.metadataset.convert import RECORDS
from quickstudy.data.metadataset.episodes import Member, MetaDatasetTasks
from quickstudy.data.metadataset.sampling import Rules, Sampler, pool_of
from quickstudy.data.metadataset.specs import COUNTS, SPEC, check_published, spec_of
from quickstudy.data.metadataset.stores import RecordFolder
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.files import data_root

__all__ = ["PROTOCOLS", "MetaDataset", "check_each_once", "rules_of"]

PROTOCOLS = {
    "imagenet": ("ilsvrc_2012",),
    "all": tuple(name for name, (train, _, _) in COUNTS.items() if train),
}
"""Name of a leaderboard -> what is trained on. Models are selected on ILSVRC's validation classes."""


def rules_of(way: Count | None, shot: Count, query: Count, *, hierarchy: bool = True, least: int = 0) -> Rules:
    """What a recipe's sizes mean here: a number fixes, a range from 1 on draws as published, up to its end.

    Args:
        way: classes of an episode; None: 5 to 50.
        shot: of each class so many; or (1, most that a class adds to the size of the support set), published as 100.
        query: of each class so many; or (1, most), published as 10.
        hierarchy: whether groups and graphs are followed.
        least: classes with fewer examples are left out.

    Raises:
        InputError: a size makes no sense here.
    """
    shots, queries, ways = bounds("shot", shot), bounds("query", query), (5, 50) if way is None else bounds("way", way)
    for name, ends in (("shot", shots), ("query", queries)):
        if ends[0] != ends[1] and ends[0] != 1:
            raise InputError(
                f"Cannot draw episodes of Meta-Dataset with {name} = {list(ends)}: how many examples a class gets "
                f"follows from its size. Give [1, most], as published: shot = [1, 100], query = [1, 10]; or one number."
            )
    fixed_shots, fixed_queries = (ends[0] if ends[0] == ends[1] else None for ends in (shots, queries))
    return Rules(
        ways=ways,
        query=queries[1],
        contribution=shots[1],
        shots=fixed_shots,
        queries=fixed_queries,
        hierarchy=hierarchy,
        least=least,
    )


def check_each_once(names: Sequence[str]) -> None:
    """Refuse a data set that is named twice: it would be drawn twice as often, and its classes would have two numbers.

    Raises:
        InputError: there is one.
    """
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(f"Cannot take {name} twice: all data sets are equally likely. Name each of them once.")


class MetaDataset:
    """Ten data sets, of which each task takes one (Triantafillou et al., ICLR 2020). See docs/meta-dataset.md.

    Records are read as the official conversion, or ``quickstudy convert``, wrote them. In training, and in validation,
    all data sets are equally likely; tasks of the test are of one of them.

    Args:
        root: the data root; by default QUICKSTUDY_DATA or the platform's data folder.
        protocol: ``"imagenet"``: ILSVRC 2012 is trained on; ``"all"``: the eight that have training classes.
        datasets: what is trained on, instead.
        validate: what is validated on; by default ILSVRC 2012, where it is trained on, else what is trained on.
        test: which data set is tested on; by default the first that is trained on.
        records: the folder with a folder of records for each data set; by default ``meta-dataset`` below the data root.
        size: pixels along a side.
        hierarchy: whether Omniglot's tasks are of one alphabet, and ILSVRC's of one node of its graph.
        least: classes with fewer pictures are left out.
        ahead: how many steps are read ahead while the learner computes; 0: none.

    Raises:
        UnknownName: no such data set.
        InputError: an option makes no sense, or a data set is named twice.
    """

    name = "meta-dataset"
    splits = ("train", "validation", "test")

    def __init__(
        self,
        root: Path | None = None,
        *,
        protocol: Literal["imagenet", "all"] = "imagenet",
        datasets: tuple[str, ...] = (),
        validate: tuple[str, ...] = (),
        test: str | None = None,
        records: Path | None = None,
        size: int = 84,
        hierarchy: bool = True,
        least: int = 0,
        ahead: int = 2,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise UnknownName.among("protocol of Meta-Dataset", protocol, PROTOCOLS)
        self.trained = tuple(datasets) or PROTOCOLS[protocol]
        self.validated = tuple(validate) or self._usual_validation()
        self.tested = test or self.trained[0]
        for name in (*self.trained, *self.validated, self.tested):
            if name not in COUNTS:
                raise UnknownName.among("data set of Meta-Dataset", name, COUNTS)
        for names in (self.trained, self.validated):
            check_each_once(names)
        if not 1 <= size <= 1024:
            raise InputError(
                f"Cannot make pictures with size = {size!r}: expected a whole number from 1 to 1024 pixels."
            )
        check_ahead(ahead)
        self.size, self.hierarchy, self.least, self._ahead = size, hierarchy, least, ahead
        self._root, self._records = root, records

    def _usual_validation(self) -> tuple[str, ...]:
        if "ilsvrc_2012" in self.trained:
            return ("ilsvrc_2012",)
        return tuple(name for name in self.trained if COUNTS.get(name, (0, 1, 0))[1]) or self.trained

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, size, size)."""
        return (3, self.size, self.size)

    @property
    def folder(self) -> Path:
        """Where the records are looked for."""
        return data_root(self._root) / RECORDS if self._records is None else Path(self._records).expanduser()

    @property
    def divided(self) -> Mapping[str, list[str]]:
        """Role -> the classes that it draws from, each with its data set; kept with each run."""
        parts = {"train": self.trained, "validation": self.validated, "test": (self.tested,)}
        found: dict[str, list[str]] = {}
        for role, names in parts.items():
            for name in names:
                spec = self._folders[name].spec if name in self._present else None
                if spec is not None:
                    classes = [f"{name}/{number:05} {spec.classes[number]}" for number in spec.parts[role]]
                    found[role] = found.get(role, []) + classes
        return found

    @property
    def _present(self) -> tuple[str, ...]:
        return tuple(name for name in COUNTS if (self.folder / name / SPEC).is_file())

    @cached_property
    def _folders(self) -> dict[str, RecordFolder]:
        return {name: RecordFolder(self.folder / name) for name in COUNTS}

    def tasks(
        self,
        role: str,
        *,
        shot: Count = (1, 100),
        query: Count = (1, 10),
        seed: int,
        way: Count | None = None,
    ) -> MetaDatasetTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks` and :func:`rules_of` for the sizes.

        Raises:
            UnknownName: it has no such role.
            InputError: a size makes no sense, or a data set has no classes, or too few, for this role.
            DataError: records are missing or damaged.
        """
        check_role(self, role)
        names = {"train": self.trained, "validation": self.validated, "test": (self.tested,)}[role]
        rules = rules_of(way, shot, query, hierarchy=self.hierarchy, least=self.least)
        self._refuse_missing(names, role)
        members = [self._member(name, role, rules) for name in names]
        return MetaDatasetTasks(members, data=self.name, split=role, seed=seed, about=rules.settings)

    def _member(self, name: str, role: str, rules: Rules) -> Member:
        folder = self._folders[name]
        advice = f"Move the folder to where its name says what it holds, or convert {name} again."
        check_published(folder.spec, name, folder.folder / SPEC, advice)
        part = folder.spec.parts[role]
        # Before the store, whose index may take long: what cannot be drawn is said at once.
        sampler = Sampler(pool_of(folder.spec, role), rules)
        return Member(name, sampler, folder.store(self.size, self._ahead), np.arange(part.start, part.stop))

    def _refuse_missing(self, names: Sequence[str], role: str) -> None:
        missing = [name for name in names if name not in self._present]
        for name in missing:
            if any((self.folder / name).glob("*.tfrecords")):
                spec_of(self.folder / name)  # says what is wrong with a folder of records that has no specification
        if missing:
            here = f"those of {', '.join(self._present)}" if self._present else "none at all"
            raise DataError(
                f"Cannot find the records of {', '.join(missing)} that {self.name}/{role} needs: {self.folder} has "
                f"{here}. Convert them, each with `quickstudy convert {missing[0]} FOLDER`, say where they are "
                "(--data.records), or name those that are there (--data.datasets, --data.test)."
            )
