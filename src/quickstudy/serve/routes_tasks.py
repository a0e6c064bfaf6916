"""Floor 6: addresses of tasks, their examples and their classes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from quickstudy.serve import schemas
from quickstudy.serve.content import kind_of
from quickstudy.serve.description import body, refusals
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import Task
from quickstudy.serve.requests import body_of, change_of, examples_of, id_of, label_of, service_of
from quickstudy.serve.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["tasks"], responses=refusals())

Limit = Annotated[int, Query(ge=1, le=500, description="how many at most")]
After = Annotated[str | None, Query(max_length=100, description="the last id of the page before")]


async def answered(service: Service, task: Task, status: int = 200) -> Response:
    """A task, with its revision as ``ETag``."""
    found = service.body(await service.seen(task))
    return JSONResponse(found.model_dump(), status, {"ETag": f'"{found.revision}"'})


def owner_of(request: Request) -> str:
    """Whose request it is, as the door found."""
    owner: str = request.state.owner
    return owner


@router.get("/learners", summary="What a task may be taught to")
async def list_learners(request: Request) -> schemas.Learners:
    """Learners by name. `kind` is null where a learner takes examples of any kind."""
    service = service_of(request)
    return schemas.Learners(learners=await service.work(service.roster.about))


@router.post(
    "/tasks", status_code=201, summary="Make a task", response_model=schemas.TaskBody, openapi_extra=body("NewTask")
)
async def make_task(request: Request) -> Response:
    """A task without examples. What it is of (pictures, texts, sounds, rows) its first examples say."""
    service = service_of(request)
    new = await body_of(request, schemas.NewTask)
    service.roster.check(new.learner)
    name = None if new.name is None else _name(service, new.name)
    task = await service.work(service.store.make, owner_of(request), name, new.learner, new.reject_unknown)
    return await answered(service, task, 201)


@router.get("/tasks", summary="List tasks")
async def list_tasks(request: Request, limit: Limit = 50, after: After = None) -> schemas.TaskList:
    """Your tasks, the newest first. A learner that was not needed yet at a task's revision has no name."""
    service = service_of(request)
    if after is not None:
        id_of(after)
    found, following = await service.work(service.store.list_tasks, owner_of(request), limit, after)
    return schemas.TaskList(tasks=[service.body(task) for task in found], next=following)


@router.get("/tasks/{task}", summary="Look at a task", response_model=schemas.TaskBody)
async def read_task(request: Request, task: str) -> Response:
    """One task; its revision is the `ETag`, too."""
    service = service_of(request)
    return await answered(service, await service.work(service.store.task, owner_of(request), id_of(task)))


@router.patch(
    "/tasks/{task}", summary="Change a task", response_model=schemas.TaskBody, openapi_extra=body("ChangeTask")
)
async def change_task(request: Request, task: str) -> Response:
    """Another name, another learner, or another rate of examples that may be called unknown by mistake (null: none)."""
    service = service_of(request)
    given = await body_of(request, schemas.ChangeTask)
    values: dict[str, Any] = {}
    if given.name is not None:
        values["name"] = _name(service, given.name)
    if given.learner is not None:
        values["learner"] = service.roster.check(given.learner)
    if "reject_unknown" in given.model_fields_set:
        values["reject_unknown"] = given.reject_unknown
    if not values:
        raise Refused(422, "There is nothing to change. Send name, learner or reject_unknown.")
    done = await service.work(service.store.change, owner_of(request), id_of(task), change_of(request), values)
    return await answered(service, done)


@router.delete("/tasks/{task}", status_code=204, summary="Delete a task")
async def delete_task(request: Request, task: str) -> Response:
    """The task, its examples and all that was learned of them."""
    service = service_of(request)
    await service.work(service.store.delete, owner_of(request), id_of(task), change_of(request))
    return Response(status_code=204)


# --- examples ----------------------------------------------------------------------------------------


