"""Results as JSON, one file a row, and the Markdown page that is made from all of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.contestants import OURS
from benchmarks.speed.floors import floor
from benchmarks.speed.goals import GOALS, OUR_SETTINGS
from benchmarks.speed.harness import BUSY, Row
from benchmarks.speed.markdown import in_words, ratio, table
from benchmarks.speed.origins import mixed, origins
from benchmarks.speed.process import ROOT
from benchmarks.speed.promises import MET, MISSED, in_advance, mark, verdict
from benchmarks.speed.workloads import WORKLOADS, Workload, find

__all__ = ["NOTES", "PAGE", "RESULTS", "command_line", "page", "save"]

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "benchmarks" / "RESULTS.md"
NOTES = ROOT / "benchmarks" / "NOTES.md"

MOST_TIME = 1.3
"""What W7's adjoint may take, of the unrolled form's time."""

GPU_ROWS = ("G1", "G2", "G3", "G4", "G5")
_HEAD = f"""# quickstudy beside other meta-learning libraries

This page is made by `benchmarks/bench.py` from `benchmarks/results/*.json` and `benchmarks/NOTES.md`; edit those.

Each contestant computes the same loss and gradient as a plain reference, in float64 to 1e-10 of the largest entry of
each tensor, and what is timed, in float32, as near as rounding allows (`benchmarks/speed/checks.py`), or it is not
timed. Contestants run in processes of their own, in turns, never two at once. Figures are medians over rounds,
quartiles in brackets; ratios are taken round by round, best peer over quickstudy.

- **equal settings**: one thread and freed memory kept, for everyone; seconds of the processor.
- **as users run it**: peers with their defaults, threads included; quickstudy as its command line runs it: one thread,
  freed memory kept, and ranks where a step is large enough for them. Seconds by the clock.
- **2-ranks**: two processes that do what `--ranks 2` does in a step of training, that of the optimiser included, which
  no other contestant does; in meta-testing they meet after each unit, not only at the end.
- Peers run channels-first, as these libraries do; quickstudy chooses its own layout of maps.
- **{MET}** and **{MISSED}**, with a number: the ratio that the project set out to reach, met or missed; beside the row,
  missed where one of them is.
- **direct floor**, **Winograd floor**: our time over that of the row's arithmetic and memory traffic
  (`benchmarks/speed/floors.py`) at the best rates that one thread reached on this machine in the same run. Arithmetic
  is that of direct convolutions, or that of 3x3 convolutions of at least 32 channels in Winograd's form F(2x2, 3x3),
  which quickstudy uses, with 16 multiplications for 36. Neither is a bound: caches may beat the traffic, and other
  forms the arithmetic.
- Kernels in C are compiled once on a machine; that time is in the last table and in no row.
"""


def save(row: Row, origin: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep a row; the file keeps the other column of the same row.

    Args:
        row: what was found.
        origin: machine, commit, and the command by which it can be had again.
        folder: of results.
    """
    workload = find(row.id)
    path = folder / f"{row.id}.json"
    about = json.loads(path.read_text()) if path.exists() else {}
    columns = about.get("columns", {})
    about = {"id": row.id, "title": workload.title, "tasks": workload.tasks, "columns": columns}
    columns[row.column] = {
        "date": row.date,
        **origin,
        "device": row.device,
        "clock": row.clock,
        "seconds": row.seconds,
        "first": row.first,
        "summary": {name: asdict(found) for name, found in row.times.items()},
        "best_peer": row.best_peer,
        "ratios": {name: asdict(found) for name, found in row.ratios().items()},
        "break_even_steps": row.break_even(),
        "refused": row.refused,
        "busy": row.busy,
        "about": row.about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=1) + "\n")
    return path


def command_line(arguments: Iterable[str]) -> str:
    """The command as one would type it in the repository."""
    return shlex.join(["python", "benchmarks/bench.py", *arguments])


