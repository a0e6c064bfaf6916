"""T2A: who reaches a goal first, by the clock, as users run it. What was measured before is kept."""

from __future__ import annotations

import datetime
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed import settings
from benchmarks.speed.contestants import OURS
from benchmarks.speed.goals import GOALS
from benchmarks.speed.harness import Plan
from benchmarks.speed.process import ROOT

__all__ = ["measure_goals"]

_WORDS = (
    "Seconds of training until a test on 400 tasks of unseen characters (1,000 unseen waves) first reaches 97.5 % "
    "(a mean squared error of 0.70); tests come every 100 (1,000) steps and are not counted. As users run it, one "
    "seed. Peers train loops after the hyperparameters of their own example scripts; `-our-settings`: those of our "
    "recipe. Compared are trainings on the same kind of processor."
)


def measure_goals(
    path: Path, plan: Plan, limit: float, goals: Iterable[str], say: Callable[[str], None], origin: dict[str, Any]
) -> bool:
    """Train those that the file does not hold yet, one after the other, and write it after each.

    One that failed is tried again the next time, and does not take the place of one that did not fail.

    Args:
        path: the file of the row.
        plan: data root, interpreter, and which peers.
        limit: seconds of training for each.
        goals: names of ``goals.GOALS``.
        say: told of what happens.
        origin: machine, commit and command, kept with each training.

    Returns:
        Whether none failed.
    """
    about: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"id": "T2A", "runs": {}}
    about["words"] = _WORDS
    well = True
    for goal in goals:
        known = about["runs"].setdefault(goal, {})
        for name in GOALS[goal].contestants:
            if plan.only and name not in plan.only and name != OURS:
                continue
            if name in known and _settled(known[name], limit):
                say(f"  {goal}, {name}: measured before, which stays until it is taken out of {path}")
                continue
            say(f"  {goal}, {name}, at most {limit / 60:.3g} minutes")
            found = _run(goal, name, limit, plan, say) | origin
            found["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            if found["error"] is not None:
                well = False
                say(f"    failed: {found['error']}")
            if found["error"] is None or known.get(name, found)["error"] is not None:
                known[name] = found
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(about, indent=1) + "\n")
    return well


def _settled(run: dict[str, Any], limit: float) -> bool:
    """Whether to try again would tell nothing new: it got there, or had as much time as it would have now."""
    return run["error"] is None and (run["reached"] is not None or run["limit"] >= limit)


def _run(goal: str, name: str, limit: float, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """One training: its curve, and when it reached the goal."""
    order = {"goal": goal, "contestant": name, "limit": limit, "data_root": plan.data_root}
    if plan.quick:
        order["every"] = 2
    environment = settings.environment("as-run", ours=name == OURS)
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"
    command = [plan.python, "-m", "benchmarks.speed.goals", json.dumps(order)]
    curve: list[dict[str, float]] = []
    # Not a pipe, which would be full, and hold the process up, before anybody reads it.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            curve.append(json.loads(line))
            say(f"    {curve[-1]['seconds']:.1f} s, {curve[-1]['steps']} steps: {curve[-1]['value']:.4g}")
        process.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    error = None
    if process.returncode:
        error = said[-1] if said else f"its process ended with status {process.returncode}"
    last = curve[-1] if curve else {"seconds": 0.0, "steps": 0, "value": None}
    there = last["value"] is not None and GOALS[goal].reached_by(last["value"])
    return {
        "reached": last["seconds"] if there else None,
        "limit": limit,
        "steps": last["steps"],
        "last": last["value"],
        "curve": curve,
        "error": error,
    }
