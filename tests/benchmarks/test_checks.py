"""Who is timed: contestants whose float64 result is the reference's, samplers whose tasks are tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.speed import ours, reference, samplers
from benchmarks.speed.checks import differs, wrong_tasks
from benchmarks.speed.jobs import Make, Setting
from benchmarks.speed.workloads import find

Arrays = dict[str, NDArray[Any]]


def quick(id: str) -> Setting:
    """A workload in tiny sizes and float64."""
    workload = find(id).quick()
    return Setting(workload, workload.tasks, torch.float64, torch.device("cpu"))


def found(make: Make, setting: Setting) -> Arrays:
    return {str(number): part.numpy() for number, part in enumerate(make(setting)())}


@pytest.mark.parametrize(
    ("id", "mine", "theirs"),
    [
        ("W1", ours.maml, reference.by_gradients),
        ("W1", ours.adjoint, reference.by_gradients),
        ("W1m", ours.maml, reference.by_gradients),
        ("W2", ours.fomaml, reference.first_order),
        ("W3", ours.maml, reference.by_gradients),
        ("W3", ours.traced, reference.by_gradients),
        ("W4", ours.protonet, reference.by_prototypes),
        ("W5", ours.adapt, reference.logits),
        ("W8", ours.reptile, reference.by_reptile),
    ],
)
def test_ours_equals_the_reference(id: str, mine: Make, theirs: Make) -> None:
    setting = quick(id)
    assert differs(found(mine, setting), found(theirs, setting)) is None


@pytest.mark.parametrize("id", ["W1", "W3"])
def test_a_first_order_gradient_is_refused(id: str) -> None:
    setting = quick(id)
    why = differs(found(reference.first_order, setting), found(reference.by_gradients, setting))
    assert why is not None and "of the largest entry" in why


def test_parts_of_a_unit_add_up_to_it() -> None:
    setting = quick("W8")
    parts = [ours.reptile(replace(setting, part=part))() for part in (range(1), range(1, 3))]
    for whole, *shares in zip(ours.reptile(setting)(), *parts, strict=True):
        torch.testing.assert_close(sum(shares), whole, rtol=1e-12, atol=1e-14)


EXPECTED: Arrays = {"0": np.array(2.0), "1": np.array([1.0, -4.0]), "2": np.array([1e-6])}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"0": np.array(2.0 + 1e-8)}, "differs by 5.0e-09"),
        ({"2": np.array([2e-6])}, "differs by 2.5e-07"),
        ({"1": np.array([np.nan, -4.0])}, "differs by nan"),
        ({"1": np.array([1.0])}, "other shapes"),
        ({"1": np.array([1.0, -4.0], dtype=np.float32)}, "not in float64"),
    ],
)
def test_what_differs(change: Arrays, why: str) -> None:
    assert why in str(differs(EXPECTED | change, EXPECTED))


def test_rounding_does_not_differ() -> None:
    assert differs(EXPECTED | {"2": np.array([1e-6 + 1e-11])}, EXPECTED) is None


def drawn() -> Arrays:
    workload = find("W6")
    return found(samplers.by_quickstudy, Setting(workload, 4, torch.float64, torch.device("cpu")))


def test_tasks_of_ours_are_tasks() -> None:
    assert wrong_tasks(drawn(), find("W6")) is None


def twice(tasks: Arrays) -> None:
    tasks["2"][0, 0] = tasks["0"][0, 0]  # the query repeats the support's example of class 0


def relabelled(tasks: Arrays) -> None:
    tasks["1"][0, 0] = tasks["1"][0, 1]


def mixed(tasks: Arrays) -> None:
    tasks["2"][0, 0] = tasks["2"][0, -1]  # of another class, under the same label


def floating(tasks: Arrays) -> None:
    tasks["0"] = tasks["0"].astype(np.float32)


def all_the_same(tasks: Arrays) -> None:
    for part in tasks.values():
        part[:] = part[:1]


def cut(tasks: Arrays) -> None:
    tasks["2"] = tasks["2"][:, 1:]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (twice, "stands twice"),
        (relabelled, "has not 1 examples of each label"),
        (mixed, "labels and classes do not go together"),
        (floating, "in place of uint8"),
        (all_the_same, "all tasks are of the same classes"),
        (cut, "the query has shape"),
    ],
)
def test_what_is_wrong_with_tasks(spoil: Any, why: str) -> None:
    tasks = {name: part.copy() for name, part in drawn().items()}
    spoil(tasks)
    assert why in str(wrong_tasks(tasks, find("W6")))
