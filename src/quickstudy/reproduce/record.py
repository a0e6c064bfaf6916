"""Floor 6: what a reproduction gave, one file a claim and seed: ``results/reproduce/<claim>-s<seed>.json``.

It is a :class:`quickstudy.evaluate.Result` with its provenance, so that whoever reads results reads these as well.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import Result
from quickstudy.evaluate.kept import load_kept, save_kept
from quickstudy.evaluate.robustness import Robustness
from quickstudy.reproduce.verdict import SeedFigure

__all__ = ["FOLDER", "Curve", "Provenance", "Record", "commit", "path_of", "read_all"]

FOLDER = "reproduce"
"""Of these files, in the folder of results."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Curve(_Facts):
    """What was measured along training; never on test tasks.

    Args:
        of: ``"validation tasks"``, or ``"training tasks"`` where the protocol trains on the validation classes too.
        metric: such as ``"accuracy"``, or ``"loss"``.
        points: (steps done, figure); of training tasks each is a mean since the point before.
    """

    of: Literal["validation tasks", "training tasks"]
    metric: str
    points: tuple[tuple[int, float | str], ...]


class Provenance(_Facts):
    """How a figure came about.

    Args:
        kind: tells these files from others.
        claim: which figure is compared with it.
        row: the learner.
        recipe: name of the recipe that was trained, which claims may share.
        recipe_hash: of that recipe.
        protocol: digest of the recipe and of how it was tested; see ``Claim.protocol``.
        seed: of the training.
        step: steps of training that were done.
        steps: that the protocol asks for.
        diverged: training ended there, as its loss was no number.
        train_seconds: wall time of the steps, over all sessions.
        test_seconds: wall time of the test.
        processor_seconds: of all sessions of training; None where one was killed, or was no `quickstudy reproduce`.
        energy: see ``reproduce.energyuse``.
        budget: seconds for all seeds of the last session; None: no end.
        curve: along training; None where there is nothing to train.
        weights_sha256: of the checkpoint that was tested.
        robustness: figures of docs/robustness.md, of that checkpoint on the same tasks: of classes those that every
            test gives, the others where they were asked for.
        commit: of quickstudy's sources; None where they are no checkout.
        versions: of what its training began on.
        device: ``"cpu"``, or the GPU, of the test.
        command: to have it again.
        made: the day, UTC.
    """

    kind: Literal["reproduction"] = "reproduction"
    claim: str
    row: str
    recipe: str
    recipe_hash: str
    protocol: str
    seed: int
    step: int = Field(ge=0)
    steps: int = Field(ge=0)
    diverged: bool = False
    train_seconds: float = Field(ge=0)
    test_seconds: float = Field(ge=0)
    processor_seconds: float | None = None
    energy: dict[str, Any] | None = None
    budget: float | None = None
    curve: Curve | None = None
    weights_sha256: str | None = None
    robustness: Robustness | None = None
    commit: str | None = None
    versions: dict[str, Any]
    device: str
    command: str
    made: str

    @property
    def was_stressed(self) -> bool:
        """Whether robustness was asked for."""
        return self.robustness is not None and self.robustness.is_whole


@dataclass(frozen=True)
class Record:
    """One file.

    Args:
        path: of the file.
        result: of the test.
        about: how it came about.
    """

    path: Path
    result: Result
    about: Provenance

    @property
    def figure(self) -> SeedFigure:
        """What the verdict goes by."""
        about = self.about
        return SeedFigure(about.seed, self.result.mean, self.result.ci95, about.step, about.steps, about.diverged)

    def save(self) -> None:
        """Write the file whole or not at all.

        Raises:
            StorageError: the disk refused.
        """
        save_kept(self.path, self.result, self.about.model_dump(mode="json"))

    @staticmethod
    def load(path: Path) -> Record:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: it is missing, cut off, or no result of a reproduction; or its figures cannot be right.
        """
        result, provenance = load_kept(path)
        try:
            about = Provenance.model_validate_json(json.dumps(provenance))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("provenance", *first["loc"]))
            raise DataError(
                f"Cannot read {path} as the result of a reproduction: {where}: {first['msg']}. It is foreign or was "
                "edited; move it out of this folder."
            ) from error
        return Record(path, result, about)


def path_of(results: Path, claim: str, seed: int) -> Path:
    """The file of a claim and a seed."""
    return results / FOLDER / f"{claim}-s{seed}.json"


def read_all(results: Path, tell: Callable[[str], None] = lambda text: None, claim: str = "") -> list[Record]:
    """All records of a folder of results, by name.

    Args:
        results: the folder; what is foreign in it is passed over, and so is a copy under another name, which would
            count as a further seed.
        tell: told what was passed over, and why.
        claim: only of this one; all by default.
    """
    found = []
    for path in sorted((results / FOLDER).glob(f"{claim}-s*.json" if claim else "*.json")):
        try:
            record = Record.load(path)
        except InputError as error:
            tell(f"Passed over: {error}")
            continue
        usual = path_of(results, record.about.claim, record.about.seed)
        if path != usual:
            tell(f"Passed over: {path} has the result that {usual.name} is for. Give it that name, or move it away.")
        elif claim in ("", record.about.claim):
            found.append(record)
    return found


def commit() -> str | None:
    """The commit of quickstudy's own sources, with ``+changes`` where files differ from it; None where unknown."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Of an installed package the repository around it is somebody else's.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = git("rev-parse", "HEAD")
    return head and head + ("+changes" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
