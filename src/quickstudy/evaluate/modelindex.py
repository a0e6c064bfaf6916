"""Floor 4: results as ``model-index``, the metadata of a model card by which the Hugging Face hub shows figures.

Strings are JSON's, which YAML reads as they are; so nothing has to be installed to write it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from quickstudy.evaluate import Result
from quickstudy.evaluate.comparison import cell_name
from quickstudy.evaluate.wording import data_name
from quickstudy.metrics import metric

__all__ = ["model_index"]

_PICTURES = "omniglot caltech101 glyphs ink digits mednist images shards".split()
_TEXTS = ("banking77", "clinc150", "fewrel", "texts")
_SOUNDS = ("spoken-digits", "arabic-commands", "sounds")
_TABLES = ("tables", "table", "uci-heart", "sp500", "bars")
_KINDS = {"image": _PICTURES, "text": _TEXTS, "audio": _SOUNDS, "tabular": _TABLES}


def model_index(name: str, results: Sequence[Result]) -> str:
    """The metadata, as YAML, without the lines around a card's head.

    A figure stands as results have it: an accuracy between 0 and 1. Its interval, and what makes its tasks, stand in
    ``args``, as the hub has no fields for them.

    Args:
        name: of the model.
        results: what was measured; all are listed.

    Returns:
        Lines, the last of which ends.
    """
    lines = ["model-index:", f"- name: {_text(name)}", "  results:"]
    for result in results:
        lines += _lines(_entry(result))
    return "\n".join(lines) + "\n"


def _entry(result: Result) -> dict[str, Any]:
    measured = [(result.metric, result.mean, result.ci95, result.ci95_classes)]
    measured += [(name, other.mean, other.ci95, other.ci95_classes) for name, other in result.others.items()]
    tasks = {
        "way": result.way,
        "shot": result.shot,
        "query": result.query,
        "seed": result.seed,
        "first": result.first,
        "episodes": result.episodes,
        "source_hash": result.source_hash,
    }
    return {
        "task": {"type": _task_type(result), "name": f"few-shot learning, {cell_name(result)}"},
        "dataset": {
            "type": result.data.partition(",")[0],
            "name": data_name(result),
            "split": result.split,
            "args": {key: value for key, value in tasks.items() if value is not None},
        },
        "metrics": [_metric(result, *one) for one in measured],
    }


def _metric(result: Result, name: str, mean: float, ci95: float, over_classes: float | None) -> dict[str, Any]:
    about: dict[str, Any] = {"ci95": ci95, "ci95_classes": over_classes, "transductive": result.transductive}
    about |= {"balanced_prior": True} if result.balanced_prior else {}
    return {
        "type": name,
        "value": mean,
        "name": metric(name).title,
        "args": {key: value for key, value in about.items() if value is not None},
    }


def _task_type(result: Result) -> str:
    """One of the hub's tasks where it has one, else a word of our own, which it shows as it is."""
    base = result.data.partition(",")[0]
    kind = next((kind for kind, names in _KINDS.items() if base in names), None)
    if metric(result.metric).smaller_is_better:
        return "tabular-regression" if kind == "tabular" else "few-shot-regression"
    if result.metric.startswith("return"):
        return "reinforcement-learning"
    return "few-shot-classification" if kind is None else f"{kind}-classification"


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    """One result in a list of them, two levels in."""
    for place, (key, value) in enumerate(entry.items()):
        lead = "  - " if place == 0 else "    "
        yield f"{lead}{key}:"
        if isinstance(value, dict):
            yield from (f"      {line}" for line in _mapping(value))
            continue
        for one in value:
            inner = list(_mapping(one))
            yield f"    - {inner[0]}"
            yield from (f"      {line}" for line in inner[1:])


def _mapping(value: dict[str, Any]) -> Iterator[str]:
    for key, one in value.items():
        if isinstance(one, dict):
            yield f"{key}:"
            yield from (f"  {name}: {_scalar(inner)}" for name, inner in one.items())
        else:
            yield f"{key}: {_scalar(one)}"


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
        return repr(value) if "e" not in repr(value) or "." in repr(value) else repr(value).replace("e", ".0e")
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_scalar, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
