"""What a step will need of memory, said before it is begun."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from quickstudy import api, memoryneed, memorythere
from quickstudy.memoryneed import MemoryNeed, memory_need
from quickstudy.memorythere import memory_there
from quickstudy.recipes import build, load_recipe

CPU = torch.device("cpu")
GIB = 1 << 30


def need(processes: int = 1, **changes: Any) -> MemoryNeed:
    """Of a small recipe, with changes: ``learner_inner_steps=5``."""
    named = {name.replace("_", ".", 1).replace("_", "-"): value for name, value in changes.items()}
    built = build(load_recipe("sinusoid-maml", {"train.tasks-per-step": 8} | named), None)
    found = memory_need(built, CPU, processes)
    assert found is not None
    return found


def test_it_grows_with_the_tasks_that_are_computed_together_and_with_what_is_kept_of_the_weights() -> None:
    whole, half = need(), need(train_tasks_at_once=4)
    assert whole.task == half.task > 0 and (whole.tasks, half.tasks) == (8, 4)
    weights = 4 * (40 + 40 + 40 * 40 + 40 + 40 + 1)
    assert whole.fixed == 4 * weights  # themselves, their gradient, Adam's two moments
    assert need(train_average={"name": "ema"}).fixed == 5 * weights
    assert need(train_optimizer="sgd").fixed == 3 * weights
    assert need(3).tasks == 3 and need(3).total == 3 * (need(3).fixed + 3 * need(3).task)


def test_ranks_of_other_machines_need_none_of_this_ones_memory() -> None:
    built = build(load_recipe("sinusoid-maml", {"train.tasks-per-step": 8}), None)
    found = memory_need(built, CPU, 4, here=2)
    assert found is not None and (found.tasks, found.processes) == (2, 2)
    assert found.total == 2 * (found.fixed + 2 * found.task)


def test_it_is_measured_in_the_precision_of_the_steps() -> None:
    """Of few rows, with casts of weights beside them, shorter numbers need more."""
    assert need().task < need(train_precision="bf16").task < need(train_precision="float64").task


def test_more_inner_steps_need_more_and_first_order_less() -> None:
    one, five = (need(learner_inner_steps=steps).task for steps in (1, 5))
    assert five > 2 * one
    assert need(learner_inner_steps=5, learner_first_order=True).task < five / 2


def test_what_is_said() -> None:
    assert MemoryNeed(GIB, GIB, 4, 1, 100 * GIB).sentence == "memory: a step needs at least 5 GiB."
    assert MemoryNeed(GIB, GIB, 4, 1, None).sentence == "memory: a step needs at least 5 GiB."
    short = MemoryNeed(GIB, GIB, 16, 2, 20 * GIB).sentence
    assert short is not None
    assert short.endswith(
        "at least 34 GiB, and 20 GiB are free; compute fewer tasks together: --train.tasks-at-once 5."
    )
    hopeless = MemoryNeed(30 * GIB, GIB, 4, 2, 20 * GIB).sentence
    assert hopeless is not None
    assert hopeless.endswith("it may end for want of memory. Take fewer ranks, or smaller tasks.")
    assert MemoryNeed(1.0, 1.0, 4, 1, 1).sentence is None


def test_free_memory_is_known_here() -> None:
    there = memory_there(CPU)
    assert there is None or 1 << 20 < there < 1 << 50


@pytest.mark.parametrize(
    ("line", "where", "files"),
    [
        ("0::/job/step", "job", {"memory.max": "3000", "memory.current": "1500", "memory.stat": "inactive_file 500"}),
        ("0::/job/step", ".", {"memory.max": "3000", "memory.current": "1000", "memory.stat": ""}),
        (
            "5:cpu,memory:/job/step",
            "memory/job/step",
            {"memory.limit_in_bytes": "3000", "memory.usage_in_bytes": "1000", "memory.stat": "x 1"},
        ),
    ],
    ids=["the group above", "a container", "version 1"],
)
def test_a_container_has_no_more_than_its_limit(
    line: str, where: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor has a job of a batch system, whose limit stands above its steps; what files take there can be had."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"7:cpuset:/other\n{line}\n")
    (tmp_path / "cgroup/job/step").mkdir(parents=True)
    (tmp_path / "cgroup/job/step/memory.max").write_text("max")
    (tmp_path / "cgroup" / where).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (tmp_path / "cgroup" / where / name).write_text(text)
    monkeypatch.setattr(memorythere, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memorythere, "_CGROUP", tmp_path / "cgroup")
    assert memory_there(CPU) == 2000


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is Linux's")
def test_a_process_has_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    used = memorythere._kilobytes(Path("/proc/self/status"), "VmSize:")
    assert used is not None
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used + (100 << 20), resource.RLIM_INFINITY))
    there = memory_there(CPU)
    assert there is not None and 0 <= there <= 101 << 20


def test_what_is_not_trained_on_tasks_is_not_measured() -> None:
    built = build(load_recipe("sinusoid-maml", {"train.steps": 0}), None)
    assert memory_need(built, CPU, 1) is None
    built = build(load_recipe("sinusoid-maml"), None)
    built.learner.meta_loss = lambda *_, **__: 1 / 0  # type: ignore[method-assign,assignment]
    assert memory_need(built, CPU, 1) is None


def test_a_run_says_it_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(memoryneed, "_WORTH_SAYING", 0)
    monkeypatch.setattr(memoryneed, "memory_there", lambda device: 100_000)
    with caplog.at_level(logging.WARNING):
        run = api.train("sinusoid-maml", overrides={"train.steps": 2}, runs=tmp_path, device="cpu")
    assert "memory: a step needs at least" in caplog.text and "--train.tasks-at-once" in caplog.text
    about = json.loads((run.path / "environment.json").read_text())
    assert about["memory_need"] > about["memory_a_task"] > 0
