"""Results as JSON, one file a row, and the Markdown page that is made from all of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed.floors import floor
from benchmarks.speed.harness import BUSY, Row
from benchmarks.speed.process import ROOT
from benchmarks.speed.workloads import WORKLOADS, find

__all__ = ["NOTES", "PAGE", "RESULTS", "command_line", "page", "save"]

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "benchmarks" / "RESULTS.md"
NOTES = ROOT / "benchmarks" / "NOTES.md"

GPU_ROWS = ("G1", "G2", "G3", "G4", "G5")
_HEAD = """# quickstudy beside other meta-learning libraries

This page is made by `benchmarks/bench.py` from `benchmarks/results/*.json` and `benchmarks/NOTES.md`; edit those.

Each contestant computes the same loss and gradient as a plain reference, in float64 to 1e-10 of the largest entry, or
it is not timed. Contestants run in processes of their own, in turns, never two at once. Figures are medians over
rounds, quartiles in brackets; ratios are taken round by round, best peer over quickstudy.

- **equal settings**: one thread and freed memory kept, for everyone; seconds of the processor.
- **as users run it**: peers with their defaults, quickstudy as its command line runs; seconds by the clock.
- **bound**: our time over the shortest possible one, from the row's arithmetic and memory traffic
  (`benchmarks/speed/floors.py`) at the peaks that this machine reached in the same run.
