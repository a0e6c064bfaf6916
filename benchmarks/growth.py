"""How time and memory of a meta-step grow with tasks, inner steps, ways, shots, image size and ranks.

    python benchmarks/growth.py [--out docs/pictures] [--repeats 5] [--only tasks steps]
    python benchmarks/growth.py --draw                  only draw what was measured before

Every point is a process of its own with one thread, which keeps freed memory as the command line does: processor
milliseconds of one meta-step (loss and gradient, no optimiser; median), and by how much the peak of resident memory
rises over what the process held before its first step. Ranks are trainings by the command line, timed by the clock;
their memory is the peak of each process, that which started the ranks among them, added up: what they share counts in
each.
Conv-4 with 32 filters and batch norm over the current rows on random grey pictures; all sizes but one stay as in BASE.

Writes growth.json, growth-time.png and growth-memory.png.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from quickstudy.learners.learner import AbstractLearner

BASE = {"tasks": 4, "steps": 5, "way": 5, "shot": 1, "query": 5, "side": 28}
AXES: dict[str, tuple[int, ...]] = {
    "tasks": (1, 2, 4, 8),
    "steps": (1, 2, 5, 10),
    "way": (5, 10, 20),
    "shot": (1, 5, 10),
    "side": (28, 42, 63, 84),
}
LABELS = {
    "tasks": "tasks a step",
    "steps": "inner steps",
    "way": "way (classes a task)",
    "shot": "shot (examples a class)",
    "side": "side of a picture (pixels)",
    "ranks": "ranks (processes)",
}
LEARNERS = ("MAML", "MAML, adjoint", "FOMAML", "ProtoNet")
RANKED = "omniglot-maml-fast"  # what ranks are measured on: its tasks a step are divided
RANKED_STEPS = 12
OF_RANKS = {"milliseconds": "ms a meta-step (clock)", "megabytes": "MB, all processes"}


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # what a child measures
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure(**json.loads(given.inside))))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "growth.json"
    if not given.draw:
        points = measured(given.only, given.repeats)
        if kept.exists():  # axes that were not asked for stay as they were
            before = json.loads(kept.read_text(encoding="utf-8"))["points"]
            points = [point for point in before if point["axis"] not in given.only] + points
        about = {"machine": platform.machine(), "cores": os.cpu_count(), "base": BASE, "command": " ".join(sys.argv)}
        kept.write_text(json.dumps({**about, "points": points}, indent=1) + "\n", encoding="utf-8")
    found = json.loads(kept.read_text(encoding="utf-8"))["points"]
    draw(found, "milliseconds", "ms a meta-step", given.out / "growth-time.png")
    draw(found, "megabytes", "MB over the start", given.out / "growth-memory.png")


def measured(axes: list[str], repeats: int) -> list[dict[str, Any]]:
    """Every point of the axes."""
    points = []
    known: dict[str, dict[str, float]] = {}
    for axis, values in AXES.items():
        for learner in LEARNERS if axis in axes else ():
            if axis == "steps" and learner == "ProtoNet":
                continue
            for value in values:
                sizes = {**BASE, axis: value}
                asked = json.dumps({"learner": learner, "repeats": repeats, **sizes})
                known[asked] = known.get(asked) or child(asked)
                points.append({"axis": axis, "learner": learner, "value": value, **known[asked]})
                print(axis, value, learner, *(f"{name} {x:.1f}" for name, x in known[asked].items()), flush=True)
    if "ranks" in axes:
        points += ranked()
    return points


def child(asked: str) -> dict[str, float]:
    """One point in a process of its own."""
    command = [sys.executable, __file__, "--inside", asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{asked}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def learner_of(name: str, net: nn.Module, way: int, steps: int) -> AbstractLearner:
    """A learner by its name in the figures."""
    from quickstudy.learners import FOMAML, IMAML, MAML, ProtoNet, Reptile

    if name == "ProtoNet":
        return ProtoNet(net)
    if name == "FOMAML":
        return FOMAML(net, way, inner_steps=steps, inner_lr=0.01, transductive=True)
    if name == "Reptile":
        return Reptile(net, way, inner_steps=steps, inner_batch=None, transductive=True)
    if name == "iMAML":
        return IMAML(net, way, inner_steps=steps, inner_lr=0.01, transductive=True)
    memory: Any = "adjoint" if name.endswith("adjoint") else "unrolled"
    return MAML(net, way, inner_steps=steps, inner_lr=0.01, transductive=True, memory=memory)


def measure(
    learner: str,
    repeats: int,
    tasks: int,
    steps: int,
    way: int,
    shot: int,
    query: int,
    side: int,
    filters: int = 32,
    at_once: int | None = None,
    count: bool = False,
) -> dict[str, float]:
    """In the child: one point.

    Args:
        learner: one that :func:`learner_of` knows.
        repeats: steps after the first.
        tasks: of a step.
        steps: of the inner loop.
        way: classes of a task.
        shot: support examples of a class.
        query: query examples of a class.
        side: of a picture, in pixels.
        filters: of Conv-4.
        at_once: tasks that are computed together; None: all.
        count: multiplications and additions of a step, too, by torch's counter (afterwards, as it turns kernels off).
    """
    from quickstudy.allocator import keep_large_blocks

    keep_large_blocks()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from quickstudy.episode import Classes, Episode, Examples
    from quickstudy.nets import Conv4

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = learner_of(learner, Conv4(1, side, filters=filters, norm="transductive"), way, steps)

    def drawn(tasks: int, side: int) -> Episode:
        ways = Classes(torch.full((tasks,), way))
        labels = (torch.arange(way).repeat_interleave(rows).repeat(tasks, 1) for rows in (shot, query))
        support, asked = (Examples(torch.rand(*y.shape, 1, side, side), y, ways) for y in labels)
        return Episode(support, asked)

    def step(model: AbstractLearner, episode: Episode) -> None:
        model.zero_grad()
        for portion in episode.chunks(at_once):
            model.meta_loss(portion).loss.sum().backward()  # type: ignore[no-untyped-call]

    # A small step first, as libraries come into memory when they are first called.
    step(learner_of(learner, Conv4(1, 16, filters=4, norm="transductive"), way, 1), drawn(1, 16))
    episode = drawn(tasks, side)
    forget_peak()
    held = peak()
    seconds = []
    rose = 0.0
    for number in range(repeats + 1):
        started = time.process_time()
        step(model, episode)
        seconds.append(time.process_time() - started)
        if number == 1:  # later steps need no more, and their holes are the allocator's
            rose = peak() - held
    found = {"milliseconds": 1000 * statistics.median(seconds[1:]), "megabytes": rose}
    if count:
        with FlopCounterMode(display=False) as counter:
            step(model, episode)
        found["operations"] = float(counter.get_total_flops())
    return found


def ranked() -> list[dict[str, Any]]:
    """Milliseconds of the clock a training step, and megabytes of all processes together, by ranks."""
    points = []
    for ranks in range(1, (os.cpu_count() or 1) + 1):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
            command = (
                f"train {RANKED} --train.steps {RANKED_STEPS} --train.validate-every {RANKED_STEPS} --ranks {ranks}"
            )
            arguments = [sys.executable, "-m", "quickstudy", *command.split(), "--device", "cpu", "--runs", folder]
            with subprocess.Popen(
                [*arguments, "--train.validate-episodes", "2"],
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ) as training:
                megabytes = peaks(training)
            if training.returncode:
                said.seek(0)
                raise SystemExit(said.read())
            lines = next(Path(folder).glob("*/metrics.jsonl")).read_text(encoding="utf-8").splitlines()
        seconds = [record["seconds"] for record in map(json.loads, lines) if "seconds" in record]
        point = {"milliseconds": 1000 * statistics.median(seconds[2:])}
        point |= {"megabytes": sum(megabytes.values())} if megabytes else {}
        points.append({"axis": "ranks", "learner": "MAML", "value": ranks, **point})
        print("ranks", ranks, *(f"{name} {x:.1f}" for name, x in point.items()), flush=True)
    return points


def peaks(started: subprocess.Popen[bytes]) -> dict[int, float]:
    """Largest resident megabytes of a process and of its ranks, by number; nothing where there is no /proc.

    What a process had is known until it ends, so all are looked at again and again.
    """
    found: dict[int, float] = {}
    while started.poll() is None:
        numbers = [started.pid]
        with contextlib.suppress(OSError):  # they come and go while they are looked at
            for file in Path("/proc", str(started.pid), "task").glob("*/children"):
                numbers += map(int, file.read_text().split())
        for number in numbers:
            about = Path("/proc", str(number))
            with contextlib.suppress(OSError):
                lines = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
                if "VmHWM" in lines and os.path.samefile(about / "exe", sys.executable):  # no compiler of C
                    found[number] = int(lines["VmHWM"].split()[0]) * 1024 / 1e6
        time.sleep(0.05)
    return found


def forget_peak() -> None:
    """Let the largest be what is resident now (Linux); elsewhere what importing took at most stays in it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Largest resident memory so far, MB."""
    with contextlib.suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def draw(points: list[dict[str, Any]], quantity: str, label: str, path: Path) -> None:
    """One panel an axis, one line a learner; both scales begin at zero, so that straight means proportional."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes = [axis for axis in LABELS if any(p["axis"] == axis and quantity in p for p in points)]
    columns = 3
    rows = -(-len(axes) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.7 * rows), squeeze=False)
    for panel in panels.flat[len(axes) :]:
        panel.set_axis_off()
    for axis, panel in zip(axes, panels.flat, strict=False):
        for number, learner in enumerate(LEARNERS):
            mine = sorted((p["value"], p[quantity]) for p in points if p["axis"] == axis and p["learner"] == learner)
            if mine:
                name = RANKED if axis == "ranks" else learner
                panel.plot(*zip(*mine, strict=True), marker="o", markersize=4, color=f"C{number}", label=name)
        panel.set_xlabel(LABELS[axis])
        panel.set_ylabel(OF_RANKS[quantity] if axis == "ranks" else label)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0, top=1.1 * max(p[quantity] for p in points if p["axis"] == axis and quantity in p))
        panel.grid(alpha=0.3)
        if axis == "ranks":
            panel.set_xticks(sorted({p["value"] for p in points if p["axis"] == axis}))
            panel.legend(fontsize=8)
    handles, names = panels.flat[0].get_legend_handles_labels()
    what = "Time" if quantity == "milliseconds" else "Peak memory"
    sizes = ", ".join(f"{value} {name}" for name, value in BASE.items())
    figure.suptitle(
        f"{what} of a meta-step on one thread of a CPU; where an axis does not say otherwise: {sizes}", fontsize=9
    )
    figure.legend(handles, names, loc="lower center", ncols=len(LEARNERS), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 0.98))
    figure.savefig(path, dpi=75)
    plt.close(figure)


if __name__ == "__main__":
    main()
