"""A program that kills ranks of a training, or who started them, at any moment, and lets the training go on.

    python -m tests.train.killing_ranks FOLDER TRIALS SEED

Each training is a process of its own, which starts two ranks. One of the three is killed by SIGKILL after some time, up
to three times: after a killed rank the training goes on by itself, a killed starter is started again, with as many
ranks or with another number. Prints what was done, as JSON. It ends with 1 where a run ended otherwise than undisturbed
(to the last bit where two ranks went on, to 1e-10 where others did), with a line of metrics missing or doubled, or with
a process left behind.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

RANKS = 2
OVERRIDES: dict[str, Any] = {
    "train.steps": 60,
    "train.tasks-per-step": 5,
    "train.optimizer": "sgd",
    "train.average": {"name": "ema", "decay": 0.8},
    "train.clip-norm": 1.0,
    "train.validate-every": 20,
    "train.validate-episodes": 10,
    "train.precision": "float64",
}
RUN = "sinusoid-maml-s0-001"
LIMIT = 240.0  # seconds for a training that was disturbed


def child(runs: Path, ranks: int) -> subprocess.Popen[str]:
    """A process that begins a run, or goes on with the one that is there."""
    command = [sys.executable, "-m", "tests.train.killing_ranks", "train", str(runs), str(ranks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(runs: Path, ranks: int) -> None:
    """In the process that starts the ranks."""
    from quickstudy import api
    from quickstudy.runs import is_run

    if is_run(runs / RUN):
        api.train(runs / RUN, runs=runs, device="cpu", resume=True, ranks=ranks)
    else:
        api.train("sinusoid-maml", overrides=OVERRIDES, runs=runs, device="cpu", ranks=ranks)


def below(pid: int) -> list[int]:
    """The ranks of a process that started some."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(each) for each in thread.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return sorted(found)


def struck(process: subprocess.Popen[str], chance: random.Random, wait: float) -> tuple[str, list[int]]:
    """Kill one after some time: what was killed, or that it was over before; and the ranks that there were."""
    time.sleep(wait)
    ranks = below(process.pid)
    if process.poll() is not None:
        return "over before", ranks
    victim = process.pid if not ranks or chance.random() < 0.4 else chance.choice(ranks)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return "over before", ranks
    return "starter" if victim == process.pid else "rank", ranks


def all_left(pids: list[int]) -> bool:
    """Whether the ranks of a starter that is gone have left, or do so in some seconds."""
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def content(runs: Path) -> tuple[dict[str, torch.Tensor], bytes, list[dict[str, Any]]]:
    """Weights and optimiser, their bytes, and the curves without times."""
    from quickstudy.files import places

    data = (places(runs / RUN / "checkpoints" / "last")[0] / "weights.safetensors").read_bytes()
    lines = [json.loads(line) for line in (runs / RUN / "metrics.jsonl").read_text().splitlines()]
    return load(data), data, [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def difference(found: Any, expected: Any, *, bits: bool) -> str:
    """How a run differs from the undisturbed one; nothing where it does not."""
    if bits and found[1] != expected[1]:
        return "its weights have other bits"
    for name, value in expected[0].items():
        if float((found[0][name].double() - value.double()).abs().max()) > 1e-10:
            return f"its {name} is another"
    if [line["step"] for line in found[2]] != [line["step"] for line in expected[2]]:
        return "lines of its metrics are missing or doubled"
    return "its metrics are others" if bits and found[2] != expected[2] else ""


def trial(runs: Path, expected: Any, last: float, chance: random.Random, done: Counter[str]) -> str:
    """One training that is killed, up to three times, and goes on; what is wrong with it."""
    ranks, same_number = RANKS, True
    process = child(runs, ranks)
    for number in range(chance.randint(1, 3)):
        what, pids = struck(process, chance, chance.uniform(0, last / (1 + number)))
        done[what] += 1
        if what == "starter":
            process.communicate()
            if not all_left(pids):
                return "ranks were left behind"
            ranks = chance.choice([1, RANKS, RANKS, 3])
            same_number = same_number and ranks == RANKS
            process = child(runs, ranks)
    _, err = process.communicate(timeout=LIMIT)
    if process.returncode:
        return f"it ended with {process.returncode}: {err[-2000:]}"
    return difference(content(runs), expected, bits=same_number)


def main(folder: Path, trials: int, seed: int) -> int:
    """All trials; the exit status."""
    chance, done, wrong = random.Random(seed), Counter[str](), 0
    began = time.monotonic()
    process = child(folder / "whole", RANKS)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    last, expected = time.monotonic() - began, content(folder / "whole")
    for number in range(trials):
        runs = folder / f"trial{number}"
        problem = trial(runs, expected, last, chance, done)
        if problem:
            wrong += 1
            sys.stderr.write(f"trial {number}: {problem}\n")
        shutil.rmtree(runs, ignore_errors=True)
    sys.stdout.write(json.dumps({"trials": trials, "wrong": wrong, **done}))
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
