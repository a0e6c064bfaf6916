"""Floor 4: the folder of one run.

runs/<recipe>-s<seed>-<NNN>/
    recipe.toml  environment.json  metrics.jsonl
    split.json                               of one's own data: which classes train, validate and test
    table.json                               of tables: means, deviations, words and classes of the training rows
    texts.json                               of texts: digests of those that train and validate
    checkpoints/last/  checkpoints/best/     weights.safetensors, state.json
    evaluations/<id>.json  report.html       results, and the page of the last test
    full-report.html                         the page of `quickstudy report`
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from quickstudy.errors import DataError, InputError, StorageError
from quickstudy.files import atomic_write_bytes, storage_error
from quickstudy.train.runlock import held_alone, taken_by

_LISTS = TypeAdapter(dict[str, list[str]])


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run.

    Args:
        path: the folder.
    """

    path: Path

    @staticmethod
    def create(root: Path, name: str, seed: int, recipe_toml: str) -> RunFolder:
        """A new folder under ``root``, with the first number that is free, recipe and environment in it.

        Raises:
            StorageError: the disk refused.
        """
        number = 1
        while True:
            path = root / f"{name}-s{seed}-{number:03d}"
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:  # taken, perhaps this moment, by another process
                number += 1
            except OSError as error:
                raise storage_error(path, error) from error
        run = RunFolder(path)
        try:
            atomic_write_bytes(run.recipe, recipe_toml.encode())
            atomic_write_bytes(run.environment, json.dumps(describe_environment(), indent=1).encode() + b"\n")
        except StorageError:  # half a folder is of no use
            shutil.rmtree(path, ignore_errors=True)
            raise
        return run

    @staticmethod
    def open(path: Path) -> RunFolder:
        """An existing run.

        Raises:
            InputError: there is none.
        """
        run = RunFolder(path)
        if not run.recipe.is_file():
            raise InputError(
                f"{path} is not a run: it holds no recipe.toml. "
                "Name a folder that `quickstudy train` made (`quickstudy list runs`)."
            )
        return run

    @property
    def about(self) -> dict[str, Any]:
        """What ``environment.json`` says; nothing where it was deleted, or cut off when a disk was full."""
        try:
            about = json.loads(self.environment.read_bytes())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def note(self, **facts: Any) -> None:
        """Add facts to ``environment.json``.

        Raises:
            StorageError: the disk refused.
        """
        before = self.about
        if before | facts != before:
            atomic_write_bytes(self.environment, json.dumps(before | facts, indent=1).encode() + b"\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While it lasts no other process may train in this folder. One that dies lets go of it (``runlock.py``).

        Raises:
            InputError: another process trains here; names it.
            StorageError: the folder cannot be written to.
        """

        def refuse(whose: str) -> InputError:
            return InputError(
                f"Another process is training in {self.path}{whose}. Wait for it to end, or start a new run."
            )

        with held_alone(self.path / ".lock", refuse):
            yield

    def check_still_ours(self) -> None:
        """In the process that has it locked, before something is saved.

        Raises:
            StorageError: another process has taken it over.
        """
        other = taken_by(self.path / ".lock")
        if other is not None:
            raise StorageError(
                f"Cannot save in {self.path}: {other} trains there now. This process stood still for so long that it "
                "was taken for dead. What is there is left to the other."
            )

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def robustness(self) -> Path:
        """Where figures of robustness are kept, beside the results."""
        return self.evaluations / "robustness"

    @property
    def split(self) -> Path:
        """Which classes play which part, where the data set divided them itself."""
        return self.path / "split.json"

    @property
    def divided(self) -> dict[str, list[str]] | None:
        """What ``split.json`` says; None where there is none.

        Raises:
            DataError: it is cut off, or says something else.
        """
        return _used(self.split)

    @property
    def texts(self) -> Path:
        """Which texts train and validate, where the data set is one of texts."""
        return self.path / "texts.json"

    @property
    def known_texts(self) -> dict[str, list[str]]:
        """What ``texts.json`` says; nothing where there is none.

        Raises:
            DataError: it is cut off, or says something else.
        """
        return _used(self.texts) or {}

    @property
    def table(self) -> Path:
        """What was measured of a table's training rows."""
        return self.path / "table.json"

    @property
    def measured(self) -> dict[str, Any] | None:
        """What ``table.json`` says; None where the run has none.

        Raises:
            DataError: it is cut off.
        """
        if not self.table.is_file():
            return None
        try:
            found = json.loads(self.table.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(
                f"Cannot read {self.table}, by which the run's table becomes features: {error}. Train anew."
            ) from error
        return found if isinstance(found, dict) else {}

    @property
    def examples(self) -> Path:
        """Digests of the examples that it was trained and validated on, base64, by role."""
        return self.path / "examples.json"

    @property
    def metrics(self) -> Path:
        """One line a step."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Holds ``last`` and ``best``."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """Holds a result a file."""
        return self.path / "evaluations"

    @property
    def report(self) -> Path:
        """The page of the last test, for people."""
        return self.path / "report.html"

    @property
    def full_report(self) -> Path:
        """The page of ``quickstudy report``, which asks the learner more."""
        return self.path / "full-report.html"


def _used(path: Path) -> dict[str, list[str]] | None:
    """Role -> names, of a file that says what a run was trained on; None where there is none."""
    if not path.is_file():
        return None
    try:
        return _LISTS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise DataError(
            f"Cannot read {path}, which says what the run was trained on: {why}. Copy the run again; without that file "
            "it is tested unchecked."
        ) from error


def describe_environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe."""
    return {
        "quickstudy": version_of("quickstudy"),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": version_of("numpy"),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def version_of(package: str) -> str:
    """The version of a package; in words, where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from the sources without being installed
        return "not installed"