@router.post(
    "/tasks/{task}/examples",
    status_code=201,
    summary="Add examples",
    response_model=schemas.Added,
    openapi_extra=body("NewExamples", form={"label": {"type": "string"}}),
)
async def add_examples(
    request: Request,
    task: str,
    skip: Annotated[
        bool, Query(description="leave out what cannot be read, and say which, rather than take none")
    ] = False,
) -> Response:
    """Labelled examples, all or none, as JSON or as files of a form. Once it is answered they are on the disk.

    With `Idempotency-Key` a request that is sent twice counts once; with `If-Match` it is
    refused if somebody was quicker.
    """
    service, owner = service_of(request), owner_of(request)
    await service.work(lambda: service.store.task(owner, id_of(task), classes=False))
    kind, new, left = await examples_of(request, skip)
    done = await service.work(service.store.add, owner, task, change_of(request), kind, new)
    service.metrics.examples.labels(kind).inc(len(new))
    found = service.body(await service.seen(done.task))
    answer: dict[str, Any] = {"examples": [{"id": id_, "label": label} for id_, label in done.examples]}
    answer["task"] = found.model_dump()
    if skip:
        answer["left_out"] = [one.model_dump() for one in left]
    return JSONResponse(answer, 201, {"ETag": f'"{found.revision}"'})


@router.get("/tasks/{task}/examples", summary="List examples")
async def list_examples(
    request: Request,
    task: str,
    limit: Limit = 100,
    after: After = None,
    label: Annotated[str | None, Query(max_length=1000, description="of this class alone")] = None,
) -> schemas.ExampleList:
    """Examples in the order in which they came, without their contents."""
    service = service_of(request)
    after = None if after is None else id_of(after, "example")
    label = None if label is None else label_of(label, service.limits)
    found, following = await service.work(
        service.store.list_examples, owner_of(request), id_of(task), limit, after, label
    )
    listed = [
        schemas.ExampleBody(id=one.id, label=one.label, kind=kind_of(one.media), created=one.created)  # type: ignore[arg-type]
        for one in found
    ]
    return schemas.ExampleList(examples=listed, next=following)


@router.get("/tasks/{task}/examples/{example}/content", summary="An example's content", response_class=Response)
async def read_content(request: Request, task: str, example: str) -> Response:
    """As it came in: a picture, a sound, a text, or a row as JSON."""
    service = service_of(request)
    found = await service.work(service.store.content, owner_of(request), id_of(task), id_of(example, "example"))
    # An example never changes, and who may see it is asked each time.
    return Response(found.content, media_type=found.media, headers={"Content-Disposition": "inline"})


@router.delete("/tasks/{task}/examples/{example}", summary="Remove an example", response_model=schemas.TaskBody)
async def remove_example(request: Request, task: str, example: str) -> Response:
    """The task without it."""
    service = service_of(request)
    done = await service.work(
        service.store.remove, owner_of(request), id_of(task), change_of(request), id_of(example, "example")
    )
    return await answered(service, done)


@router.put(
    "/tasks/{task}/classes",
    summary="Rename a class of any label",
    response_model=schemas.TaskBody,
    openapi_extra=body("Renamed"),
)
@router.put(
    "/tasks/{task}/classes/{label:path}",
    summary="Rename a class",
    response_model=schemas.TaskBody,
    openapi_extra=body("Renamed"),
)
async def rename_class(request: Request, task: str, label: str) -> Response:
    """The same examples under another label, which no class of the task may have."""
    service = service_of(request)
    new = label_of((await body_of(request, schemas.Renamed)).label, service.limits)
    done = await service.work(
        service.store.rename_class, owner_of(request), id_of(task), change_of(request), _known(label), new
    )
    return await answered(service, done)


@router.delete("/tasks/{task}/classes", summary="Remove a class of any label", response_model=schemas.TaskBody)
@router.delete("/tasks/{task}/classes/{label:path}", summary="Remove a class", response_model=schemas.TaskBody)
async def remove_class(request: Request, task: str, label: str) -> Response:
    """The task without that class and its examples."""
    service = service_of(request)
    done = await service.work(
        service.store.remove_class, owner_of(request), id_of(task), change_of(request), _known(label)
    )
    return await answered(service, done)


def _known(label: str) -> str:
    """A label in an address, as labels are kept; what cannot be one is none that there is."""
    try:
        return schemas.plain(label)
    except ValueError as error:
        raise Refused(404, f"There is no class of this name: {error}.", "no_such_class") from error


def _name(service: Service, name: str) -> str:
    most = service.limits.name_letters
    if len(name) > most:
        raise Refused(422, f"A task's name has at most {most} letters; this one has {len(name)}.")
    return name