"""


def save(row: Row, machine: dict[str, Any], command: str, folder: Path = RESULTS) -> Path:
    """Keep a row; the file keeps the other column of the same row.

    Args:
        row: what was found.
        machine: see ``machine.describe``.
        command: by which it can be had again.
        folder: of results.
    """
    workload = find(row.id)
    path = folder / f"{row.id}.json"
    about = json.loads(path.read_text()) if path.exists() else {}
    least = floor(workload)
    about |= {
        "id": row.id,
        "title": workload.title,
        "tasks": workload.tasks,
        "floor": asdict(least),
        "promised": {"equal": workload.equal, "as-run": workload.as_run},
    }
    about.setdefault("columns", {})[row.column] = {
        "date": row.date,
        "command": command,
        "machine": machine,
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
    parts = [_HEAD, "\n## Summary\n", _summary(found, rows)]
    parts += ["\n## On a GPU\n", _summary(found, GPU_ROWS)]
    parts += [_memory(found["W7"])] if "W7" in found else ["\n## W7: memory\n\nnot measured\n"]
    parts += [_to_accuracy(found["T2A"])] if "T2A" in found else ["\n## T2A: time to accuracy\n\nnot measured\n"]
    parts += ["\n## Every contestant\n", *(_details(found[id]) for id in (*rows, *GPU_ROWS) if id in found)]
    parts += ["\n## Machines, versions, commands\n", _sources(found)]
    if notes.exists():
        parts.append("\n" + notes.read_text())
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


# --- tables ------------------------------------------------------------------------------------------


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{_number(seconds * factor)} {unit}"
    raise AssertionError


def _ratio(found: dict[str, float]) -> str:
    return f"**{found['median']:.2f}** ({found['low']:.2f} .. {found['high']:.2f})"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _summary(found: dict[str, Any], ids: Iterable[str]) -> str:
    head = ["row", "work", "best peer", "ours", "equal settings", "promised", "as users run it", "promised", "bound"]
    return _table(head, (_summary_row(id, found.get(id)) for id in ids))


def _summary_row(id: str, about: dict[str, Any] | None) -> list[str]:
    if about is None:
        return [id, find(id).title, "not measured", *[""] * 6]
    columns = about["columns"]
    first = columns.get("equal") or columns["as-run"]
    best, mine = first["best_peer"], _fastest_of_ours(first)
    cells = [id, about["title"]]
    cells.append(f"{best} {_time(first['summary'][best]['median'])}" if best else "none")
    cells.append(f"{mine} {_time(first['summary'][mine]['median'])}" if mine else "not timed")
    for column in ("equal", "as-run"):
        promised = about["promised"][column]
        cells += [_ratios_of(columns.get(column)), f"{promised:g}" if promised else ""]
    return [*cells, _distance(about, first, mine)]


def _fastest_of_ours(column: dict[str, Any]) -> str | None:
    mine = {name: found["median"] for name, found in column["summary"].items() if name.startswith("quickstudy")}
    return min(mine, key=mine.__getitem__) if mine else None


def _ratios_of(column: dict[str, Any] | None) -> str:
    """The ratio of plain quickstudy, and those of its other forms by name."""
    if column is None or not column["ratios"]:
        return "not measured"
    words = []
    for name, found in column["ratios"].items():
        form = name.removeprefix("quickstudy").removeprefix("-")
        words.append((f"{form} " if form else "") + _ratio(found))
    if (column.get("busy") or 0) > BUSY:
        words.append(f"(other programs used {column['busy']:.0%} of the machine)")
    return "; ".join(words)


def _distance(about: dict[str, Any], column: dict[str, Any], mine: str | None) -> str:
    if mine is None or column["device"] != "cpu":
        return ""
    machine, least = column["machine"], about["floor"]
    flop_rate = max(machine["matmul_flop_per_s"], machine["conv_flop_per_s"])
    shortest = max(least["flop"] / flop_rate, least["bytes"] / machine["copy_bytes_per_s"])
    return f"{column['summary'][mine]['median'] / shortest:.1f}x of {_time(shortest)}"


def _details(about: dict[str, Any]) -> str:
    parts = [f"\n### {about['id']}: {about['title']}\n"]
    least = about["floor"]
    if least["flop"]:
        parts.append(f"Floor of a unit: {least['flop'] / 1e9:.3g} GFLOP, {least['bytes'] / 1e6:.3g} MB.\n")
    else:
        parts.append(f"Floor of a unit: {least['bytes'] / 1e6:.3g} MB read and written.\n")
    rows = []
    for column, title in (("equal", "equal settings"), ("as-run", "as users run it")):
        found = about["columns"].get(column)
        if found is None:
            continue
        for name, times in sorted(found["summary"].items(), key=lambda item: item[1]["median"]):
            spread = f"({_time(times['low'])} .. {_time(times['high'])})"
            ratio = found["ratios"].get(name)
            rows.append([title, name, f"{_time(times['median'])} {spread}", _ratio(ratio) if ratio else ""])
        rows += [[title, name, why, ""] for name, why in found["refused"].items()]
    parts.append(_table(["settings", "contestant", "a unit", "best peer / this"], rows))
    for column in about["columns"].values():
        for name, steps in column.get("break_even_steps", {}).items():
            words = f"{steps:.0f} steps" if steps is not None else "never"
            parts.append(f"\n{name}: what it takes to prepare is earned back after {words}.\n")
    return "\n".join(parts)


def _memory(about: dict[str, Any]) -> str:
    steps = about["inner_steps"]
    parts = ["\n## W7: peak memory of W1m over inner steps\n", f"{about['words']}\n"]
    head = ["contestant", *(f"{n} steps" for n in steps), "last / first"]
    rows = []
    for name, bytes_of in about["bytes"].items():
        every = [bytes_of[str(n)]["median"] for n in steps]
        rows.append([name, *(f"{value / 1e6:.0f} MB" for value in every), f"{every[-1] / every[0]:.2f}"])
    rows += [[name, why, *[""] * len(steps)] for name, why in about["refused"].items()]
    parts.append(_table(head, rows))
    if about["time_ratio"]:
        parts.append(f"\nTime of the adjoint over that of the unrolled form, 5 steps: {_ratio(about['time_ratio'])}.\n")
    return "\n".join(parts)


def _to_accuracy(about: dict[str, Any]) -> str:
    parts = ["\n## T2A: time to accuracy\n", f"{about['words']}\n"]
    rows = []
    for goal, runs in about["runs"].items():
        for name, run in runs.items():
            reached = run["reached"]
            time = _time(reached) if reached is not None else f"> {_time(run['limit'])}"
            rows.append([goal, name, time, str(run["steps"]), f"{run['last']:.4g}", run["error"] or ""])
    parts.append(_table(["goal", "contestant", "seconds of training", "steps", "last value", ""], rows))
    return "\n".join(parts)


def _sources(found: dict[str, Any]) -> str:
    rows = []
    for id, about in found.items():
        for column, what in about.get("columns", {"": about}).items():
            machine = what["machine"]
            peaks = (
                f"{machine['matmul_flop_per_s'] / 1e9:.0f} GFLOP/s matmul, {machine['conv_flop_per_s'] / 1e9:.0f} "
                f"convolution, {machine['copy_bytes_per_s'] / 1e9:.1f} GB/s copy"
            )
            where = machine["gpu"] if what.get("device", "cpu") != "cpu" else machine["processor"]
            rows.append(
                [
                    id,
                    column,
                    what["date"],
                    f"{where}, {machine['cores']} cores; {peaks}",
                    _versions(what),
                    f"`{what['command']}`",
                ]
            )
    return _table(["row", "column", "date", "machine, one thread's peaks", "versions", "command"], rows)


def _versions(column: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for about in column.get("about", {}).values():
        versions |= about["versions"]
    python = f"Python {column['machine']['python']}, torch {column['machine']['torch']}"
    return ", ".join([python, *(f"{name} {version}" for name, version in versions.items() if name != "torch")])
