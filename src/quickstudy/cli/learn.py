"""Floor 7: ``quickstudy learn``, ``predict``, ``add`` and ``inspect``: a task of one's own, from files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickstudy.cli.completion import learner_names
from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.cli.tasktext import about, answers_of, in_words, say_left, say_promise, show_answer
from quickstudy.errors import DataError, InputError

if TYPE_CHECKING:
    from quickstudy.estimators.fewshot import AbstractFewShot
    from quickstudy.estimators.files import Found

__all__ = ["add", "inspect", "learn", "predict"]

Source = Annotated[
    Path,
    typer.Argument(help="A folder with a folder for each class (pictures or recordings), or a CSV, TSV or JSONL."),
]
Label = Annotated[str, typer.Option(help="In a file: the column, or key, of the label.")]
Text = Annotated[str, typer.Option(help="In a file: the column, or key, of the text.")]
Target = Annotated[
    str | None, typer.Option(help="In a file: the column, or key, of a number to learn, in place of a label.")
]
Categories = Annotated[
    list[str] | None, typer.Option(help="A column whose numbers are names, such as codes; once for each.")
]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out what cannot be read, and say which.")]
TaskFolder = Annotated[Path, typer.Argument(help="The folder of a task that `quickstudy learn` made.")]

_AT_ONCE = 64  # examples that are read and answered together: what is said of one does not depend on the others


def learn(
    source: Source,
    out: Annotated[Path, typer.Option(help="The folder to write the task to.")],
    learner: Annotated[
        str,
        typer.Option(
            help="auto; the name of a shipped or a plain learner; the folder of a saved one or of a run.",
            autocompletion=learner_names,
        ),
    ] = "auto",
    label: Label = "label",
    text: Text = "text",
    target: Target = None,
    categories: Categories = None,
    reject_unknown: Annotated[
        float | None,
        typer.Option(help="The share of known examples that may be called unknown by mistake, such as 0.05."),
    ] = None,
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn classes, or a number, from a few examples; nothing is trained but what the learner needs for it."""
    del debug  # read by `outcome`
    from quickstudy.estimators import FewShotClassifier, FewShotRegressor
    from quickstudy.estimators.files import Asked, labelled
    from quickstudy.estimators.savedtask import is_task
    from quickstudy.estimators.tasklock import held
    from quickstudy.sealed import refuse_pickles

    if Path(learner).is_dir():
        refuse_pickles(Path(learner))
    found = labelled(source, Asked(label, text, target, tuple(categories or ()), skip))
    model: FewShotClassifier | FewShotRegressor
    if target is None:
        model = FewShotClassifier(learner=learner, reject_unknown=reject_unknown)
    elif reject_unknown is not None:
        raise InputError("--reject-unknown is for classes; with --target a number is learned. Leave one of them out.")
    else:
        model = FewShotRegressor(learner=learner)
    found = _fitted(model, found, skip)
    model.name_examples(found.names, found.columns)
    with held(out):
        again = is_task(out)
        model.save(out)
    if again:
        typer.echo(f"the task that was at {out} is replaced; `quickstudy add` keeps what was learned", err=True)
    say_left(found.left)
    _show(model, json, found)


