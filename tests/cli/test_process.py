"""Settings of the whole process."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TextIO

import pytest
import torch

from quickstudy.cli.outcome import _leave
from quickstudy.cli.process import set_threads


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_blocks_are_used_again() -> None:
    """Freed and asked for again, six blocks of 16 MiB cost no page faults after the first time."""
    code = """
import resource, sys
from quickstudy.allocator import keep_large_blocks
if sys.argv[1] == "kept" and not keep_large_blocks():
    print("not glibc")
    raise SystemExit
size = 16 << 20
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [bytearray(b"x") * size for _ in range(6)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    counts = {}
    for how in ("kept", "usual"):
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True)
        if done.stdout.strip() == "not glibc":
            pytest.skip("this C library is not glibc")
        counts[how] = int(done.stdout)
    assert counts["kept"] < 200
    assert counts["usual"] > 4000


@pytest.mark.parametrize(
    ("environment", "asked", "threads"), [("", None, 1), ("3", None, 3), ("3", 2, 2), ("none", None, 1)]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, environment: str, asked: int | None, threads: int) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    try:
        set_threads(asked)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("there", [True, False])
def test_a_group_that_was_not_left_is_not_taken_down_with_the_interpreter(there: bool, tmp_path: Path) -> None:
    """Its threads may let go of tensors then, which ended in an abort now and then; what was said is said."""
    code = """
import atexit, sys
import torch.distributed as dist
import typer
from quickstudy.cli.outcome import run_to_exit_status
from quickstudy.errors import InputError
app = typer.Typer()
@app.command()
def disagree():
    if sys.argv[1] == "True":
        dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=0, world_size=1)
    print("so far", end="")
    raise InputError("The ranks do not agree.")
atexit.register(print, "; taken down", end="")
run_to_exit_status(app, [])
"""
    asked = [sys.executable, "-c", code, str(there), str(tmp_path / "store")]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "error: The ranks do not agree.\n", done.stderr
    assert done.stdout == ("so far" if there else "so far; taken down")


def nobody_reads() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = open(writing, "w")
    pipe.write("lost")
    return pipe


def closed() -> TextIO:
    stream = open(os.devnull, "w")
    stream.close()
    return stream


@pytest.mark.parametrize("stdout", [lambda: None, closed, nobody_reads])
def test_a_group_that_was_not_left_where_nobody_listens(
    stdout: Callable[[], TextIO | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status stays what it is."""

    def leave(status: int) -> NoReturn:
        raise SystemExit(status)

    stream = stdout()
    with monkeypatch.context() as group:
        group.setattr("torch.distributed.is_initialized", lambda: True)
        group.setattr(os, "_exit", leave)
        group.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as left:
            _leave(2)
    assert left.value.code == 2
    if stream is not None:
        with suppress(OSError):
            stream.close()