def page(folder: Path = RESULTS, notes: Path = NOTES) -> str:
    """The whole page."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    rows = [workload.id for workload in WORKLOADS]
    parts = [_HEAD, "\n" + mixed(found), "\n## Summary\n", _summary(found, rows)]
    parts += ["\n## On a GPU\n", _summary(found, GPU_ROWS)]
    parts += [_memory(found["W7"])] if "W7" in found else ["\n## W7: memory\n\nnot measured\n"]
    parts += [_to_accuracy(found["T2A"])] if "T2A" in found else ["\n## T2A: time to accuracy\n\nnot measured\n"]
    parts += ["\n## Every contestant\n", *(_details(found[id]) for id in (*rows, *GPU_ROWS) if id in found)]
    parts += ["\n## Machines, versions, commands\n", origins(found)]
    if notes.exists():
        parts.append("\n" + notes.read_text())
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


# --- tables ------------------------------------------------------------------------------------------


def _summary(found: dict[str, Any], ids: Iterable[str]) -> str:
    head = ["row", "work", "best peer", "ours", "equal settings", "as users run it", "direct floor", "Winograd floor"]
    return table(head, (_summary_row(id, found.get(id)) for id in ids))


def _summary_row(id: str, about: dict[str, Any] | None) -> list[str]:
    workload = find(id)
    if about is None:
        aim = in_advance(workload) if id in GPU_ROWS else ""
        return [id, workload.title, "not measured", "", "", aim, "", ""]
    columns = about["columns"]
    first = columns.get("equal") or columns["as-run"]
    best, mine = first["best_peer"], _fastest_of_ours(first)
    cells = [f"{id} {verdict(workload, columns)}".rstrip(), about["title"]]
    cells.append(f"{best} {in_words(first['summary'][best]['median'])}" if best else "none")
    cells.append(f"{mine} {in_words(first['summary'][mine]['median'])}" if mine else "not timed")
    cells += [_ratios_of(workload, column, columns.get(column)) for column in ("equal", "as-run")]
    return [*cells, *_distances(workload, first, mine)]


def _fastest_of_ours(column: dict[str, Any]) -> str | None:
    mine = {name: found["median"] for name, found in column["summary"].items() if name.startswith("quickstudy")}
    return min(mine, key=mine.__getitem__) if mine else None


def _ratios_of(workload: Workload, column: str, found: dict[str, Any] | None) -> str:
    """The ratio of plain quickstudy, and those of its other forms by name, each with what was promised of it."""
    if found is None or not found["ratios"]:
        return "not measured"
    words = []
    for name, each in found["ratios"].items():
        form = name.removeprefix("quickstudy").removeprefix("-")
        words.append(f"{form} {ratio(each)} {mark(workload, column, found, name)}".strip())
    if found["device"] != "cpu" and workload.promised.gpu is None:
        words.append(in_advance(workload))
    if (found.get("busy") or 0) > BUSY:
        words.append(f"(other programs used {found['busy']:.0%} of the machine)")
    return "; ".join(words)


def _distances(workload: Workload, column: dict[str, Any], mine: str | None) -> list[str]:
    """Our time over both floors."""
    if mine is None or column["device"] != "cpu":
        return ["", ""]
    machine, least = column["machine"], floor(workload)
    rates = max(machine["matmul_flop_per_s"], machine["conv_flop_per_s"]), machine["copy_bytes_per_s"]
    floors, taken = (least.seconds(*rates), least.winograd_seconds(*rates)), column["summary"][mine]["median"]
    return ["" if there is None else f"{taken / there:.1f}x of {in_words(there)}" for there in floors]


def _work(workload: Workload) -> str:
    """What the floors were worked out from."""
    least = floor(workload)
    if not least.flop:
        return f"Work of a unit: {least.bytes / 1e6:.3g} MB read and written.\n"
    words = [f"{least.flop / 1e9:.3g} GFLOP"]
    words += [f"{least.winograd_flop / 1e9:.3g} GFLOP in Winograd's form"] if least.winograd_flop is not None else []
    return f"Work of a unit: {', '.join([*words, f'{least.bytes / 1e6:.3g} MB'])}.\n"


def _details(about: dict[str, Any]) -> str:
    workload = find(about["id"])
    parts = [f"\n### {about['id']}: {about['title']}\n", _work(workload)]
    rows, prepared = [], []
    for column, title in (("equal", "equal settings"), ("as-run", "as users run it")):
        found = about["columns"].get(column)
        if found is None:
            continue
        for name, times in sorted(found["summary"].items(), key=lambda item: item[1]["median"]):
            spread = f"({in_words(times['low'])} .. {in_words(times['high'])})"
            beside = found["ratios"].get(name)
            cells = [title, name, f"{in_words(times['median'])} {spread}", ratio(beside) if beside else ""]
            rows.append([*cells, mark(workload, column, found, name)])
        rows += [[title, name, why, "", ""] for name, why in found["refused"].items()]
        prepared += [f"- {title}, {words}" for words in _break_even(found)]
    parts.append(table(["settings", "contestant", "a unit", "best peer / this", "promised"], rows))
    return "\n".join([*parts, *prepared])


def _break_even(column: dict[str, Any]) -> list[str]:
    """When a compiled form has earned back what preparing it takes, with empty caches."""
    first, found = column["first"], []
    for name, steps in column["break_even_steps"].items():
        took = f"its first unit takes {in_words(first[name])}, that of quickstudy {in_words(first['quickstudy'])}"
        earned = "never earned back" if steps is None else f"earned back after {steps:.0f} steps"
        found.append(f"{name}: {took}; {earned}.")
    return found


def _memory(about: dict[str, Any]) -> str:
    steps = about["inner_steps"]
    parts = ["\n## W7: peak memory of W1m over inner steps\n", f"{about['words']}\n"]
    head = ["contestant", *(f"{n} steps" for n in steps), "last / first"]
    rows = []
    for name, bytes_of in about["bytes"].items():
        every = [bytes_of[str(n)]["median"] for n in steps]
        rows.append([name, *(f"{value / 1e6:.0f} MB" for value in every), f"{every[-1] / every[0]:.2f}"])
    rows += [[name, why, *[""] * len(steps)] for name, why in about["refused"].items()]
    parts.append(table(head, rows))
    if about["time_ratio"]:
        kept = MET if about["time_ratio"]["median"] <= MOST_TIME else MISSED
        words = f"Time of the adjoint over that of the unrolled form, 5 steps: {ratio(about['time_ratio'])}"
        parts.append(f"\n{words} {kept} {MOST_TIME:g}.\n")
    return "\n".join(parts)


def _to_accuracy(about: dict[str, Any]) -> str:
    parts = ["\n## T2A: time to accuracy\n", f"{about['words']}\n"]
    rows = []
    for goal, runs in about["runs"].items():
        for name, run in runs.items():
            cells = [goal, name, _training_time(run), str(run["steps"])]
            cells.append("" if run["last"] is None else f"{run['last']:.4g}")
            rows.append([*cells, *(_sooner(goal, runs, about) if name == OURS else ("", ""))])
    head = ["goal", "contestant", "seconds of training", "steps", "last value", "best peer / this", "promised"]
    parts.append(table(head, rows))
    return "\n".join(parts)


def _training_time(run: dict[str, Any]) -> str:
    if run["error"] is not None:
        return f"failed: {run['error']}"
    if run["reached"] is not None:
        return in_words(run["reached"])
    spent = _spent(run)
    return f"> {in_words(run['limit'])}" if spent >= run["limit"] else f"never; it ended after {in_words(spent)}"


def _spent(run: dict[str, Any]) -> float:
    """Seconds of training until the last test."""
    return float(run["curve"][-1]["seconds"]) if run["curve"] else 0.0


def _sooner(goal: str, runs: dict[str, Any], about: dict[str, Any]) -> tuple[str, str]:
    """How many times as long the best peer took by its own example, and whether that is what was promised.

    Peers that were stopped before the goal count with the time that they had, which is the least that it takes them;
    those that were trained on another processor do not count.
    """

    def processor(run: dict[str, Any]) -> list[Any]:
        machine = (about | run)["machine"]
        return [machine.get(name) for name in ("processor", "family", "model", "stepping")]

    mine, target = runs[OURS], GOALS[goal].promised
    least = None
    for name, run in runs.items():
        peer = not name.startswith(OURS) and not name.endswith(OUR_SETTINGS)
        if peer and run["error"] is None and processor(run) == processor(mine):
            reached = run["reached"]
            took = (_spent(run) if reached is None else reached, reached is None)
            least = took if least is None else min(least, took)
    if least is None:
        return "", ""
    if mine["reached"] is None:
        return "", f"{MISSED} {target:g}"
    seconds, more = least
    times = seconds / mine["reached"]
    sign = MET if times >= target else "" if more else MISSED
    return f"{'at least ' if more else ''}**{times:.1f}**", f"{sign} {target:g}".strip()
