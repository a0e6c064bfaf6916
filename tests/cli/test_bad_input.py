"""Whatever is wrong: one clear sentence on stderr, no traceback, the right exit status, nothing lost."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import Command

# (arguments, status, the sentence): a line a mistake, however long
# ruff: noqa: E501
WRONG: list[tuple[str, int, str]] = [
    ("trian x", 2, "No such command 'trian'. Did you mean 'train'?"),
    ("train", 2, "Missing argument 'recipe'. See `quickstudy train --help`."),
    ("train omniglot-protonet-fst", 2, "There is no recipe called 'omniglot-protonet-fst'. Did you mean"),
    ("train sinusoid-maml --compile trace", 2, "There is no option called '--compile'. Did you mean '--train.compile'?"),
    ("train sinusoid-maml --precision bf16", 2, "There is no option called '--precision'. Did you mean '--train.precision' or '--evaluate.precision'?"),
    ("train sinusoid-maml --stepz 3", 2, "There is no option called '--stepz'. Did you mean '--steps'?"),
    ("train sinusoid-maml --steps many", 2, "Invalid value for '--steps'"),
    ("train sinusoid-maml --steps -1", 2, "--train.steps: expected a number from 0 on, found -1."),
    ("train sinusoid-maml --steps 1 --train.steps 2", 2, "--steps is short for --train.steps, and both are given. Give one."),
    ("train sinusoid-maml --threads 0", 2, "Invalid value for '--threads'"),
    ("train sinusoid-maml --learner.inner-lrr 1", 2, "--learner.inner-lrr: There is no key called"),
    ("train sinusoid-maml --learner.inner-lr", 2, "--learner.inner-lr: expected a number, found True."),
    ("train sinusoid-maml --train.lr 1 --train.lr 2", 2, "--train.lr is given twice, as '1' and as '2'. Give it once."),
    ("train sinusoid-maml --train.lr -0.5", 2, "--train.lr: expected a number above 0, found -0.5."),
    ("train sinusoid-maml more", 2, "Unexpected argument 'more'. Options are written --key value."),
    ("train sinusoid-maml --device tpu", 2, "Cannot compute on the device 'tpu'"),
    ("train sinusoid-maml --resume --runs none", 2, "There is no run of 'sinusoid-maml' with these settings in none"),
    ("train none.toml", 2, "There is no recipe file none.toml. `quickstudy list recipes` names those that ship."),
    ("train omniglot-protonet-fast --data-root none", 2, "Cannot find Omniglot"),
    ("train sinusoid-maml --learner.name protonet --net.norm none", 2, "ProtoNet learns classes, but these tasks have 'real' targets."),
    ("train sinusoid-maml --learner.name knn", 2, "KNN has nothing to meta-train. Evaluate it as it is: say train.steps = 0 in its recipe, and leave --steps out."),
    ("train sinusoid-maml --net.name conv4", 2, "The network 'conv4' is made for square pictures"),
    ("train sounds-protonet-fast --sounds none", 2, "--sounds: expected the path of your own files, received 'none', which does not exist."),
    ("train sounds-protonet-fast --sounds", 2, "--sounds: expected the path of your own files, received nothing."),
    ("train sounds-protonet-fast --soundz .", 2, "There is no option called '--soundz'. Did you mean '--sounds'?"),
    ("train sounds-protonet-fast --sounds . --data.folder x", 2, "--data.folder is given twice, as '.' and as 'x'. Give it once."),
    ("train none/sinusoid-maml-s0-001 --resume", 2, "There is no run none/sinusoid-maml-s0-001. `quickstudy list runs`"),
    ("evaluate none", 2, "There is no run none. `quickstudy list runs` names those that there are."),
    ("evaluate none --shot 1.5", 2, "--shot: expected a whole number or a range such as 5-20, found '1.5'."),
    ("evaluate none --epsiodes 3", 2, "There is no option called '--epsiodes'. Did you mean '--episodes'?"),
    ("evaluate none --checkpoint newest", 2, "Invalid value for '--checkpoint'"),
    ("show sinusoid-mmal", 2, "There is no recipe called 'sinusoid-mmal'. Did you mean 'sinusoid-maml'?"),
    ("list learner", 2, "Invalid value for 'kind': 'learner' is not one of"),
    ("fetch omniglott", 2, "There is no data set to fetch called 'omniglott'. Did you mean 'omniglot'?"),
    ("fetch sinusoid", 2, "There is nothing to fetch for 'sinusoid': it needs no files."),
]  # fmt: skip


@pytest.mark.parametrize(("line", "status", "sentence"), WRONG, ids=[line for line, _, _ in WRONG])
def test_a_sentence_and_a_status(
    quickstudy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, status: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = quickstudy(*line.split())
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("error: ")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.rglob("recipe.toml")) == [], "a run that could not begin left its folder behind"


def test_all_mistakes_of_a_recipe(quickstudy: Command) -> None:
    done = quickstudy("train", "sinusoid-maml", "--train.lr", "x", "--net.hiden", "3")
    assert done.status == 2
    assert done.err.splitlines()[0] == "error: 2 mistakes in this recipe."
    assert len(done.err.splitlines()) == 3


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    from quickstudy.cli import main

    with pytest.raises(SystemExit) as left:
        main(["train", "x", "--debug"])
    assert left.value.code == 2, "the status is the same with and without --debug"
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said and "There is no recipe called 'x'" in said


def test_what_should_not_happen_says_how_to_see_more(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("quickstudy.api.train", broken)
    done = quickstudy("train", "sinusoid-maml")
    assert done.status == 1
    assert done.err == (
        "error: This should not happen: ZeroDivisionError: division by zero. "
        "Run it again with --debug to see where, and report it.\n"
    )


@pytest.mark.parametrize("stop", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_elsewhere_than_in_training(
    quickstudy: Command, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupted(*given: Any, **named: Any) -> None:
        raise stop

    monkeypatch.setattr("quickstudy.api.evaluate", interrupted)
    done = quickstudy("evaluate", "x")
    assert (done.status, done.out) == (130, "")
    assert "Traceback" not in done.err


OF_A_GPU = type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
OF_A_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried 4 TB"
)


@pytest.mark.parametrize("error", [MemoryError(), OF_A_GPU, OF_A_CPU])
def test_memory(quickstudy: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise error

    for place in ("api.train", "api.evaluate", "reproduce.reproducing.claim"):
        monkeypatch.setattr(f"quickstudy.{place}", full)
    for command, option in (("train", "--train.tasks-at-once 1."), ("evaluate", "at once: --tasks-at-once 1.")):
        done = quickstudy(command, "sinusoid-maml")
        assert done.status == 1
        assert "There is not enough memory. Compute fewer tasks at once: --" in done.err and option in done.err
    done = quickstudy("reproduce", "sinusoid-maml")  # has no such option
    assert "There is not enough memory. Close other programs, or take a machine that has more.\n" in done.err


# --- a run that is damaged ---------------------------------------------------------------------------


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage, with a single checkpoint."""
    copy = shutil.copytree(trained, tmp_path / trained.name)
    shutil.rmtree(copy / "checkpoints" / "best")
    return copy


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    state = json.loads(path.read_text())
    path.write_text(json.dumps({key: state[key] for key in state if key != "identity"}))


