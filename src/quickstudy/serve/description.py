"""Floor 6: what OpenAPI is told beside what FastAPI finds itself: bodies that are read by hand, errors, keys."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from quickstudy.serve import schemas

__all__ = ["body", "describe", "refusals"]

_REFERENCE = "#/components/schemas/{model}"
_ABOUT = (
    "Learn a new task from a few labelled examples: make a task, add examples, ask what new ones are. Every error is "
    '`{"error": {"code", "message"}}`. Where the operator made keys, send `Authorization: Bearer KEY`.'
)


def body(model: str, form: dict[str, Any] | None = None) -> dict[str, Any]:
    """``openapi_extra`` of an address whose body is JSON, and a form with files where ``form`` names its fields."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}}
    if form is not None:
        files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"file": files, **form},
                "required": ["file", *(name for name in form if name == "label")],
            }
        }
    return {"requestBody": {"required": True, "content": content}}


def archive() -> dict[str, Any]:
    """``openapi_extra`` of an address whose body is a zip."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    content = {"application/zip": {"schema": file}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def refusals() -> dict[int | str, dict[str, Any]]:
    """The answers that every address may give."""
    return {
        "4XX": {"model": schemas.ErrorBody, "description": "Refused: what, why, and what to do."},
        422: {"model": schemas.ErrorBody, "description": "The request cannot be used as it is."},
        503: {"model": schemas.ErrorBody, "description": "The service stops, or is busy. Ask again in a moment."},
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description."""
    if app.openapi_schema:
        return app.openapi_schema
    found = get_openapi(title="quickstudy", version=version("quickstudy"), description=_ABOUT, routes=app.routes)
    models = [(model, "validation") for model in schemas.all_models()]
    _, defined = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
    parts = found.setdefault("components", {})
    parts["schemas"] = {**parts.get("schemas", {}), **defined["$defs"]}
    parts["schemas"].pop("HTTPValidationError", None)
    parts["schemas"].pop("ValidationError", None)
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in found["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"key": []}, {}]
    app.openapi_schema = found
    return found
