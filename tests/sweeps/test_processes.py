"""A sweep in real processes, some of which are killed: no trial is lost or doubled, and meta-test is seen once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quickstudy.runs import results_of
from quickstudy.sweeps import SweepFolder
from quickstudy.train import RunFolder

STEPS, TRIALS = 300, 3
WATCH = """
import os
from quickstudy.data.sinusoid import Sinusoid

tasks = Sinusoid.tasks

def watched(self, role, **sizes):
    with open(os.environ["ROLES"], "a") as file:
        file.write(role + "\\n")
    return tasks(self, role, **sizes)

Sinusoid.tasks = watched
"""


def started(folder: Path, *more: str, workers: int = 2) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ROLES": str(folder / "roles")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "quickstudy", "sweep", *more, "--trials", str(TRIALS), "--workers", str(workers)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if what():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it takes too long")


def children(process: subprocess.Popen[str]) -> list[int]:
    """Of a process, where the system tells (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(process.pid) and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="workers are found in /proc")
def test_a_worker_and_the_sweep_are_killed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    sizes = ["--steps", STEPS, "--train.validate-every", 50, "--train.validate-episodes", 4, "--evaluate.episodes", 8]
    sizes += ["--train.tasks-per-step", 2, "--learner.inner-steps", 1, "--prune", "none"]
    process = started(tmp_path, "sinusoid-maml-fast", *map(str, sizes))
    folder = SweepFolder(tmp_path / "sweeps" / "sinusoid-maml-fast")

    def reports() -> int:
        return folder.journal.read_text().count('"intermediate_value"') if folder.journal.is_file() else 0

    until(lambda: reports() >= 2, process)
    workers = children(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    until(lambda: reports() >= 4, process)
    process.kill()
    process.communicate()
    # What is left of its workers notices that by itself.
    process = started(tmp_path, "sweeps/sinusoid-maml-fast", "--json", workers=1)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert [trial["outcome"] for trial in found["trials"]] == ["finished"] * TRIALS
    assert len({trial["run"] for trial in found["trials"]}) == len(list(folder.trials.iterdir())) == TRIALS
    for trial in found["trials"]:
        lines = [json.loads(line) for line in (folder.trials / trial["run"] / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == list(range(1, STEPS + 1))
        assert sorted(map(int, trial["reports"])) == list(range(50, STEPS + 1, 50))
    roles = (tmp_path / "roles").read_text().split()
    assert roles.count("test") == 1
    assert roles[-1] == "test", "after all validations"
    assert found["test"]["episodes"] == 8
    assert len(results_of(RunFolder(Path(tmp_path / found["best"]["run"])))) == 1


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_is_no_loss(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text("")
    sizes = ["--steps", 100000, "--train.validate-every", 20, "--train.validate-episodes", 4]
    process = started(tmp_path, "sinusoid-maml-fast", *map(str, sizes), workers=1)
    folder = SweepFolder(tmp_path / "sweeps" / "sinusoid-maml-fast")
    until(lambda: folder.journal.is_file() and '"intermediate_value"' in folder.journal.read_text(), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert f"Stopped with 0 of {TRIALS} trials done. Go on with: quickstudy sweep sweeps/sinusoid-maml-fast" in err
    (run,) = folder.trials.iterdir()
    assert (run / "checkpoints" / "last").is_dir(), (folder.logs / "1.log").read_text()
