"""T2A: who reaches a goal first, by the clock, as users run it. What was measured before is kept."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import settings
from benchmarks.speed.goals import GOALS
from benchmarks.speed.harness import Plan
from benchmarks.speed.process import ROOT

__all__ = ["measure_goals"]

_WORDS = (
    "Seconds of training until a test on 400 tasks of unseen characters (1,000 unseen waves) first reaches 97.5 % "
    "(a mean squared error of 0.70); the tests are not counted. As users run it, one seed. Peers train loops after "
    "the hyperparameters of their own example scripts; `-our-settings`: those of our recipe."
)


def measure_goals(
    path: Path, plan: Plan, limit: float, goals: list[str], say: Callable[[str], None], origin: dict[str, Any]
) -> dict[str, Any]:
    """Train those that the file does not hold yet, one after the other, and write it after each.

    Args:
        path: the file of the row.
        plan: data root, interpreter, and which peers.
        limit: seconds of training for each.
        goals: names of ``goals.GOALS``.
        say: told of what happens.
        origin: machine, commit and command, kept with each training.
    """
    about: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"id": "T2A", "runs": {}}
    about["words"] = _WORDS
    for goal in goals:
        for name in GOALS[goal][3]:
            if plan.only and name not in plan.only and name != "quickstudy":
                continue
            known = about["runs"].setdefault(goal, {})
            # One that did not get there within a shorter limit is tried again.
            if name in known and (known[name]["reached"] is not None or known[name]["limit"] >= limit):
                continue
            say(f"  {goal}, {name}, at most {limit / 60:.0f} minutes")
            known[name] = _run(goal, name, limit, plan, say) | origin
            known[name]["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about, indent=1) + "\n")
    return about


def _run(goal: str, name: str, limit: float, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """One training: its curve, and when it reached the goal."""
    order = {"goal": goal, "contestant": name, "limit": limit, "data_root": plan.data_root}
    if plan.quick:
        order["every"] = 2
    environment = settings.environment("as-run", ours=name == "quickstudy")
    environment["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"
    command = [plan.python, "-m", "benchmarks.speed.goals", json.dumps(order)]
    curve: list[dict[str, float]] = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            curve.append(json.loads(line))
            say(f"    {curve[-1]['seconds']:.1f} s, {curve[-1]['steps']} steps: {curve[-1]['value']:.4g}")
        said = process.stderr.read().strip().splitlines()
    error = said[-1] if process.returncode and said else None
    target, more_is_better, *_ = GOALS[goal]
    last = curve[-1] if curve else {"seconds": 0.0, "steps": 0, "value": float("nan")}
    there = last["value"] >= target if more_is_better else last["value"] <= target
    return {
        "reached": last["seconds"] if there else None,
        "limit": limit,
        "steps": last["steps"],
        "last": last["value"],
        "curve": curve,
        "error": error,
    }