def add(
    task: TaskFolder,
    source: Annotated[
        Path, typer.Argument(help="A folder of one class, named as the class; a folder of such folders; or a file.")
    ],
    label: Label = "label",
    text: Text = "text",
    target: Target = None,
    keep_doubles: Annotated[
        bool, typer.Option("--keep-doubles", help="Count examples again that the task has already.")
    ] = False,
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Add examples, of classes that are known or new; the same as learning all at once."""
    del debug  # read by `outcome`
    from quickstudy.estimators.files import Asked
    from quickstudy.estimators.tasklock import held

    _task(task)  # before anything is locked: a mistyped name makes no file
    with held(task):
        model = _task(task)
        found = _more(task, model, source, Asked(label, text, target, (), skip))
        kept = _readable(model, found, skip)
        if not keep_doubles:
            kept = _without_doubles(model, kept)
        if kept.names:
            model.partial_fit(kept.X, kept.y)
            model.name_examples(kept.names)
            model.save(task)
    say_left(kept.left)
    if not kept.names:
        typer.echo("nothing was added: the task has all of these examples already", err=True)
    _show(model, json, kept)


def _more(task: Path, model: AbstractFewShot, source: Path, asked: Any) -> Found:
    from quickstudy.data.classfolders import subfolders
    from quickstudy.estimators import FewShotRegressor
    from quickstudy.estimators.files import labelled, of_class

    if isinstance(model, FewShotRegressor) != (asked.target is not None):
        what = "numbers; name their column: --target NAME" if asked.target is None else "classes, and no numbers"
        raise InputError(f"Cannot add {source} to {task} like this: it learned {what}.")
    one = source.is_dir() and not subfolders(source)
    found = of_class(source) if one else labelled(source, asked, learned=model.reader_)
    if found.kind != model.kind_:
        raise InputError(f"Cannot add {found.kind} to {task}: it learned {model.kind_}. Learn them as another task.")
    if found.kind == "rows" and found.columns != model.columns_:
        raise InputError(
            f"Cannot add {source} to {task}: its columns are {', '.join(found.columns)}, and those that were learned "
            f"{', '.join(model.columns_)}. Give the same, in that order."
        )
    return found


def _without_doubles(model: AbstractFewShot, found: Found) -> Found:
    """Without the examples that the task has already; one that it has with another label is said, and kept."""
    from quickstudy.estimators.doubles import known_already

    known = known_already(model, found) if found.names else {}
    label_of = dict(zip(found.names, found.y, strict=True))
    left = dict(found.left)
    for name, (who, label) in known.items():
        if label_of[name] == label:
            left[name] = f"the task has it already, as {who} (--keep-doubles counts it again)"
        else:
            typer.echo(f"warning: {name} is {label_of[name]!r}, and the same example {who} is {label!r}", err=True)
    kept = [number for number, name in enumerate(found.names) if name not in left]
    return replace(found.chosen(kept), left=left)


def predict(
    task: TaskFolder,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Pictures or recordings, or folders of them; or files of texts or of rows; - for texts from stdin, "
            "one a line."
        ),
    ] = None,
    text_value: Annotated[list[str] | None, typer.Option(help="A text itself, in place of a file of texts.")] = None,
    text: Text = "text",
    skip: Skip = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what new examples are: label and probability, or a number, and the labelled examples most like them."""
    del debug  # read by `outcome`
    from quickstudy.estimators import FewShotRegressor
    from quickstudy.estimators.files import Asked
    from quickstudy.estimators.spread import spread

    model = _task(task)
    found = _asked_of(model, files or [], text_value or [], Asked(text=text, skip=skip))
    half = spread(model) if isinstance(model, FewShotRegressor) else None
    answers: list[dict[str, Any]] = []
    left = dict(found.left)
    for part in _parts(found):
        kept = _readable(model, part, skip, some=True)
        left |= kept.left
        say_left(kept.left)
        if not kept.names:
            continue
        said = answers_of(model, kept, half)
        answers += said
        if not json:
            if len(answers) == len(said):
                say_promise(model)
            for answer in said:
                show_answer(answer)
    if not answers:
        raise DataError("There is not a single example that can be read.")
    if json:
        promise = getattr(model, "promise_", None) if getattr(model, "reject_unknown", None) is not None else None
        one_json({"task": str(task), "promise": promise, "answers": answers, "left_out": left})


def _parts(found: Found) -> Iterator[Found]:
    """A few examples at a time, so that a large folder need not fit into memory; what was left out with the first."""
    for first in range(0, max(len(found.names), 1), _AT_ONCE):
        part = found.chosen(range(first, min(first + _AT_ONCE, len(found.names))))
        yield part if first == 0 else replace(part, left={})


def _asked_of(model: AbstractFewShot, files: list[Path], texts: list[str], asked: Any) -> Found:
    """The examples that a question is about."""
    from quickstudy.estimators.files import Found, unlabelled

    spoken = [(f"text {number}", text) for number, text in enumerate(texts, 1)]
    if Path("-") in files:
        lines = sys.stdin.read().splitlines()
        spoken += [(f"stdin:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
        files = [file for file in files if file != Path("-")]
    if spoken and model.kind_ != "texts":
        raise InputError(f"Cannot use texts: the task learned {model.kind_}. Name files that hold such.")
    if not files and not spoken:
        what = "no texts, and stdin is empty" if model.kind_ == "texts" else "no files"
        raise InputError(f"There is nothing to say anything of: {what}. Name files, or folders that hold some.")
    found = (
        unlabelled(files, model.kind_, asked, columns=model.columns_, learned=model.reader_)
        if files
        else Found(model.kind_, [], [], [])
    )
    if not spoken:
        return found
    names, said = zip(*spoken, strict=True)
    return replace(found, X=[*said, *found.X], names=[*names, *found.names])


def inspect(task: TaskFolder, json: Json = False, debug: Debug = False) -> None:
    """Say what a task has learned, from what, and by which learner."""
    del debug  # read by `outcome`
    _show(_task(task), json)


def _task(folder: Path) -> AbstractFewShot:
    from quickstudy.estimators import load_task

    return load_task(folder)


def _fitted(model: AbstractFewShot, found: Found, skip: bool) -> Found:
    """Fit what can be read, and say which examples that is."""
    from quickstudy.estimators.files import plain_reader, readable

    if skip:  # whatever the learner will be: a file that is broken is so for each
        found = readable(found, plain_reader(found.kind))
    if not found.y:
        raise DataError("There is not a single example that can be read. Nothing was written.")
    model.fit(found.X, found.y)
    return found


def _readable(model: AbstractFewShot, found: Found, skip: bool, *, some: bool = False) -> Found:
    from quickstudy.estimators.files import readable

    kept = readable(found, model.reader_) if skip else found
    if not kept.names and not some:
        raise DataError("There is not a single example that can be read. Nothing was changed.")
    return kept


def _show(model: AbstractFewShot, json: bool, found: Found | None = None) -> None:
    if json:
        one_json(about(model) | ({} if found is None else {"left_out": found.left}))
        return
    for line in in_words(model):
        typer.echo(line)
