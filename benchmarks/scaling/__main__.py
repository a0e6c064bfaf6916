"""Measure, fit, extrapolate, print: ``python -m benchmarks.scaling --help``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scaling import divided, outlook, points, tables
from benchmarks.scaling.sizes import LEARNERS
from benchmarks.speed import machine

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "scaling" / "scaling.json"
PARTS = ("measured", "ranks", "extrapolated")


def arguments() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few and small settings, to see that it works")
    parser.add_argument("--repeats", type=int, default=3, help="steps of each setting, of which the median counts")
    parser.add_argument("--out", type=Path, help="where the measurements go (JSON)")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take what FILE has")
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its marks")
    for name, one in outlook.ASSUMPTIONS.items():
        parser.add_argument(f"--{name}", type=float, help=f"{one.unit}; {one.low:g} to {one.high:g} by default")
    return parser


def assumed(given: argparse.Namespace) -> dict[str, outlook.Assumption]:
    """The assumptions; one that is given has no ends.

    Raises:
        ValueError: it makes no sense.
    """
    found = {}
    for name, one in outlook.ASSUMPTIONS.items():
        value = getattr(given, name)
        if value is not None and not (0 <= value < float("inf") and (value or name in ("spread", "hop", "launch"))):
            raise ValueError(f"--{name}: expected a number above 0 ({one.unit}), received {value:g}.")
        found[name] = one if value is None else replace(one, low=value, typical=value, high=value, why="as given")
    return found


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, on this machine, now."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    begun = time.perf_counter()
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "busy": machine.busy_share(),
        "machine": machine.describe(),
        "source": machine.source(),
        "operations": {learner: points.operations(learner, given.quick) for learner in LEARNERS},
        "points": points.measure(say, quick=given.quick, repeats=given.repeats),
        "ranks": divided.measure(say, quick=given.quick),
    }
    return found | {"seconds": round(time.perf_counter() - begun)}


def read(path: Path) -> dict[str, Any]:
    """What was measured before.

    Raises:
        ValueError: it is no such file.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"date", "busy", "machine", "operations", "points", "ranks"} - found.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"Cannot read {path}: {error}. Name a file that --out wrote.") from error
    if missing:
        raise ValueError(f"{path} has no {sorted(missing)[0]!r}. Name a file that --out wrote.")
    return found


def parts(found: dict[str, Any], assumptions: dict[str, outlook.Assumption]) -> dict[str, list[str]]:
    """The tables, by the names of their places in the page."""

    def first() -> Iterator[str]:
        yield from tables.opening(found)
        yield from tables.fitted(found)

    made = (first(), tables.measured_ranks(found), tables.foreseen(found, assumptions))
    return {name: list(lines) for name, lines in zip(PARTS, made, strict=True)}


def main(asked: list[str] | None = None) -> None:
    """Do what was asked for."""
    parser = arguments()
    given = parser.parse_args(asked)
    if given.repeats < 1:
        parser.error(f"--repeats: expected a whole number of at least 1, received {given.repeats}")
    try:
        assumptions = assumed(given)
        found = measured(given) if given.read is None else read(given.read)
        if given.out is not None:
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        made = parts(found, assumptions)
        print("\n".join(line for lines in made.values() for line in lines))
        if given.page is not None:
            page = given.page.read_text(encoding="utf-8")
            for name, lines in made.items():
                page = tables.replaced(page, name, lines)
            given.page.write_text(page, encoding="utf-8")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
