"""Checkpoints and run folders: whole or refused, and the previous one always there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from quickstudy.errors import CheckpointError, InputError, StorageError
from quickstudy.nets import MLP
from quickstudy.train import (
    Checkpoint,
    EndEvent,
    JsonLines,
    RunFolder,
    StepEvent,
    TensorBoard,
    Validation,
    ValidationEvent,
)
from quickstudy.train.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


def saved(folder: Path, step: int) -> Checkpoint:
    checkpoint = Checkpoint({"w": torch.full((3,), float(step))}, {"w/step": torch.tensor(step)}, {"step": step})
    save_checkpoint(folder, checkpoint)
    return checkpoint


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    weights = {
        "a": torch.randn(2, 3, 4, 5, dtype=torch.float64).to(memory_format=torch.channels_last),
        "b": torch.ones(()),
    }
    tied = weights["a"][0]
    save_checkpoint(tmp_path / "last", Checkpoint(weights | {"view": tied}, {"a/step": torch.tensor(7.0)}, {"step": 7}))
    found = load_checkpoint(tmp_path / "last")
    assert all(torch.equal(found.learner[name], value) for name, value in (weights | {"view": tied}).items())
    assert found.learner["a"].dtype == torch.float64
    assert found.state["step"] == 7 and float(found.optimizer["a/step"]) == 7.0
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["state.json", "weights.safetensors"]


def test_a_second_save_replaces_the_first(tmp_path: Path) -> None:
    saved(tmp_path / "last", 1)
    saved(tmp_path / "last", 2)
    assert load_checkpoint(tmp_path / "last").state["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def truncate(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def flip(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


DAMAGE: list[tuple[Any, str]] = [
    (truncate, r"weights\.safetensors is cut off or was changed"),
    (flip, r"weights\.safetensors is cut off or was changed"),
    (lambda folder: (folder / "weights.safetensors").unlink(), r"weights\.safetensors is missing"),
    (lambda folder: (folder / "state.json").unlink(), r"state\.json is missing"),
    (lambda folder: (folder / "state.json").write_text('{"step": 1'), r"state\.json is cut off or no JSON"),
    (lambda folder: (folder / "state.json").write_text('{"schema": "x"}'), r"state\.json is none that"),
    (
        lambda folder: (folder / "state.json").write_text((folder / "state.json").read_text().replace("1,", "3,", 1)),
        r"its format is number 3|state\.json was changed",
    ),
    (lambda folder: (folder / "state.json").write_text("[]"), r"state\.json is none that quickstudy wrote"),
    (
        lambda folder: (folder / "state.json").write_text('{"schema": 99, "made_by": {"quickstudy": "9.1"}}'),
        r"its format is number 99, of a newer quickstudy \(9\.1\), and this one \(\S+\) reads number 1\. Upgrade",
    ),
    (
        lambda folder: (folder / "state.json").write_text('{"schema": 0}'),
        r"its format is number 0, of an older quickstudy, and this one \(\S+\) reads number 1\. Install that",
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_refused_and_the_one_before_is_used(damage: Any, message: str, tmp_path: Path) -> None:
    saved(tmp_path / "last", 1)
    shutil.copytree(tmp_path / "last", tmp_path / "kept")
    damage(tmp_path / "last")
    with pytest.raises(CheckpointError, match=r"Cannot load the checkpoint .*last: " + message):
        load_checkpoint(tmp_path / "last")
    # What a run killed while it replaced the checkpoint leaves behind is found.
    (tmp_path / "kept").rename(tmp_path / ".last.old")
    assert load_checkpoint(tmp_path / "last").state["step"] == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*last\. Train first, or name another run"):
        load_checkpoint(tmp_path / "last")


def test_a_run_that_was_killed_before_its_first_one_was_whole_has_none(tmp_path: Path) -> None:
    """Its weights are there, or half of them, and what says that they are whole is not: the run begins at step 0."""
    half = tmp_path / ".last.new"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert not has_checkpoint(tmp_path / "last")
    with pytest.raises(CheckpointError, match=r"There is no checkpoint at .*last"):
        load_checkpoint(tmp_path / "last")
    (tmp_path / "last").mkdir()  # one in its place that lacks a part is broken, and not absent
    assert has_checkpoint(tmp_path / "last")


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last", 1)
    real, calls = os.replace, []

    class Killed(BaseException):
        """Nothing handles it, as nothing handles SIGKILL."""

    def dies(source: Any, target: Any) -> None:
        real(source, target)
        calls.append(str(target))
        if str(target).endswith(".old"):
            raise Killed

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(Killed):
        saved(tmp_path / "last", 2)
    monkeypatch.undo()
    assert not (tmp_path / "last").exists() and calls
    assert load_checkpoint(tmp_path / "last").state["step"] == 2
    saved(tmp_path / "last", 3)
    assert load_checkpoint(tmp_path / "last").state["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


FOREIGN = [
    (lambda: MLP(4, (6, 5)), r"its 'linears\.0\.weight' is \[6, 4\], not \[6, 3\]|it has no"),
    (lambda: MLP(3, (6,)), r"it has no 'linears\.1\.bias'"),
    (lambda: MLP(3, (6, 5, 4)), r"it holds 'linears\.2\.bias', which MLP has not"),
]


@pytest.mark.parametrize(("other", "message"), FOREIGN)
def test_another_learners_checkpoint_is_refused(other: Any, message: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", Checkpoint(other().state_dict(), {}, {}))
    with pytest.raises(CheckpointError, match=r"is not of this learner: (" + message + ")"):
        load_weights(MLP(3, (6, 5)), load_checkpoint(tmp_path / "last"), tmp_path / "last")


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, lambda p: torch.optim.SGD(p, lr=0.1)])
def test_optimiser_state_comes_back(kind: Any) -> None:
    nets = [MLP(3, (4,)) for _ in range(2)]
    optimizers = [kind(net.parameters()) for net in nets]
    for _ in range(3):
        nets[0](torch.ones(2, 3)).sum().backward()
        optimizers[0].step()
    nets[1].load_state_dict(nets[0].state_dict())
    restore_optimizer(nets[1], optimizers[1], optimizer_tensors(nets[0], optimizers[0]))
    for net, optimizer in zip(nets, optimizers, strict=True):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_run_folders_number_themselves(tmp_path: Path) -> None:
    first, second = (RunFolder.create(tmp_path, "sine", 3, "name = 'sine'") for _ in range(2))
    assert [run.path.name for run in (first, second)] == ["sine-s3-001", "sine-s3-002"]
    assert first.recipe.read_text() == "name = 'sine'"
    assert {"quickstudy", "torch", "python", "threads"} <= json.loads(first.environment.read_text()).keys()
    assert RunFolder.open(first.path) == first
    with pytest.raises(InputError, match=r"is not a run: it holds no recipe\.toml"):
        RunFolder.open(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot write .*file/sine-s0-001: Not a directory"):
        RunFolder.create(tmp_path / "file", "sine", 0, "")


def test_metrics_on_a_full_disk(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "metrics.jsonl")
    lines.step(StepEvent(1, 2, {"loss": 1.0}, 0.1))

    class Full:
        """A file on a full disk."""

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    real, lines._file = lines._file, Full()  # type: ignore[assignment]
    with pytest.raises(StorageError, match=r"Cannot write .*metrics\.jsonl: No space left on device"):
        lines.step(StepEvent(2, 2, {"loss": 1.0}, 0.1))
    lines._file = real
    lines.end(EndEvent(1, "failed"))


def test_tensorboard_is_asked_for_by_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"TensorBoard is not installed\. .*pip install 'quickstudy\[tracking\]'"):
        TensorBoard(tmp_path)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    for step in (1, 2):
        board.step(StepEvent(step, 2, {"loss": 0.5 / step}, 0.1))
    board.validation(ValidationEvent(2, Validation("accuracy", 0.75, 0.01), True))
    board.end(EndEvent(2, "finished"))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]
    assert [e.value for e in events.Scalars("validation/accuracy")] == [0.75]
