"""The command line, run in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from quickstudy.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def quickstudy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`quickstudy("train", "x")` -> Outcome."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # and put back what it was, as the command sets it

    def run(*arguments: object) -> Outcome:
        threads = torch.get_num_threads()
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as left:
                main([str(argument) for argument in arguments])
        finally:
            torch.set_num_threads(threads)
        captured = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def process() -> Command:
    """The same in a process of its own."""

    def run(*arguments: object) -> Outcome:
        command = [sys.executable, "-m", "quickstudy", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of sinusoid-maml; tests that change it take a copy."""
    from quickstudy import api

    runs = tmp_path_factory.mktemp("runs")
    overrides = {"train.steps": 20, "train.validate-every": 10, "train.validate-episodes": 10}
    return api.train("sinusoid-maml", overrides=overrides, runs=runs, device="cpu").path