DAMAGE = [
    ("weights.safetensors", cut, "weights.safetensors is cut off or was changed"),
    ("weights.safetensors", flip, "weights.safetensors is cut off or was changed"),
    ("weights.safetensors", Path.unlink, "weights.safetensors is missing"),
    ("state.json", cut, "state.json is cut off or no JSON"),
    ("state.json", foreign, "state.json was changed"),
]


@pytest.mark.parametrize(("file", "damage", "sentence"), DAMAGE, ids=[f"{d.__name__} {f}" for f, d, _ in DAMAGE])
def test_a_damaged_checkpoint(quickstudy: Command, run: Path, file: str, damage: Any, sentence: str) -> None:
    damage(run / "checkpoints" / "last" / file)
    done = quickstudy("evaluate", run, "--episodes", "5")
    assert done.status == 1
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_a_checkpoint_of_another_learner(quickstudy: Command, run: Path) -> None:
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("hidden = [40, 40]", "hidden = [40, 41]"))
    done = quickstudy("evaluate", run, "--episodes", "5")
    assert done.status == 1
    assert re.search(r"The checkpoint \S+ is not of this learner: its '\S+' is \[\d+.*\], not \[\d+", done.err)


def test_going_on_with_another_recipe(quickstudy: Command, run: Path) -> None:
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("inner-lr = 0.001", "inner-lr = 0.002"))
    before = (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()
    done = quickstudy("train", run, "--resume", "--steps", "30")
    assert done.status == 2
    assert f"Cannot go on with {run} as it was: learner.inner-lr was 0.001 so far and is now 0.002. " in done.err
    assert (run / "checkpoints" / "last" / "weights.safetensors").read_bytes() == before


def test_what_cannot_change_when_going_on(quickstudy: Command, run: Path) -> None:
    done = quickstudy("train", run, "--resume", "--learner.inner-lr", "0.1")
    assert done.status == 2
    assert f"Cannot go on with {run} as it was: learner.inner-lr was 0.001 so far and is now 0.1. Go on as" in done.err


def test_a_run_is_no_recipe(quickstudy: Command, run: Path) -> None:
    done = quickstudy("train", run)
    assert done.status == 2
    assert f"{run} is a run, not a recipe. Go on with it by resume (--resume)" in done.err


def test_only_adaptation_can_change_after_training(quickstudy: Command, run: Path) -> None:
    for key in ("net.hidden", "learner.name"):
        done = quickstudy("evaluate", run, f"--{key}", "3")
        assert done.status == 2
        assert f"Cannot evaluate with another {key}" in done.err


def test_a_test_in_which_every_episode_diverges(quickstudy: Command, run: Path) -> None:
    """The figure is printed and saved, and the status says that it is none."""
    done = quickstudy("evaluate", run, "--learner.test-inner-lr", "1e20", "--episodes", "3")
    assert done.status == 1 and "3 of 3 diverged" in done.out
    assert "error: All 3 episodes diverged, so the figure says nothing of the learner." in done.err
    assert "Traceback" not in done.err and len(list((run / "evaluations").glob("*.json"))) == 1


def test_a_folder_that_is_no_run(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("evaluate", tmp_path)
    assert done.status == 2
    assert "is not a run: it holds no recipe.toml." in done.err


# --- a full disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_while_evaluating(
    quickstudy: Command, run: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.setattr(os, call, full)
    done = quickstudy("evaluate", run, "--episodes", "5")
    assert done.status == 1
    assert re.search(
        r"Cannot write \S+\.json: No space left on device\. What was there before is unchanged\.", done.err
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_full_disk_while_training(
    quickstudy: Command, run: Path, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    """Whichever write the disk refuses, the run can go on afterwards."""
    real, calls = getattr(os, call), 0

    def full(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        done = quickstudy("train", run, "--resume", "--steps", "40")
    assert done.status == 1
    assert "No space left on device" in done.err
    assert "Traceback" not in done.err
    again = quickstudy("train", run, "--resume", "--steps", "40")
    assert again.status == 0, again.err
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 40
