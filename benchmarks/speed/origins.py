"""What the rows of the page were measured with, and whether that was the same for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.speed.contestants import OURS
from benchmarks.speed.markdown import table

__all__ = ["APART", "mixed", "origins"]

APART = 1.2
"""How many times faster one of a machine's peaks may be in one row than in another."""

_UNKNOWN = "unknown"
_PEAKS = {
    "matmul_flop_per_s": ("matmul", 1e9, "GFLOP/s"),
    "conv_flop_per_s": ("convolution", 1e9, "GFLOP/s"),
    "copy_bytes_per_s": ("copy", 1e9, "GB/s"),
}


def _measured(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(row, part of it, what was kept of that part): a column, or a training of T2A."""
    for id, about in found.items():
        if "runs" in about:
            for goal, runs in about["runs"].items():
                yield from ((id, f"{goal}, {name}", about | run) for name, run in runs.items())
        else:
            yield from ((id, column, what) for column, what in about.get("columns", {"": about}).items())


def _commit(what: dict[str, Any]) -> str:
    source = what.get("source") or {}
    commit = source.get("commit")
    return _UNKNOWN if commit is None else commit[:7] + (" with changes" if source.get("changed") else "")


def _processor(machine: dict[str, Any]) -> str:
    known = [f"{name} {machine[name]}" for name in ("family", "model", "stepping") if name in machine]
    return " ".join([machine["processor"], *known])


def mixed(found: dict[str, Any]) -> str:
    """A paragraph for the page's head: of which commits and machines its rows are."""
    parts = [what for _, _, what in _measured(found)]
    if not parts:
        return ""
    commits = sorted({_commit(what) for what in parts})
    machines = sorted({_processor(what["machine"]) for what in parts})
    apart = []
    for key, (name, unit, word) in _PEAKS.items():
        least, most = (pick(what["machine"][key] for what in parts) for pick in (min, max))
        if most > APART * least:
            apart.append(f"{name} {least / unit:.0f} .. {most / unit:.0f} {word}")
    if len(commits) == len(machines) == 1 and not apart and commits != [_UNKNOWN]:
        return f"All rows are of commit {commits[0]} and of one machine, {machines[0]}.\n"
    words = [f"of {len(commits)} commits ({', '.join(commits)})"] if len(commits) > 1 else []
    words += ["of commits that were not kept"] if commits == [_UNKNOWN] else []
    words += [f"of {len(machines)} machines ({', '.join(machines)})"] if len(machines) > 1 else []
    words += [f"of a machine in several states, by its peaks ({', '.join(apart)})"] if apart else []
    return (
        f"**Rows are {', and '.join(words)}.** Compare figures within a row only; the last table says which is which.\n"
    )


def origins(found: dict[str, Any]) -> str:
    """The table of machines, versions and commands."""
    head = ["row", "column", "date", "commit", "machine", "capability", "one thread's peaks", "kernels", "versions"]
    return table([*head, "command"], (_line(*part) for part in _measured(found)))


def _line(id: str, part: str, what: dict[str, Any]) -> list[str]:
    machine = what["machine"]
    where = [_processor(machine) if what.get("device", "cpu") == "cpu" else machine["gpu"], f"{machine['cores']} cores"]
    where += [f"{machine['mhz']:.0f} MHz"] if "mhz" in machine else []
    peaks = [f"{name} {machine[key] / unit:.3g} {word}" for key, (name, unit, word) in _PEAKS.items()]
    kernels = what.get("about", {}).get(OURS, {}).get("kernels", "unknown")
    if "compile_seconds" in machine:
        kernels += f" (once, in {machine['compile_seconds']:.1f} s)"
    return [
        id,
        part,
        what["date"],
        _commit(what),
        ", ".join(where),
        machine.get("capability", "unknown"),
        ", ".join(peaks),
        kernels,
        _versions(what),
        f"`{what['command']}`",
    ]


def _versions(what: dict[str, Any]) -> str:
    versions: dict[str, str] = {}
    for about in what.get("about", {}).values():
        versions |= about["versions"]
    python = f"Python {what['machine']['python']}, torch {what['machine']['torch']}"
    return ", ".join([python, *(f"{name} {version}" for name, version in versions.items() if name != "torch")])
