"""Every peer of the benchmark computes what its reference does, in tiny sizes (`make test-peers`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks.speed.checks import differs, wrong_tasks
from benchmarks.speed.contestants import OURS, REFERENCE, contestants, maker
from benchmarks.speed.jobs import Setting, stacked
from benchmarks.speed.workloads import WORKLOADS, find
from tests.peers import stubs

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True, scope="module")
def stand_ins() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stubs.install()
        yield


PAIRS = [(w.id, name) for w in WORKLOADS for name in contestants(w, "equal", "cpu") if not name.startswith(OURS)]


@pytest.mark.parametrize(("id", "name"), PAIRS)
def test_a_peer_equals_the_reference(id: str, name: str) -> None:
    workload = find(id).quick() if id != "W6" else find(id)
    setting = Setting(workload, min(workload.tasks, 3), torch.float64, torch.device("cpu"))
    found = {str(n): part.numpy() for n, part in enumerate(stacked(maker(workload.kind, name)(setting)()))}
    if workload.kind == "sampling":
        assert wrong_tasks(found, workload) is None
        return
    expected = {str(n): part.numpy() for n, part in enumerate(maker(workload.kind, REFERENCE)(setting)())}
    assert differs(found, expected) is None


def test_a_peer_of_first_order_is_refused_in_w1() -> None:
    workload = find("W1").quick()
    setting = Setting(workload, 2, torch.float64, torch.device("cpu"))
    wrong = maker("fomaml", "learn2learn")
    first_order = wrong(replace(setting, workload=replace(workload, kind="fomaml")))()
    found = {str(n): part.numpy() for n, part in enumerate(first_order)}
    expected = {str(n): part.numpy() for n, part in enumerate(maker("maml", REFERENCE)(setting)())}
    assert "of its largest entry" in str(differs(found, expected))
