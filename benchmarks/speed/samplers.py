"""Drawing tasks from uint8 pictures in memory: quickstudy and the samplers of other libraries.

The check is made on pictures that name themselves: pixel 0 is the class, pixel 1 the example within it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.speed.jobs import Draw, Job, Setting

__all__ = [
    "by_easyfsl",
    "by_learn2learn",
    "by_quickstudy",
    "by_torchmeta",
    "flat",
    "learn2learn_tasks",
    "torchmeta_batches",
]

SIDE = 28
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support x and y, query x and y of one task, or of several with a leading axis."""


@dataclass(frozen=True, eq=False)
class _Pool:
    """Pictures of C classes of equal size.

    Args:
        images: uint8 ``[C, K, 28, 28]``.
    """

    images: NDArray[np.uint8]

    @staticmethod
    def of(setting: Setting) -> _Pool:
        """Omniglot's training characters; without a data root, 40 classes that name themselves."""
        if setting.data_root is not None:
            from quickstudy.data.omniglot import Omniglot

            data = Omniglot(setting.data_root, rotations="none")
            return _Pool(np.stack([np.asarray(data.store.of(number)) for number in data.classes("train")]))
        images = np.zeros((40, 20, SIDE, SIDE), dtype=np.uint8)
        images[:, :, 0, 0] = np.arange(40)[:, None]
        images[:, :, 0, 1] = np.arange(20)
        return _Pool(images)


class _Flat(Dataset[tuple[Tensor, int]]):
    """(picture, class) pairs in memory, as learn2learn and easyfsl want them."""

    def __init__(self, pool: _Pool) -> None:
        n_class, each = pool.images.shape[:2]
        self.images = torch.from_numpy(pool.images).flatten(0, 1)
        self.labels: list[int] = np.repeat(np.arange(n_class), each).tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]

    def get_labels(self) -> list[int]:
        """The class of every example (easyfsl asks for it)."""
        return self.labels


def _a_unit(setting: Setting, tasks: Iterator[Drawn]) -> Draw:
    """So many tasks of an endless iterator, one after the other, as its library hands them out."""
    return lambda: list(itertools.islice(tasks, setting.n_task))


def _sampler_takes_an_argument() -> None:
    """What easyfsl and torchmeta need: they pass torch's Sampler an argument, which it takes no more."""
    torch.utils.data.Sampler.__init__ = lambda self, data_source=None: None  # type: ignore[method-assign, misc]


def by_quickstudy(setting: Setting) -> Job:
    """quickstudy: all tasks of a unit at once."""
    from quickstudy.data.classtasks import ClassTasks
    from quickstudy.data.store import ArrayStore

    workload, pool = setting.workload, _Pool.of(setting)
    store = ArrayStore.from_classes({str(number): pictures for number, pictures in enumerate(pool.images)})
    sizes: dict[str, Any] = {"way": workload.way, "shot": workload.shot, "query": workload.query}
    source = ClassTasks(store, range(len(pool.images)), data="omniglot", split="train", seed=0, **sizes)
    numbers = itertools.count(0, setting.n_task)

    def step() -> list[Tensor]:
        first = next(numbers)
        episode = source.episodes(range(first, first + setting.n_task))
        parts = (episode.support.x, episode.support.y, episode.query.x, episode.query.y)
        return [part for part in parts if isinstance(part, Tensor)]

    return step


def flat(images: NDArray[np.uint8]) -> _Flat:
    """(picture, class) pairs of pictures ``[C, K, 28, 28]``."""
    return _Flat(_Pool(images))


def learn2learn_tasks(data: Dataset[tuple[Tensor, int]], way: int, shot: int, query: int) -> Iterator[Drawn]:
    """Endless tasks of learn2learn's transforms; support and query are parted as in its examples."""
    import learn2learn as l2l

    dataset, each = l2l.data.MetaDataset(data), shot + query
    transforms = [
        l2l.data.transforms.NWays(dataset, way),
        l2l.data.transforms.KShots(dataset, each),
        l2l.data.transforms.LoadData(dataset),
        l2l.data.transforms.RemapLabels(dataset),
        l2l.data.transforms.ConsecutiveLabels(dataset),
    ]
    taskset = l2l.data.Taskset(dataset, transforms, num_tasks=-1)
    in_support = torch.arange(way * each) % each < shot
    while True:
        x, y = taskset.sample()
        yield x[in_support], y[in_support], x[~in_support], y[~in_support]


def by_learn2learn(setting: Setting) -> Draw:
    """learn2learn: a set of tasks with its transforms."""
    workload = setting.workload
    tasks = learn2learn_tasks(_Flat(_Pool.of(setting)), workload.way, workload.shot, workload.query)
    return _a_unit(setting, tasks)


def by_easyfsl(setting: Setting) -> Draw:
    """easyfsl: its sampler of tasks in torch's loader."""
    from easyfsl.samplers import TaskSampler

    workload = setting.workload
    _sampler_takes_an_argument()
    dataset = _Flat(_Pool.of(setting))
    sampler = TaskSampler(dataset, workload.way, workload.shot, workload.query, n_tasks=1 << 30)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=0, collate_fn=sampler.episodic_collate_fn)
    return _a_unit(setting, ((sx, sy, qx, qy) for sx, sy, qx, qy, _ in loader))


def torchmeta_batches(images: Tensor, way: int, shot: int, query: int, *, at_once: int) -> Iterator[dict[str, Any]]:
    """Endless batches of tasks from torchmeta's loader: combinations of class data sets, split class by class.

    Args:
        images: uint8 ``[C, K, 28, 28]``.
        way: classes a task.
        shot: support examples a class.
        query: query examples a class.
        at_once: tasks a batch.
    """
    from torchmeta.transforms import Categorical, ClassSplitter
    from torchmeta.utils.data import BatchMetaDataLoader, ClassDataset, CombinationMetaDataset
    from torchmeta.utils.data import Dataset as TorchmetaDataset
    from torchmeta.utils.data.task import SubsetTask

    _sampler_takes_an_argument()
    # torch 2.13 asks a subset that overrides __getitem__ for this as well.
    SubsetTask.__getitems__ = lambda self, rows: [self[row] for row in rows]

    class OfOneClass(TorchmetaDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return int(images.shape[1])

        def __getitem__(self, index: int) -> tuple[Tensor, Any]:
            target = self.index if self.target_transform is None else self.target_transform(self.index)
            return images[self.index, index], target

    class OfAll(ClassDataset):  # type: ignore[misc]
        @property
        def num_classes(self) -> int:
            return int(images.shape[0])

        def __getitem__(self, index: int) -> OfOneClass:
            return OfOneClass(index)

    every = CombinationMetaDataset(OfAll(meta_train=True), way, target_transform=Categorical(num_classes=way))
    parted = ClassSplitter(every, shuffle=True, num_train_per_class=shot, num_test_per_class=query)
    return iter(BatchMetaDataLoader(parted, batch_size=at_once, num_workers=0))


def by_torchmeta(setting: Setting) -> Draw:
    """torchmeta: its loader, a batch of tasks at a time."""
    workload, images = setting.workload, torch.from_numpy(_Pool.of(setting).images)

    def tasks() -> Iterator[Drawn]:
        for batch in torchmeta_batches(images, workload.way, workload.shot, workload.query, at_once=16):
            yield from zip(*batch["train"], *batch["test"], strict=True)

    return _a_unit(setting, tasks())
