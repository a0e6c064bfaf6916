"""The arithmetic of a unit, worked out, against torch's own count of the operations of the reference."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import reference
from benchmarks.speed.floors import Floor, floor
from benchmarks.speed.jobs import Make, Setting
from benchmarks.speed.workloads import find


def test_the_floor_of_w1_is_the_known_one() -> None:
    assert floor(find("W1")).flop / 32 == pytest.approx(8.66e9, rel=2e-3)


@pytest.mark.parametrize(
    ("id", "make"),
    [
        ("W2", reference.first_order),
        ("W3", reference.by_gradients),
        ("W4", reference.by_prototypes),
        ("W5", reference.logits),
        ("W8", reference.by_reptile),
    ],
)
def test_as_many_operations_as_torch_counts(id: str, make: Make) -> None:
    workload = find(id).quick()
    job = make(Setting(workload, workload.tasks, torch.float32, torch.device("cpu")))
    with FlopCounterMode(display=False) as counter:
        job()
    assert counter.get_total_flops() == pytest.approx(floor(workload).flop, rel=0.03)


def test_the_slower_of_both_bounds_counts() -> None:
    assert Floor(100.0, 10.0).seconds(10.0, 10.0) == 10.0
    assert Floor(100.0, 10.0).seconds(100.0, 2.0) == 5.0


def test_sampling_reads_and_writes_every_picture() -> None:
    assert floor(find("W6")).bytes == 2 * 64 * 80 * 28 * 28
