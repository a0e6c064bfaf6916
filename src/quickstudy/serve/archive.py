"""Floor 6: a task as a zip, to be carried elsewhere: its examples as they came, and what was learned.

    task.json       name, learner, and of each example its label and its file
    examples/       the files
    learned/        the learned task, as ``quickstudy.load_task`` reads it once it is unpacked

Of a zip that somebody sends, the description and the files that it names are read, each up to a limit; nothing is
unpacked to the disk, no name in it is used as a path, and ``learned/`` is passed over: it is learned anew.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quickstudy.serve.brains import Brain
from quickstudy.serve.content import deadline, file_of, kind_of, suffix_of
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import Example, New, Task
from quickstudy.serve.requests import label_of, one_sentence
from quickstudy.serve.schemas import Label, Rate
from quickstudy.serve.settings import Limits

__all__ = ["Packed", "pack", "unpack"]

SCHEMA = 1
_ABOUT, _EXAMPLES, _LEARNED = "task.json", "examples", "learned"
_ENTRY = b"PK\x01\x02"  # how each entry of a zip's list of files begins
_MOST_ABOUT = 4 * 1024 * 1024
_MOST_FILES = 100  # beside the examples
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, KeyError)


class _Example(BaseModel):
    model_config = ConfigDict(extra="ignore")
    label: Label
    file: str = Field(max_length=1000)
    media: str = Field(max_length=100)


class Packed(BaseModel):
    """What a zip says of its task."""

    model_config = ConfigDict(extra="ignore")
    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    name: Label
    learner: Label = "auto"
    reject_unknown: Rate | None = None
    examples: list[_Example] = Field(default_factory=list)


def pack(task: Task, examples: Sequence[Example], brain: Brain | None) -> bytes:
    """The zip of a task.

    Args:
        task: to be packed.
        examples: of it, with their contents.
        brain: what was learned of them; None: it cannot be learned yet.
    """
    files = [f"{_EXAMPLES}/{place:05d}{suffix_of(one.media)}" for place, one in enumerate(examples)]
    about = {
        "schema": SCHEMA,
        "name": task.name,
        "learner": task.asked,
        "reject_unknown": task.reject_unknown,
        "kind": task.kind,
        "revision": task.revision,
        "created": task.created,
        "examples": [
            {"label": one.label, "file": file, "media": one.media, "created": one.created}
            for one, file in zip(examples, files, strict=True)
        ],
    }
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_ABOUT, json.dumps(about, indent=1, ensure_ascii=False))
        for one, file in zip(examples, files, strict=True):
            archive.writestr(file, one.content or b"")
        if brain is not None:
            with tempfile.TemporaryDirectory() as folder:
                learned = Path(folder) / _LEARNED
                brain.answering.model.save(learned)
                for path in sorted(learned.rglob("*")):
                    if path.is_file():
                        archive.write(path, path.relative_to(folder).as_posix())
    return held.getvalue()


def unpack(content: bytes, limits: Limits) -> tuple[Packed, str | None, list[New]]:
    """What a zip holds: its description, the kind of its examples, and these.

    Raises:
        Refused: it is no zip, not of a task, damaged, or larger than allowed.
    """
    _refuse_many(content, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            about = _about(_read(archive, _ABOUT, _MOST_ABOUT))
            return _examples(archive, about, limits)
    except _DAMAGED as error:
        if isinstance(error, Refused):
            raise
        raise _none(f"it is no zip, or damaged ({str(error)[:200] or type(error).__name__})") from error


def _examples(archive: zipfile.ZipFile, about: Packed, limits: Limits) -> tuple[Packed, str | None, list[New]]:
    if len(about.examples) > limits.examples_per_task:
        raise _too_large(f"{len(about.examples):,} examples", f"{limits.examples_per_task:,}")
    new: list[New] = []
    size = 0
    in_time = deadline(limits)
    for place, one in enumerate(about.examples):
        in_time()
        label = label_of(one.label, limits)
        content = _read(archive, one.file, limits.content_bytes)
        size += len(content)
        if size > limits.task_bytes:
            raise _too_large("more bytes of examples", f"{limits.task_bytes:,}")
        new.append(file_of(content, one.media, label, limits, f"examples[{place}] of the zip"))
    kinds = sorted({kind_of(one.media) for one in new})
    if len(kinds) > 1:
        raise _none(f"its examples are of several kinds: {' and '.join(kinds)}")
    return about, kinds[0] if kinds else None, new


def _about(content: bytes) -> Packed:
    try:
        return Packed.model_validate_json(content)
    except ValidationError as error:
        raise _none(f"{_ABOUT} does not describe a task: {one_sentence(error.errors()).rstrip('.')}") from error


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file, up to a size, whatever the zip says that it is."""
    try:
        about = archive.getinfo(name)
    except KeyError as error:
        raise _none(f"it has no file {name[:100]!r}") from error
    if about.file_size > most:
        raise _too_large(f"{name[:100]!r} of {about.file_size:,} bytes", f"{most:,}")
    with archive.open(about) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_large(f"{name[:100]!r} of more bytes than it says", f"{most:,}")
    return content


def _refuse_many(content: bytes, limits: Limits) -> None:
    """Before it is opened: by then each entry of its list is an object of Python."""
    most, found = limits.examples_per_task + _MOST_FILES, content.count(_ENTRY)
    if found > most:
        raise _too_large(f"{found:,} files", f"{most:,}")


def _none(why: str) -> Refused:
    return Refused(422, f"Cannot import this: {why}. Send a zip that GET /v1/tasks/ID/export gave.", "no_task")


def _too_large(found: str, most: str) -> Refused:
    return Refused(413, f"Cannot import this: it has {found}; at most {most} are allowed.")
