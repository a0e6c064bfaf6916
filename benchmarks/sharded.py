"""What works with functional gradients when a network's weights are sharded over processes (FSDP2, DTensor).

    python benchmarks/sharded.py [--only NAME ...] [--json FILE]

Two processes on this machine, by gloo. Every case is what somebody would write, held against the same computed on
whole weights in one process: "works" where the numbers agree (1e-9, float64), "wrong" where they do not, though
nothing complained, "refused" by a sentence of quickstudy, "fails" with the first line of an error,
"crashes" where a process was killed.
The cases stand in ``sharded_cases.py``; docs/scaling.md has the table and what follows from it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # ranks import this file as benchmarks.sharded

import torch

from benchmarks.sharded_cases import CASES, Case
from quickstudy.errors import InputError
from quickstudy.train.ranks import AbstractRanks, RanksLost
from quickstudy.train.ranks_messages import Job

__all__ = ["tried"]


def verdict(function: Case, rank: int) -> tuple[str, str]:
    """``works``, ``wrong``, ``refused`` or ``fails``, and why."""
    try:
        found, wanted = function(rank)
        apart = max(
            float("inf") if a.shape != b.shape else float((a - b).detach().abs().max())
            for a, b in zip(found, wanted, strict=True)
        )
    except InputError as error:
        return "refused", str(error).split(": aten", 1)[0]
    except Exception as error:  # whatever it is, it is the finding
        line = next(iter(str(error).strip().splitlines()), "")
        return "fails", f"{type(error).__name__}: {line}"
    if apart == float("inf"):
        return "wrong", "gradients are missing"
    return ("works", "") if apart < 1e-9 else ("wrong", f"differs by {apart:.2g}")


def inside(ranks: AbstractRanks, tell: object, names: list[str]) -> list[list[tuple[str, str]]]:
    """In a rank: what each case gave on every rank."""
    del tell
    return [ranks.exchange(verdict(CASES[name][1], ranks.rank)) for name in names]


def tried(names: list[str]) -> list[dict[str, Any]]:
    """What each case gave: of the two processes the one that fared worse."""
    from benchmarks import sharded as importable  # not __main__, which other processes cannot import
    from quickstudy.train.ranks_launch import run_ranks

    try:
        found = run_ranks(Job(importable.inside, (names,), "cpu", 1), 2, restarts=0)
    except RanksLost as error:  # a process was killed: find by which case
        half = len(names) // 2
        if half:
            return tried(names[:half]) + tried(names[half:])
        signal = re.search(r"signal \d+", str(error))
        why = f"a process ended by {signal.group()}" if signal else str(error)
        return [{"case": names[0], "what": CASES[names[0]][0], "outcome": "crashes", "why": why}]
    order = ("works", "wrong", "refused", "fails")
    rows = []
    for name, said in zip(names, found, strict=True):
        outcome, why = max(said, key=lambda each: order.index(each[0]))
        rows.append({"case": name, "what": CASES[name][0], "outcome": outcome, "why": why})
    return rows


def main() -> None:
    """Try, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="NAME")
    parser.add_argument("--json", type=Path, help="write what was found there, too")
    given = parser.parse_args()
    rows = tried(given.only)
    print(f"torch {torch.__version__}, {platform.machine()}, two processes by gloo\n")
    print("| what | outcome | why |\n|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {row['outcome']} | {row['why'].replace('|', '/')} |")
    if given.json is not None:
        given.json.write_text(
            json.dumps({"torch": torch.__version__, "cases": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
