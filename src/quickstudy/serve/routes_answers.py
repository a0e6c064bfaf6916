"""Floor 6: addresses that ask: classify, compare, map."""

from __future__ import annotations

import time
from typing import Any

import torch
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from quickstudy.serve import schemas
from quickstudy.serve.brains import Brain
from quickstudy.serve.description import body, refusals
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import New, Task
from quickstudy.serve.requests import body_of, form_queries, id_of, is_form, one_sentence, queries_of, service_of
from quickstudy.serve.routes_tasks import owner_of
from quickstudy.serve.service import Service, rounded

__all__ = ["router"]

router = APIRouter(prefix="/v1/tasks/{task}", tags=["answers"], responses=refusals())

_FORM = {"nearest": {"type": "integer"}, "coverage": {"type": "number"}}


@router.post(
    "/classify",
    summary="Classify",
    response_model=schemas.Answers,
    openapi_extra=body("ClassifyQuestion", form=_FORM),
)
async def classify(request: Request, task: str) -> Response:
    """What new examples are.

    A label, all probabilities, whether it is unlike all that the task was shown, the labels that cannot be ruled out,
    and the nearest labelled examples. What is said of one depends on no other.
    """
    service = service_of(request)
    there = await _there(request, service, task)
    if is_form(request):
        fields, queries = await form_queries(request)
        nearest, coverage = _settings(fields)
    else:
        question = await body_of(request, schemas.ClassifyQuestion)
        queries = await queries_of(request, question.queries)
        nearest, coverage = question.nearest, question.coverage
    brain = await service.brain(there)
    said = await service.ask(brain, queries)
    service.metrics.queries.labels(brain.task.kind or "").inc(len(queries))
    found = await service.answers(brain, said, nearest, coverage)
    return Response(found.model_dump_json(), media_type="application/json")


@router.post(
    "/compare",
    summary="Compare learners",
    response_model=schemas.Compared,
    openapi_extra=body("CompareQuestion"),
)
async def compare(request: Request, task: str) -> Response:
    """What several learners say of one query, each taught the same examples. One that cannot learn them says why."""
    service = service_of(request)
    there = await _there(request, service, task)
    question = await body_of(request, schemas.CompareQuestion)
    names = question.learners
    if names is not None and len(names) > service.limits.learners_per_request:
        raise Refused(413, f"At most {service.limits.learners_per_request} learners may be compared at once.")
    for name in names or ():
        service.roster.check(name)
    queries = await queries_of(request, [question.query])
    found = []
    if names is None:
        found = [await _said(service, there, there.asked, queries)]  # by the name of what `auto` took
        known = (there.asked, found[0].name)
        names = [name for name in service.roster.beside(there.kind or "rows") if name not in known]
    found += [await _said(service, there, name, queries) for name in dict.fromkeys(names)]
    answer = schemas.Compared(learners=found)
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


async def _said(service: Service, task: Task, name: str, queries: list[New]) -> schemas.LearnerSaid:
    try:
        brain = await service.brain(task, name)
    except Refused as error:
        if error.code != "cannot_learn":
            raise
        summary = await service.work(service.roster.summary, name)
        return schemas.LearnerSaid(name=name, summary=summary, error=error.message)
    model = brain.answering.model
    shown = service.roster.called(name, model.chosen_.name)
    summary = await service.work(service.roster.summary, shown, model.chosen_.learner)
    about = schemas.LearnerSaid(name=shown, summary=summary)
    began = time.perf_counter()
    said = await service.ask(brain, queries)
    (one,) = (await service.answers(brain, said, 0, None)).answers
    seconds = brain.seconds + time.perf_counter() - began
    steps = await service.reckon(lambda: brain.losses)
    losses = None if steps is None else [rounded(loss) for loss in steps]
    update: dict[str, Any] = {"probabilities": one.probabilities, "label": one.label, "losses": losses}
    return about.model_copy(update={**update, "milliseconds": round(1000 * seconds, 2)})


@router.post("/map", summary="Map the features", response_model=schemas.Points, openapi_extra=body("MapQuestion"))
async def map_features(request: Request, task: str) -> Response:
    """The examples' features in a plane, and where queries lie among them. A query moves no example."""
    service = service_of(request)
    there = await _there(request, service, task)
    question = await body_of(request, schemas.MapQuestion)
    brain = await service.brain(there)
    features = torch.zeros(0, brain.answering.known.shape[1], dtype=torch.float64)
    if question.queries:
        queries = await queries_of(request, question.queries)
        features = (await service.ask(brain, queries)).features.double()
    points = await service.reckon(_points, brain, features)
    return Response(schemas.Points(points=points).model_dump_json(exclude_none=True), media_type="application/json")


def _points(brain: Brain, features: torch.Tensor) -> list[schemas.Point]:
    labels = brain.answering.model.labels_
    known = [
        schemas.Point(example=id_, label=str(label), x=rounded(x), y=rounded(y))
        for id_, label, (x, y) in zip(brain.ids, labels, brain.places(brain.answering.known).tolist(), strict=True)
    ]
    asked = [
        schemas.Point(query=number, x=rounded(x), y=rounded(y))
        for number, (x, y) in enumerate(brain.places(features).tolist())
    ]
    return known + asked


async def _there(request: Request, service: Service, task: str) -> Task:
    """The task, if it can be asked."""
    owner, id_ = owner_of(request), id_of(task)
    return await service.work(lambda: service.store.task(owner, id_, classes=False))


def _settings(fields: dict[str, str]) -> tuple[int, float | None]:
    """``nearest`` and ``coverage``, as fields of a form."""
    given: dict[str, Any] = {"queries": [{"text": "-"}]}
    try:
        for name, read in (("nearest", int), ("coverage", float)):
            if name in fields:
                given[name] = read(fields[name])
        question = schemas.ClassifyQuestion.model_validate(given)
    except ValidationError as error:
        raise Refused(422, one_sentence(error.errors())) from error
    except ValueError as error:
        raise Refused(422, f"nearest and coverage are numbers: {error}.") from error
    return question.nearest, question.coverage
