"""Floor 6: from what came over HTTP to what the service works with, or a sentence that says why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import python_multipart  # noqa: F401  # forms are read with it; to be missed at the start, not at the first form
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from quickstudy.serve.content import deadline, file_of, kind_of, of_content
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import Change, New
from quickstudy.serve.schemas import Content, LeftOut, NewExamples, plain
from quickstudy.serve.service import Service
from quickstudy.serve.settings import Limits

__all__ = [
    "body_of",
    "change_of",
    "examples_of",
    "form_queries",
    "id_of",
    "is_form",
    "label_of",
    "one_sentence",
    "queries_of",
    "service_of",
]

_M = TypeVar("_M", bound=BaseModel)
_ID = re.compile(r"[0-9a-f]{24}")
_REVISION = re.compile(r'(?:W/)?"?(\d{1,9})"?')
_FORM = "multipart/form-data"
_LONG = 100_000  # bytes from which on others would wait while they are read


def service_of(request: Request) -> Service:
    """The service that the request came to."""
    found: Service = request.app.state.service
    return found


def id_of(text: str, what: str = "task") -> str:
    """An id as it was given out.

    Raises:
        Refused: it cannot be one.
    """
    if not _ID.fullmatch(text):
        raise Refused(404, f"There is no {what} of this id.", f"no_such_{what}")
    return text


def label_of(text: str, limits: Limits) -> str:
    """A label, as labels are kept.

    Raises:
        Refused: it is empty, too long, or has what cannot be seen.
    """
    try:
        found = plain(text)
    except ValueError as error:
        raise Refused(422, f"This is no label: {error}.") from error
    if len(found) > limits.label_letters:
        raise Refused(422, f"A label has at most {limits.label_letters} letters; this one has {len(found)}.")
    return found


def change_of(request: Request) -> Change:
    """What the request's headers say of its change.

    Raises:
        Refused: ``If-Match`` names no revision.
    """
    given = request.headers.get("if-match")
    key = request.headers.get("idempotency-key")
    if given is None or given.strip() == "*":
        return Change(None, key)
    found = _REVISION.fullmatch(given.strip())
    if found is None:
        raise Refused(400, f"If-Match: expected a task's revision, such as 3, received {given[:50]!r}.")
    return Change(int(found[1]), key)


async def body_of(request: Request, model: type[_M]) -> _M:
    """The request's JSON.

    Raises:
        Refused: it is none, or not what is expected.
    """
    media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise Refused(415, f"Expected application/json, received {media[:100]!r}.")
    content = await request.body() or b"{}"
    try:
        if len(content) < _LONG:
            return model.model_validate_json(content)
        return await service_of(request).read(model.model_validate_json, content)
    except ValidationError as error:
        status = 400 if error.errors(include_url=False)[0]["type"] == "json_invalid" else 422
        raise Refused(status, one_sentence(error.errors(include_url=False, include_input=False))) from error


def one_sentence(errors: Sequence[Any]) -> str:
    """The first of pydantic's complaints, and how many more there are."""
    first = errors[0]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    said = str(first["msg"]).replace("Value error, ", "").rstrip(".")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {said}{more}." if where else f"{said}{more}."


# --- examples and queries ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One example or query, not looked at yet."""

    label: str
    where: str
    content: Content | None
    file: bytes = b""
    media: str = ""

    def new(self, limits: Limits) -> New:
        if self.content is not None:
            return of_content(self.content, self.label, limits, self.where)
        return file_of(self.file, self.media, self.label, limits, self.where)


async def examples_of(request: Request, skip: bool) -> tuple[str, list[New], list[LeftOut]]:
    """The kind, the examples, and those that were left out.

    Args:
        request: JSON, or a form with files ``file`` and a field ``label``.
        skip: leave out what cannot be read, rather than refusing all.

    Raises:
        Refused: it cannot be read, or there is more than allowed.
    """
    service = service_of(request)
    limits = service.limits
    if is_form(request):
        fields, parts = await _form(request, limits.examples_per_request)
        label = label_of(fields.get("label", ""), limits)
        parts = [_Part(label, part.where, None, part.file, part.media) for part in parts]
    else:
        body = await body_of(request, NewExamples)
        parts = [
            _Part(label_of(one.label, limits), f"examples[{place}]", one) for place, one in enumerate(body.examples)
        ]
    _refuse_many(len(parts), limits.examples_per_request, "examples")
    new, left = await service.read(_checked, parts, limits, skip)
    if not new:
        raise Refused(
            422, f"Not one of the {len(left)} examples can be read. The first: {left[0].message}", "unreadable"
        )
    return _one_kind(new), new, left


async def queries_of(request: Request, queries: Sequence[Content]) -> list[New]:
    """Queries that came as JSON.

    Raises:
        Refused: one cannot be read, or there are more than allowed.
    """
    service = service_of(request)
    _refuse_many(len(queries), service.limits.queries_per_request, "queries")
    parts = [_Part("", f"queries[{place}]", one) for place, one in enumerate(queries)]
    return (await service.read(_checked, parts, service.limits, False))[0]


async def form_queries(request: Request) -> tuple[dict[str, str], list[New]]:
    """Fields, and queries that came as files."""
    service = service_of(request)
    fields, parts = await _form(request, service.limits.queries_per_request)
    return fields, (await service.read(_checked, parts, service.limits, False))[0]


def is_form(request: Request) -> bool:
    """Whether a body is a form, with files."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


async def _form(request: Request, most: int) -> tuple[dict[str, str], list[_Part]]:
    fields: dict[str, str] = {}
    parts: list[_Part] = []
    async with request.form(max_files=most + 1, max_fields=20, max_part_size=1024 * 1024) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise Refused(422, f"Files are sent as fields called file, found one called {name[:50]!r}.")
                where = _called(value.filename, len(parts))
                parts.append(_Part("", where, None, await value.read(), value.content_type or ""))
            else:
                fields[name] = value
    if not parts:
        raise Refused(422, "There is no file in the form. Send at least one, in a field called file.")
    _refuse_many(len(parts), most, "files")
    return fields, parts


def _called(name: str | None, place: int) -> str:
    seen = "".join(letter if letter.isprintable() else "?" for letter in (name or "")[:100])
    return seen or f"file[{place}]"


def _checked(parts: Sequence[_Part], limits: Limits, skip: bool) -> tuple[list[New], list[LeftOut]]:
    new: list[New] = []
    left: list[LeftOut] = []
    in_time = deadline(limits)
    for place, part in enumerate(parts):
        in_time()
        try:
            new.append(part.new(limits))
        except Refused as error:
            if not skip:
                raise
            left.append(LeftOut(index=place, name=part.where, message=error.message))
    return new, left


def _one_kind(new: Sequence[New]) -> str:
    kinds = sorted({kind_of(one.media) for one in new})
    if len(kinds) > 1:
        raise Refused(
            422,
            f"All examples of a task are of one kind; these are {' and '.join(kinds)}. Send them apart.",
            "another_kind",
        )
    return kinds[0]


def _refuse_many(found: int, most: int, what: str) -> None:
    if found > most:
        raise Refused(413, f"There are {found:,} {what}; at most {most:,} may come at once. Send them in parts.")
