"""Floor 6: a process that trains one trial after another, as the sweep that started it says.

It reads a line of JSON for each trial and writes one for each validation, to which the answer says whether to stop,
and one at the end. It is a command (``python -m quickstudy.sweeps.worker FOLDER``), as ranks are.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from quickstudy.allocator import keep_large_blocks
from quickstudy.errors import StorageError
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.trial import run_trial
from quickstudy.train import Interrupted

__all__ = ["main"]


def main(folder: str) -> None:
    """Work until there is nothing more to read.

    Args:
        folder: of the sweep.
    """
    # What others print must not stand between the messages.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    keep_large_blocks()
    parent = os.getppid()
    for line in sys.stdin:
        job = json.loads(line)
        _send(out, _done(SweepFolder(Path(folder)), job, parent, out))


def _done(folder: SweepFolder, job: dict[str, Any], parent: int, out: TextIO) -> dict[str, Any]:
    def report(step: int, value: float) -> bool:
        _send(out, {"kind": "report", "step": step, "value": value})
        answer = sys.stdin.readline()
        if not answer:  # nobody is there any more
            raise Interrupted("The sweep has ended.")
        return bool(json.loads(answer)["stop"])

    try:
        reached = run_trial(
            folder,
            job["trial"],
            job["values"],
            report,
            data_root=job["data_root"],
            device=job["device"],
            parent=parent,
        )
    except Interrupted as interrupted:
        return {"kind": "interrupted", "why": str(interrupted)}
    except StorageError as error:
        return {"kind": "storage", "why": str(error)}
    return {"kind": "reached", **asdict(reached)}


def _send(out: TextIO, message: dict[str, Any]) -> None:
    try:
        out.write(json.dumps(message) + "\n")
        out.flush()
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
