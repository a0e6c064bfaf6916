"""Sharded weights: the page says what was found, and it is found again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]

from benchmarks.sharded import tried
from benchmarks.sharded_cases import CASES, WAY, episode
from quickstudy.errors import InputError
from quickstudy.learners import FOMAML, MAML, ProtoNet, Reptile
from quickstudy.nets import MLP

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def on_the_page() -> dict[str, str]:
    """What was tried, and its outcome."""
    return dict(re.findall(r"^\| (.+?) \| (works|wrong|refused|fails|crashes) \|", PAGE, re.MULTILINE))


def test_the_page_has_every_case() -> None:
    assert list(on_the_page()) == [what for what, _ in CASES.values()]


@pytest.mark.e2e
def test_outcomes_are_those_of_the_page() -> None:
    if torch.__version__.split("+")[0] not in PAGE:
        pytest.skip("the page speaks of another torch")
    assert {row["what"]: row["outcome"] for row in tried(list(CASES))} == on_the_page()


@pytest.mark.parametrize("make", [MAML, FOMAML, Reptile])
def test_a_sharded_network_that_a_task_would_adapt_is_refused_in_a_sentence(make: type[MAML]) -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        net = MLP(8).double()
        dist.fsdp.fully_shard(net)
        with pytest.raises(
            InputError, match=r"weights of FSDPMLP are divided over processes.*full_tensor\(\).*ProtoNet"
        ):
            make(net, WAY).double().meta_loss(episode(0))
        assert torch.isfinite(ProtoNet(net).meta_loss(episode(0)).loss).all()
    finally:
        dist.destroy_process_group()
