"""A worker as the harness sees it: a process that is sent commands and answers them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.speed import settings
from benchmarks.speed.worker import Order

__all__ = ["ROOT", "WorkerError", "WorkerProcess"]

ROOT = Path(__file__).parents[2]


class WorkerError(Exception):
    """A worker could not do what it was told; the message is its own."""


class WorkerProcess:
    """One contestant's process; it stays alive between commands and computes only while it is asked.

    Args:
        order: what it is to be.
        python: the interpreter of the peers' environment.
        more: variables of its environment.

    Raises:
        WorkerError: it cannot be made, for instance because its library is not installed.
    """

    def __init__(self, order: Order, python: str = sys.executable, more: Mapping[str, str] | None = None) -> None:
        self.order = order
        environment = settings.environment(order.column, ours=order.is_ours)
        environment |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **(more or {})}
        # What libraries say on import is of no use; what a worker could not do, it answers.
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.speed.worker", json.dumps(asdict(order))],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self._answer()
        except WorkerError:
            self.close()
            raise

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """The answer to a command.

        Raises:
            WorkerError: it refused, or died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _died(self) -> WorkerError:
        return WorkerError(f"its process ended with status {self._process.wait()}")

    def close(self) -> None:
        """Let it end, and wait until it has."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
