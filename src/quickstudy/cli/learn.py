"""Floor 7: ``quickstudy learn``, ``predict``, ``add`` and ``inspect``: a task of one's own, from files."""

from __future__ import annotations

import json as json_of
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.errors import DataError, InputError

if TYPE_CHECKING:
    from quickstudy.estimators import FewShotClassifier
    from quickstudy.estimators.files import Found

__all__ = ["add", "inspect", "learn", "predict"]

Label = Annotated[str, typer.Option(help="In a file: the column, or key, of the label.")]
Text = Annotated[str, typer.Option(help="In a file: the column, or key, of the text.")]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out files that cannot be read, and say which.")]
TaskFolder = Annotated[Path, typer.Argument(help="The folder of a task that `quickstudy learn` made.")]


def learn(
    source: Annotated[
        Path,
        typer.Argument(help="A folder with a folder for each class (pictures or recordings), or a CSV, TSV or JSONL."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write the task to.")],
    learner: Annotated[
        str,
        typer.Option(help="auto; the name of a shipped or a plain learner; the folder of a saved one or of a run."),
    ] = "auto",
    label: Label = "label",
    text: Text = "text",
    reject_unknown: Annotated[
        float | None,
        typer.Option(help="The share of known examples that may be called unknown by mistake, such as 0.05."),
    ] = None,
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn classes from a few examples of each; nothing is trained but what the learner needs for it."""
    del debug  # read by `outcome`
    from quickstudy.estimators import FewShotClassifier
    from quickstudy.estimators.files import labelled

    found = labelled(source, label=label, text=text)
    model = FewShotClassifier(learner=learner, reject_unknown=reject_unknown)
    found = _fitted(model, found, skip)
    model.name_examples(found.names, found.columns)
    model.save(out)
    _say_left(found)
    _show(model, json)


def add(
    task: TaskFolder,
    source: Annotated[
        Path, typer.Argument(help="A folder of one class, named as the class; a folder of such folders; or a file.")
    ],
    label: Label = "label",
    text: Text = "text",
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add examples, of classes that are known or new; the same as learning all at once."""
    del debug  # read by `outcome`
    from quickstudy.data.classfolders import subfolders
    from quickstudy.estimators.files import labelled, of_class

    model = _task(task)
    one = source.is_dir() and not subfolders(source)
    found = of_class(source) if one else labelled(source, label=label, text=text)
    if found.kind != model.kind_:
        raise InputError(f"Cannot add {found.kind} to {task}: it learned {model.kind_}. Learn them as another task.")
    if found.kind == "rows" and found.columns != model.columns_:
        raise InputError(
            f"Cannot add {source} to {task}: its columns are {', '.join(found.columns)}, and those that were learned "
            f"{', '.join(model.columns_)}. Give the same, in that order."
        )
    kept = _readable(model, found, skip)
    model.partial_fit(kept.X, kept.y)
    model.name_examples(kept.names)
    model.save(task)
    _say_left(kept)
    _show(model, json)


def predict(
    task: TaskFolder,
    files: Annotated[
        list[Path], typer.Argument(help="Pictures or recordings, or folders of them; or files of texts or of rows.")
    ],
    text: Text = "text",
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what new examples are: label, probability, and the labelled examples that are most like them."""
    del debug  # read by `outcome`
    from quickstudy.estimators.files import unlabelled

    model = _task(task)
    found = _readable(model, unlabelled(files, model.kind_, text=text, columns=model.columns_), skip)
    probable = model.predict_proba(found.X)
    labels = model.predict(found.X)
    near = model.nearest_examples(found.X)
    unknown = model.is_unknown(found.X) if model.reject_unknown is not None else [False] * len(labels)
    promise = None if model.reject_unknown is None else model.promise_
    answers = [
        {
            "name": name,
            "label": _plain(label),
            "probability": round(float(row.max()), 4),
            "unknown": bool(strange),
            "nearest": [{"name": known, "label": said, "distance": round(far, 4)} for known, said, far in some],
        }
        for name, label, row, strange, some in zip(found.names, labels, probable, unknown, near, strict=True)
    ]
    _say_left(found)
    if json:
        one_json({"task": str(task), "promise": promise, "answers": answers, "left_out": found.left})
        return
    if promise is not None:
        share = f"{100 * (model.reject_unknown or 0):g} % of known examples are called unknown by mistake"
        said = "not guaranteed, with so few examples" if promise == "not guaranteed" else f"over {promise}"
        typer.echo(f"{share}: {said}", err=True)
    for answer in answers:
        like = answer["nearest"][0]
        said = "" if answer["unknown"] else f"  {100 * answer['probability']:.1f} %"
        typer.echo(f"{answer['name']}  {_word(answer['label'])}{said}  (like {like['name']})")


def inspect(task: TaskFolder, json: Json = False, debug: Debug = False) -> None:
    """Say what a task has learned, from what, and by which learner."""
    del debug  # read by `outcome`
    _show(_task(task), json)


def _task(folder: Path) -> FewShotClassifier:
    from quickstudy.estimators import FewShotClassifier, load_task

    model = load_task(folder)
    if not isinstance(model, FewShotClassifier):
        raise InputError(f"{folder} is a task of numbers. Load it from Python: quickstudy.estimators.load_task.")
    return model


def _fitted(model: FewShotClassifier, found: Found, skip: bool) -> Found:
    """Fit what can be read, and say which examples that is."""
    from quickstudy.estimators.files import plain_reader, readable

    if skip:  # whatever the learner will be: a file that is broken is so for each
        found = readable(found, plain_reader(found.kind))
    if not found.y:
        raise DataError("There is not a single example that can be read. Nothing was written.")
    model.fit(found.X, found.y)
    return found


def _readable(model: FewShotClassifier, found: Found, skip: bool) -> Found:
    from quickstudy.estimators.files import readable

    kept = readable(found, model.reader_) if skip else found
    if not kept.names:
        raise DataError("There is not a single example that can be read. Nothing was changed.")
    return kept


def _say_left(found: Found) -> None:
    for name, why in found.left.items():
        typer.echo(f"left out: {name}: {why}", err=True)


def _show(model: FewShotClassifier, json: bool) -> None:
    counts = Counter(map(_plain, model.labels_))
    classes = [_plain(label) for label in model.classes_]
    if json:
        about: dict[str, Any] = {"kind": model.kind_, "learner": model.chosen_.name, "why": model.chosen_.why}
        about |= {"classes": [{"label": label, "examples": counts[label]} for label in classes]}
        one_json(about | {"reject_unknown": model.reject_unknown})
        return
    typer.echo(f"{len(classes)} classes of {model.kind_}: " + ", ".join(f"{_word(c)} ({counts[c]})" for c in classes))
    typer.echo(f"learner: {model.chosen_.name} ({model.chosen_.why})")


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


def _word(label: Any) -> str:
    return label if isinstance(label, str) else json_of.dumps(label)
