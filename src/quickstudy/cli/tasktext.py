"""Floor 7: a learned task, and what it says of new examples, in words and as JSON."""

from __future__ import annotations

import json as json_of
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from quickstudy.estimators import FewShotClassifier, FewShotRegressor
    from quickstudy.estimators.fewshot import AbstractFewShot
    from quickstudy.estimators.files import Found

__all__ = ["about", "answers_of", "in_words", "say_left", "say_promise", "show_answer"]

_SHOWN = 20  # examples that are named one by one
_CLASSES = 50  # classes, likewise


def about(model: AbstractFewShot) -> dict[str, Any]:
    """A task as JSON."""
    import numpy as np

    from quickstudy.estimators import FewShotClassifier

    said: dict[str, Any] = {"kind": model.kind_, "learner": model.chosen_.name, "why": model.chosen_.why}
    said["warning"] = model.warning_
    if isinstance(model, FewShotClassifier):
        counts = Counter(map(_plain, model.labels_))
        classes = [{"label": label, "examples": counts[label]} for label in map(_plain, model.classes_)]
        return said | {"classes": classes, "reject_unknown": model.reject_unknown} | _columns(model)
    values = np.asarray(model.labels_, dtype=np.float64)
    figures = {"examples": len(values), "least": values.min(), "mean": values.mean(), "most": values.max()}
    return said | {"numbers": figures} | _columns(model)


def in_words(model: AbstractFewShot) -> list[str]:
    """The same in lines."""
    said = about(model)
    if "classes" in said:
        classes = ", ".join(f"{_word(one['label'])} ({one['examples']})" for one in said["classes"][:_CLASSES])
        more = len(said["classes"]) - _CLASSES
        classes += f" and {more} more (--json names all)" if more > 0 else ""
        lines = [f"{len(said['classes'])} classes of {model.kind_}: {classes}"]
    else:
        n = said["numbers"]
        lines = [f"a number for {model.kind_}: {n['examples']} examples, {n['least']:g} to {n['most']:g}"]
    lines.append(f"learner: {said['learner']} ({said['why']})")
    lines += [f"columns: {_columns_in_words(said['columns'])}"] if said.get("columns") else []
    lines += [f"warning: {said['warning']}"] if said.get("warning") else []
    return lines + [f"column {name!r} is not used: {why}" for name, why in said.get("columns_left_out", {}).items()]


def _columns_in_words(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more (--json names all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _columns(model: AbstractFewShot) -> dict[str, Any]:
    from quickstudy.estimators.tablereader import TableReader

    if model.kind_ != "rows":
        return {}
    left = dict(model.reader_.coding.left_out) if isinstance(model.reader_, TableReader) else {}
    return {"columns": list(model.columns_), "columns_left_out": left}


def answers_of(model: AbstractFewShot, found: Found, half_width: float | None) -> list[dict[str, Any]]:
    """What the task says of each example, as JSON.

    Args:
        model: the task.
        found: examples.
        half_width: of the intervals around numbers; None: there is none.
    """
    from quickstudy.estimators import FewShotClassifier

    near = [
        [{"name": known, "label": said, "distance": round(far, 4)} for known, said, far in some]
        for some in model.nearest_examples(found.X)
    ]
    if isinstance(model, FewShotClassifier):
        answers = _labels(model, found)
    else:
        answers = _numbers(model, found, half_width)
        near = [[{"name": n["name"], "value": n["label"], "distance": n["distance"]} for n in some] for some in near]
    return [answer | {"nearest": some} for answer, some in zip(answers, near, strict=True)]


def _labels(model: FewShotClassifier, found: Found) -> list[dict[str, Any]]:
    import numpy as np

    probable = model.predict_proba(found.X)
    labels = model.classes_[probable.argmax(1)]
    strange = np.zeros(len(labels), dtype=bool) if model.reject_unknown is None else model.is_unknown(found.X)
    return [
        {
            "name": name,
            "label": model.unknown if unknown else _plain(label),
            "probability": round(float(row.max()), 4),
            "unknown": bool(unknown),
        }
        for name, label, row, unknown in zip(found.names, labels, probable, strange, strict=True)
    ]


def _numbers(model: FewShotRegressor | AbstractFewShot, found: Found, half: float | None) -> list[dict[str, Any]]:
    import numpy as np

    values = np.asarray(model.predict(found.X), dtype=np.float64)
    if half is None or not np.isfinite(half):
        return [{"name": name, "value": value} for name, value in zip(found.names, values.tolist(), strict=True)]
    return [
        {"name": name, "value": value, "interval90": [value - half, value + half]}
        for name, value in zip(found.names, values.tolist(), strict=True)
    ]


def show_answer(answer: dict[str, Any]) -> None:
    """One answer in a line."""
    like = answer["nearest"][0]["name"]
    if "value" in answer:
        ends = answer.get("interval90")
        said = f"{answer['value']:.6g}" + ("" if ends is None else f"  [{ends[0]:.6g}, {ends[1]:.6g}]")
    else:
        said = _word(answer["label"]) + ("" if answer["unknown"] else f"  {100 * answer['probability']:.1f} %")
    typer.echo(f"{answer['name']}  {said}  (like {like})")


def say_promise(model: AbstractFewShot) -> None:
    """What the rate of "none of these" holds for."""
    from quickstudy.estimators import FewShotClassifier

    if not isinstance(model, FewShotClassifier) or model.reject_unknown is None:
        return
    share = f"{100 * model.reject_unknown:g} % of known examples are called unknown by mistake"
    few = model.promise_ == "not guaranteed"
    typer.echo(f"{share}: {'not guaranteed, with so few examples' if few else f'over {model.promise_}'}", err=True)


def say_left(left: dict[str, str]) -> None:
    """Which examples were left out, and why."""
    for name, why in list(left.items())[:_SHOWN]:
        typer.echo(f"left out: {name}: {why.removeprefix(f'Cannot read {name}: ')}", err=True)
    if len(left) > _SHOWN:
        typer.echo(f"left out: {len(left) - _SHOWN} more; --json names them all", err=True)


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


def _word(label: Any) -> str:
    return label if isinstance(label, str) else json_of.dumps(label)
