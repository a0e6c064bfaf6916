"""SNAIL's blocks: a token behind a sequence is told what the sequence's next position would be."""

from __future__ import annotations

import pytest
import torch

from quickstudy.learners.parts.temporal import AbstractBlock, CausalAttention, DenseBlock
from tests.smalltasks import assert_close, numbers


@pytest.mark.parametrize("kind", ["taps 1", "taps 2", "taps 4", "attention"])
def test_what_comes_after_a_sequence_is_its_next_position(kind: str) -> None:
    """Of sequences of every length, with rows behind their ends that do not count; a tap may reach the first row."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block: AbstractBlock = CausalAttention(3, 4, 2) if kind == "attention" else DenseBlock(3, 2, int(kind[-1]))
    block = block.double()
    past, asked = numbers("past", 6, 6, 3), numbers("asked", 6, 2, 3)
    found = block.after(asked, past, torch.arange(1, 7))
    for t in range(6):
        for query in range(2):
            sequence = torch.cat([past[t, : t + 1], asked[t, query][None]])[None]
            assert_close(found[t, query], block.over(sequence)[0, -1])
