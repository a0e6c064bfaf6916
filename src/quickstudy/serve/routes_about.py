"""Floor 6: addresses about the service itself (alive, able to answer, metrics, description), and the page."""

from __future__ import annotations

import functools
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from jinja2 import Environment
from starlette.routing import Route

from quickstudy.serve.errors import Refused
from quickstudy.serve.metrics import CONTENT_TYPE
from quickstudy.serve.requests import service_of

__all__ = ["pages", "router"]

router = APIRouter(tags=["about"])

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".png": "image/png",
    ".ico": "image/x-icon",
}


@router.get("/health", summary="Alive?")
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "version": version("quickstudy")}


@router.get("/ready", summary="Able to answer?")
async def ready(request: Request) -> Response:
    """The database answers, too, and the service does not stop: 200, else 503."""
    service = service_of(request)
    if service.state.stopping:
        raise Refused(503, "The service stops.", "stopping", {"Retry-After": "5"})
    if not service.ready:
        raise Refused(503, "The service loads its learners.", "starting", {"Retry-After": "2"})
    await service.work(service.store.check)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", summary="Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """What an operator watches."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The description, to be read; without anything from elsewhere."""
    return HTMLResponse(_page(request.app.openapi()))


def pages() -> list[Route]:
    """An address for each file of the page, and no other: what a client writes is never made a path."""
    found = []
    for path in sorted(_STATIC.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            name = path.relative_to(_STATIC).as_posix()
            found.append(Route(f"/{name}", functools.partial(_file, path)))
            if name == "index.html":
                found.append(Route("/", functools.partial(_file, path)))
    return found


async def _file(path: Path, request: Request) -> FileResponse:
    del request
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})


def _page(described: dict[str, Any]) -> str:
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "docs.html.j2").read_text("utf-8"))
    return template.render(about=described, examples=_examples(described))


def _examples(described: dict[str, Any]) -> dict[str, Any]:
    return {
        name: schema["examples"][0]
        for name, schema in described["components"]["schemas"].items()
        if schema.get("examples")
    }
