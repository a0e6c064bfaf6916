"""Floor 6: the service as an application of ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from quickstudy.errors import InputError
from quickstudy.serve import routes_about, routes_answers, routes_files, routes_tasks
from quickstudy.serve.description import describe
from quickstudy.serve.errors import Refused
from quickstudy.serve.gate import Gate
from quickstudy.serve.requests import one_sentence
from quickstudy.serve.service import Service
from quickstudy.serve.settings import Settings

__all__ = ["create_app"]

_ROUTERS = (routes_files.router, routes_tasks.router, routes_answers.router, routes_about.router)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service, for a server of ASGI or a test's client.

    Args:
        settings: see there; by default those of a service for oneself.

    Raises:
        InputError: the settings do not allow it to start.
        StorageError: the database cannot be opened.
    """
    service = Service(settings or Settings())

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        del app
        service.start()
        yield
        service.close()

    app = FastAPI(title="quickstudy", docs_url=None, redoc_url=None, lifespan=living, redirect_slashes=False)
    app.state.service = service
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes.extend(routes_about.pages())
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    app.add_middleware(
        Gate,
        access=service.access,
        limits=service.limits,
        metrics=service.metrics,
        state=service.state,
        threads=service.threads,
    )
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def _answer(error: Refused) -> Response:
    return JSONResponse(error.body(), error.status, {**error.headers, "X-Error": error.code})


async def _refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Refused)
    return _answer(error)


async def _input(request: Request, error: Exception) -> Response:
    """What the library refuses in a sentence of its own."""
    del request
    return _answer(Refused(422, str(error)))


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette refuses: addresses that there are not, methods that they have not, forms that cannot be read."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        return _answer(Refused(404, f"There is nothing at {path}. /docs lists the addresses.", "no_such_address"))
    if error.status_code == 405:
        methods = ", ".join(sorted(_methods(request) or {"GET"}))
        said = f"{request.method[:20]} does not work at {path}; it knows {methods}."
        return _answer(Refused(405, said, headers={"Allow": methods}))
    return _answer(Refused(error.status_code, f"{str(error.detail).rstrip('.')}.", headers=error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RequestValidationError)
    return _answer(Refused(422, one_sentence(error.errors())))


def _methods(request: Request) -> set[str]:
    """What the address of a request knows, by the description: a route knows its own methods alone."""
    found: set[str] = set()
    for route in (route for router in _ROUTERS for route in router.routes):
        match, _ = route.matches({**request.scope, "path": request.url.path})
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
