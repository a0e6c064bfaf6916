"""Floor 6: addresses of tasks as files: export and import."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile

from quickstudy.serve import schemas
from quickstudy.serve.archive import pack, unpack
from quickstudy.serve.description import archive, refusals
from quickstudy.serve.errors import Refused
from quickstudy.serve.requests import id_of, is_form, service_of
from quickstudy.serve.routes_tasks import answered, owner_of

__all__ = ["router"]

router = APIRouter(prefix="/v1/tasks", tags=["files"], responses=refusals())


@router.get("/{task}/export", summary="Export a task", response_class=Response)
async def export(request: Request, task: str) -> Response:
    """A zip: the examples as they came, and, where there is something to learn, the learned task for Python."""
    service, owner = service_of(request), owner_of(request)
    there, examples = await service.work(service.store.everything, owner, id_of(task))
    brain = None
    if there.full:
        try:
            brain = await service.brain(there)
        except Refused as error:
            if error.code != "cannot_learn":
                raise
        if brain is not None and brain.task.revision != there.revision:  # somebody was quicker: export that
            there, examples = await service.work(service.store.everything, owner, there.id)
    content = await service.read(pack, there, examples, brain)
    name = quote(f"{there.name}.zip", safe="")
    headers = {"Content-Disposition": f"attachment; filename=\"task.zip\"; filename*=UTF-8''{name}"}
    return Response(content, media_type="application/zip", headers=headers)


@router.post(
    "/import", status_code=201, summary="Import a task", response_model=schemas.TaskBody, openapi_extra=archive()
)
async def import_task(
    request: Request,
    learner: Annotated[str | None, Query(max_length=200, description="another one than the zip names")] = None,
) -> Response:
    """A new task from such a zip, whole or not at all. Its examples are learned anew."""
    service = service_of(request)
    content = await _zip(request)
    about, kind, new = await service.read(unpack, content, service.limits)
    asked = service.roster.check(learner or about.learner)
    name = about.name[: service.limits.name_letters]
    made = await service.work(service.store.make, owner_of(request), name, asked, about.reject_unknown, kind, new)
    return await answered(service, made, 201)


async def _zip(request: Request) -> bytes:
    if not is_form(request):
        media = request.headers.get("content-type", "application/zip").partition(";")[0].strip().lower()
        if media not in ("application/zip", "application/x-zip-compressed", "application/octet-stream"):
            raise Refused(415, f"Expected application/zip, received {media[:100]!r}.")
        return await request.body()
    async with request.form(max_files=1, max_fields=5) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Refused(422, "There is no file in the form. Send the zip in a field called file.")
        return await file.read()
