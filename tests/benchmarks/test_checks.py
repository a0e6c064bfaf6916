"""Who is timed: contestants whose float64 result is the reference's, samplers whose tasks are tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.speed import ours, ranks, reference, samplers
from benchmarks.speed.checks import differs, of_what_is_checked, of_what_is_timed, wrong_tasks
from benchmarks.speed.jobs import Make, Setting, stacked
from benchmarks.speed.workloads import find
from quickstudy.train import StepEvent
from quickstudy.train.ranks import OneRank
from quickstudy.train.stepping import Engine

Arrays = dict[str, NDArray[Any]]


def quick(id: str, dtype: torch.dtype = torch.float64) -> Setting:
    """A workload in tiny sizes."""
    workload = find(id).quick()
    return Setting(workload, workload.tasks, dtype, torch.device("cpu"))


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
    assert why is not None and "of its largest entry" in why


def test_parts_of_a_unit_add_up_to_it() -> None:
    setting = quick("W8")
    parts = [ours.reptile(replace(setting, part=part))() for part in (range(1), range(1, 3))]
    for whole, *shares in zip(ours.reptile(setting)(), *parts, strict=True):
        torch.testing.assert_close(sum(shares), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("id", ["W1", "W2", "W3", "W8"])
def test_a_unit_of_ranks_is_a_step_of_the_engine(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    real = Engine.step

    def step(self: Engine, done: int) -> StepEvent:
        steps.append(done)
        return real(self, done)

    monkeypatch.setattr(Engine, "step", step)
    setting = quick(id)
    job = ranks._training(setting, OneRank())
    theirs = {"W2": reference.first_order, "W8": reference.by_reptile}.get(id, reference.by_gradients)
    for _ in range(2):  # the weights stay
        assert differs({str(n): part.numpy() for n, part in enumerate(job())}, found(theirs, setting)) is None
    assert steps == [0, 0]


@pytest.mark.parametrize("id", ["W1", "W2", "W3", "W4", "W5", "W8"])
def test_what_is_timed_is_checked_too(id: str) -> None:
    workload = find(id)
    mine = {"maml": ours.maml, "fomaml": ours.fomaml, "protonet": ours.protonet, "adapt": ours.adapt}
    theirs = {"maml": reference.by_gradients, "fomaml": reference.first_order, "protonet": reference.by_prototypes}
    single = found(mine.get(workload.kind, ours.reptile), quick(id, torch.float32))
    exact = {"adapt": reference.logits, "reptile": reference.by_reptile}
    double = found((theirs | exact)[workload.kind], quick(id))
    assert differs(single, double, of_what_is_timed(workload)) is None
    last = str(len(single) - 1)
    spoilt = single | {last: single[last] * 1.3}
    assert f"array {last} differs by 3.0e-01" in str(differs(spoilt, double, of_what_is_timed(workload)))


EXPECTED: Arrays = {"0": np.array(2.0), "1": np.array([1.0, -4.0]), "2": np.array([1e-6])}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"0": np.array(2.0 + 1e-8)}, "array 0 differs by 5.0e-09 of its largest entry"),
        ({"2": np.array([1e-6 + 1e-11])}, "array 2 differs by 1.0e-05 of its largest entry"),  # small beside array 1
        ({"1": np.array([np.nan, -4.0])}, "array 1 differs by nan"),
        ({"1": np.array([1.0])}, "other shapes"),
        ({"1": np.array([1.0, -4.0], dtype=np.float32)}, "not in float64"),
    ],
)
def test_what_differs(change: Arrays, why: str) -> None:
    assert why in str(differs(EXPECTED | change, EXPECTED))


def test_rounding_does_not_differ() -> None:
    assert differs(EXPECTED | {"1": np.array([1.0 + 1e-11, -4.0])}, EXPECTED) is None


def test_a_gradient_that_is_zero_but_for_rounding_is_rounding_of_the_others() -> None:
    nothing: Arrays = EXPECTED | {"2": np.array([0.0])}
    assert differs(EXPECTED | {"2": np.array([1e-13])}, nothing) is None
    assert "array 2 differs by inf" in str(differs(EXPECTED | {"2": np.array([1e-10])}, nothing))
    zeros = {name: 0 * part for name, part in EXPECTED.items()}
    assert "array 0 differs" in str(differs(zeros, zeros))
    assert "array 1 differs" in str(differs(zeros | {"0": EXPECTED["0"]}, zeros | {"0": EXPECTED["0"]}))


def test_the_norm_counts_where_single_entries_may_be_off() -> None:
    expected = {"0": np.ones(100)}
    one, many = np.ones(100, np.float32), np.full(100, 1.15, np.float32)
    one[3] = 1.2
    assert differs({"0": one}, expected, of_what_is_timed(find("W1"))) is None
    assert "(float32)" in str(differs({"0": many}, expected, of_what_is_timed(find("W1"))))
    assert differs({"0": one}, expected, of_what_is_timed(find("W3"))) is not None


def test_tasks_drawn_one_by_one_are_put_together_after_the_unit() -> None:
    tasks = [tuple(torch.full((2,), 4.0 * task + part) for part in range(4)) for task in range(3)]
    setting = Setting(find("W6"), 3, torch.float64, torch.device("cpu"))
    unit = samplers._a_unit(setting, iter(tasks))()  # type: ignore[arg-type]
    assert [tuple(task) for task in unit] == tasks  # as they are: no copy is made within the time
    parts = stacked(unit)
    assert [list(part.shape) for part in parts] == [[3, 2]] * 4
    assert parts[1][:, 0].tolist() == [1.0, 5.0, 9.0]
    assert stacked(parts) == parts


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


def test_reptiles_steps_have_room_in_single_entries_only() -> None:
    expected = {"0": np.zeros(1) + 1.0, "1": np.ones(10_000)}
    one, all_ = np.ones(10_000), np.ones(10_000) + 2e-10
    one[3] += 5e-9
    how = of_what_is_checked(find("W8"))
    assert differs(expected | {"1": one}, expected, how) is None
    assert "array 1 differs" in str(differs(expected | {"1": all_}, expected, how))
    assert "array 1 differs" in str(differs(expected | {"1": one}, expected, of_what_is_checked(find("W1"))))
