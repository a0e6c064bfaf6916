"""What tests of the training loop share: small tasks that say which they are, and how to compare two runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.keys import Integers, Key, integers
from quickstudy.train import Silent, StepEvent
from tests.table import tasks


class Small(TaskSource):
    """Tasks whose first input is the task's own number, so that a test sees which were drawn."""

    def __init__(self, target: str = "classes", poison: int | None = None) -> None:
        self.target, self.poison, self.drawn = target, poison, list[int]()

    @property
    def shape(self) -> TaskShape:
        return TaskShape((4,), self.target, 3)  # type: ignore[arg-type]

    @property
    def hash(self) -> str:
        return "small"

    @property
    def settings(self) -> dict[str, Any]:
        return {"data": "small", "split": "train", "seed": 0}

    def episodes(self, indices: range | Integers) -> Episode:
        self.drawn += list(indices)
        template = tasks(self.target, n_task=1)
        parts = []
        for part, name in ((template.support, "s"), (template.query, "q")):
            rows = []
            for i in indices:
                words = Key.of(int(i), name).bits(torch.zeros(1).long().numpy(), part.n_example * 4)
                noise = torch.from_numpy(integers(words, 1000)).reshape(1, -1, 4) / 500.0 - 1
                assert isinstance(part.x, Tensor)
                x = part.x + noise
                if i == self.poison:
                    x = x.masked_fill(torch.ones_like(x, dtype=torch.bool), float("nan"))
                rows.append(Examples(x, part.y, part.target))
            parts.append(Examples.stack(rows))
        return Episode(parts[0], parts[1], index=torch.as_tensor(list(indices)))


def weights(learner: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def metrics(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class StopAfter(Silent):
    """Ctrl-C, as the terminal sends it, during a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, event: StepEvent) -> None:
        if event.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)
