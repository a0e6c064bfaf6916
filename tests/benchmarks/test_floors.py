"""The arithmetic of a unit, worked out, against torch's own count of the operations of the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import reference
from benchmarks.speed.floors import _LEAST_CHANNELS, Floor, _layers, floor
from benchmarks.speed.jobs import Make, Setting
from benchmarks.speed.workloads import find
from quickstudy.nets.winograd import LEAST_CHANNELS


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
    assert Floor(100.0, 10.0, 50.0).winograd_seconds(10.0, 10.0) == 5.0
    assert Floor(100.0, 10.0, 50.0).winograd_seconds(100.0, 2.0) == 5.0


def test_winograd_of_one_small_net_by_hand() -> None:
    """ProtoNet's step on two pictures of 6x6: maps have 6, 3, 1 and 0 pixels a side, channels are 3, 32, 32, 32."""
    workload = replace(find("W4"), way=1, shot=1, query=1, image=6, channels=3, filters=32)
    first = 2 * 9 * 3 * 32 * 36  # too few channels go in
    direct = 2 * 9 * 32 * 32 * (9 + 1 + 0)
    tiles = 4 + 1 + 0  # 3x3 outputs take 2x2 tiles, one output takes one
    found = floor(workload)
    assert found.flop == 2 * (2 * first + 3 * direct) == 1354752
    assert found.winograd_flop == 2 * (2 * first + 3 * 2 * 16 * 32 * 32 * tiles) == 1231872


def test_winograd_of_even_maps_is_16_of_36() -> None:
    """Of W1m's second layer, whose maps have 42 pixels a side."""
    layer = _layers(find("W1m"))[1]
    assert layer.winograd_flop == layer.flop * 16 / 36


@pytest.mark.parametrize("id", ["W3", "W6", "W8"])
def test_no_convolution_of_stride_one_no_winograd(id: str) -> None:
    found = floor(find(id))
    assert found.winograd_flop is None and found.winograd_seconds(1.0, 1.0) is None


def test_the_least_channels_are_those_of_the_library() -> None:
    assert _LEAST_CHANNELS == LEAST_CHANNELS


def test_sampling_reads_and_writes_every_picture() -> None:
    assert floor(find("W6")).bytes == 2 * 64 * 80 * 28 * 28
