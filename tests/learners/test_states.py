"""States in files and on devices; that every learner's state can be written and read is a law."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.learners import KNN, ProtoNet
from quickstudy.learners.states import load_state, map_state, move_state, save_state
from tests.table import mlp, tasks

LEARNER = ProtoNet(mlp())


@dataclass(frozen=True, eq=False)
class Foreign:
    x: Tensor


def test_there_and_back(tmp_path: Path) -> None:
    learner = ProtoNet(mlp()).double().eval()
    with torch.no_grad():
        state = learner.adapt(tasks().support)
    save_state(tmp_path / "state", state, LEARNER)
    again = load_state(tmp_path / "state", learner)
    assert type(again) is type(state)
    assert torch.equal(again.sums, state.sums) and torch.equal(again.counts, state.counts)
    assert move_state(state, "meta").sums.is_meta


def test_nested_and_shared_memory(tmp_path: Path) -> None:
    one = torch.arange(3.0)
    state = {"a": [one.expand(2, 3), (one, None, 2, "x")], "b": {}}
    save_state(tmp_path / "state", state, LEARNER)
    again = load_state(tmp_path / "state", LEARNER)
    assert torch.equal(again["a"][0], one.expand(2, 3)) and again["a"][1][1:] == (None, 2, "x") and again["b"] == {}


def test_what_is_no_state(tmp_path: Path) -> None:
    learner = ProtoNet(mlp())
    with pytest.raises(InputError, match=r"found a object\. Keep tensors in it"):
        map_state(lambda leaf: leaf, {"a": object()})
    with pytest.raises(InputError, match=r"found a set\."):
        save_state(tmp_path / "state", [{1}], LEARNER)
    with pytest.raises(InputError, match=r"dicts with text for keys, .*found a dict\."):
        save_state(tmp_path / "state", {1: torch.zeros(1)}, LEARNER)
    assert not (tmp_path / "state").exists()
    with pytest.raises(InputError, match=r"Cannot read a state from .*missing.*a file that save_state wrote"):
        load_state(tmp_path / "missing", learner)
    (tmp_path / "broken").write_bytes(b"12345678 no safetensors")
    with pytest.raises(InputError, match=r"Cannot read a state from .*broken"):
        load_state(tmp_path / "broken", learner)


def test_classes_of_others_are_not_built(tmp_path: Path) -> None:
    """A file names classes; one that names another package's must not get it imported."""
    save_state(tmp_path / "state", Foreign(torch.zeros(1)), LEARNER)
    with pytest.raises(InputError, match=r"test_states:Foreign, which is no part of quickstudy"):
        load_state(tmp_path / "state", LEARNER)


def test_another_learners_state(tmp_path: Path) -> None:
    save_state(tmp_path / "state", [torch.zeros(1)], LEARNER)
    with pytest.raises(InputError, match=r"it is of a ProtoNet\. Use a file that save_state wrote for a KNN"):
        load_state(tmp_path / "state", KNN())


def test_reading_imports_nothing(tmp_path: Path) -> None:
    """A module of ours that nobody imported, named by a file, is not imported by reading it."""
    module = "quickstudy.__main__"
    assert module not in sys.modules
    node = {"learner": "quickstudy.learners.protonet:ProtoNet", "state": {"class": f"{module}:X", "fields": {}}}
    (tmp_path / "state").write_bytes(save({}, {"quickstudy_state": json.dumps(node)}))
    with pytest.raises(InputError, match=r"__main__:X, which is no part of"):
        load_state(tmp_path / "state", LEARNER)
    assert module not in sys.modules
