"""Floor 6: the folder of one sweep.

sweeps/<recipe>/
    sweep.json                  what is varied, how trials are drawn and stopped, the metric, how many
    base.toml                   the recipe that trials vary, resolved
    journal.log                 Optuna's journal: the values, the validations and the outcome of every trial
    trials/<recipe>-t<NNN>-s<seed>-001/     a trial, an ordinary run folder
    workers/<N>.log             what a worker process printed
    result.json                 the best trial, and its one meta-test
    report.html
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.errors import DataError, InputError
from quickstudy.files import atomic_write_bytes, storage_error
from quickstudy.recipes import Recipe, load_recipe
from quickstudy.runs import is_run
from quickstudy.train.runlock import held_alone

__all__ = ["SweepFolder"]


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep.

    Args:
        path: the folder.
    """

    path: Path

    @property
    def about(self) -> Path:
        """What is varied."""
        return self.path / "sweep.json"

    @property
    def base(self) -> Path:
        """The recipe that trials vary."""
        return self.path / "base.toml"

    @property
    def journal(self) -> Path:
        """Optuna's."""
        return self.path / "journal.log"

    @property
    def trials(self) -> Path:
        """Run folders."""
        return self.path / "trials"

    @property
    def logs(self) -> Path:
        """What workers printed."""
        return self.path / "workers"

    @property
    def result(self) -> Path:
        """The best trial and its test."""
        return self.path / "result.json"

    @property
    def report(self) -> Path:
        """One page for people."""
        return self.path / "report.html"

    @property
    def exists(self) -> bool:
        """Whether a sweep was begun here."""
        return self.about.is_file()

    def read(self, path: Path) -> dict[str, Any]:
        """One of its JSON files; nothing where there is none.

        Raises:
            DataError: it is no JSON object.
        """
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"Cannot read {path}: {error}. Begin another sweep with --out FOLDER.") from error
        if not isinstance(found, dict):
            raise DataError(f"Cannot read {path}: it is no JSON object. Begin another sweep with --out FOLDER.")
        return found

    def write(self, path: Path, document: dict[str, Any]) -> None:
        """One of its JSON files, whole or not at all."""
        atomic_write_bytes(path, json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n")

    def recipe_of(self, number: int, values: dict[str, Any]) -> Recipe:
        """The recipe of a trial; its name carries the trial's number, so that its run is found again."""
        base = load_recipe(self.base)
        return load_recipe(self.base, {**values, "name": f"{base.name}-t{number:03d}"})

    def run_of(self, recipe: Recipe) -> Path | None:
        """The run folder of a trial, if it was begun; one that was killed before it had a recipe is removed."""
        for path in sorted(self.trials.glob(f"{recipe.name}-s{recipe.seed}-*")):
            if is_run(path):
                return path
            shutil.rmtree(path, ignore_errors=True)
        return None

    def mend_journal(self) -> None:
        """Cut off a last line that was being written when the process was killed; nothing after it was decided."""
        if not self.journal.is_file():
            return
        content = self.journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            atomic_write_bytes(self.journal, content[:whole])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While it lasts no other sweep may work here. The system lets go of it when a process dies.

        Raises:
            InputError: another process does; it is named.
            StorageError: the disk refused.
        """
        new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

        def refuse(whose: str) -> InputError:
            return InputError(
                f"A sweep is going on in {self.path} already{whose or ' (another process)'}. Wait for it to end, or "
                "name another folder with --out."
            )

        with held_alone(self.path / ".lock", refuse):
            try:
                yield
            finally:
                if new and not self.exists:  # refused before it began
                    shutil.rmtree(self.path, ignore_errors=True)
