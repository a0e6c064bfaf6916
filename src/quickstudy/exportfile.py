"""Floor 6: what ``exporting.py`` makes, written to a file: ONNX, or what ``torch.export.load`` reads.

What is written was compared with what quickstudy says, on random and on real examples; a file that says something else
is not written.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from quickstudy.episode import values_unread
from quickstudy.errors import InputError, RunError
from quickstudy.exporting import Exported, Parts
from quickstudy.files import atomic_write_bytes

__all__ = ["Format", "write"]

Format: TypeAlias = Literal["onnx", "torch"]

_CLOSE = 1e-4  # of the largest number that comes out, and of 1
_LOUD = (
    *("torch.onnx", "torch.onnx._internal.exporter._registration", "torch._export", "torch.export", "torch.fx"),
    "onnxscript",
)
_BATCHES = (1, 2, 7)  # examples at once, when the file is compared
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def write(exported: Exported, path: str | Path, form: Format) -> float:
    """Write a file, after it was compared.

    Args:
        exported: what.
        path: of the file; one that is there is replaced.
        form: ``"onnx"``, or ``"torch"`` (``torch.export.load`` reads it; ``quickstudy.json`` among its extra files).

    Returns:
        The largest difference that was met with, in parts of the largest number.

    Raises:
        InputError: a package is missing, the path is a folder, or it cannot be exported: why.
        RunError: the file says something else than quickstudy.
        StorageError: the disk refused.
    """
    place = Path(path)
    if place.is_dir():
        raise InputError(
            f"Cannot export to {place}: it is a folder. Give the name of a file, such as {place}/model.onnx."
        )
    if form == "onnx":
        _need_onnx()
    about = {"quickstudy": version("quickstudy"), **exported.about}
    about |= {"inputs": {name: _described(leaf) for name, leaf in exported.inputs.items()}}
    about |= {"outputs": list(exported.outputs)}
    with _quiet(), torch.no_grad():
        program = _traced(exported)
        if form == "torch":
            content, run = _as_torch(program, about), _runs_program(program, exported)
        else:
            content = _as_onnx(program, exported, about)
            run = _runs_onnx(content, exported)
        far = max(_compared(exported, inputs, run) for inputs in _trials(exported))
    if not far <= _CLOSE:
        raise RunError(
            f"{exported.name} was exported, but the file says something else than quickstudy, by {far:.2g} of the "
            "largest number, so it was not written. Please report it, with the versions of torch and onnxruntime."
        )
    atomic_write_bytes(place, content)
    return far


def _need_onnx() -> None:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise InputError(
            f"Writing ONNX needs the packages onnx, onnxscript and onnxruntime, of which one is not installed "
            f"({error}). Run pip install 'quickstudy[onnx]', or export for torch."
        ) from error
    del onnx, onnxruntime, onnxscript


def _described(leaf: Tensor) -> dict[str, Any]:
    return {"dtype": str(leaf.dtype).removeprefix("torch."), "shape": ["n", *leaf.shape[1:]]}


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporters say on the way is for those who mend them."""
    loud = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, before in zip(loud, levels, strict=True):
            logger.setLevel(before)


def _traced(exported: Exported) -> torch.export.ExportedProgram:
    rows = exported.linked or (tuple(exported.inputs),)
    dims = {name: torch.export.Dim(f"n{number or ''}") for number, names in enumerate(rows) for name in names}
    arguments = tuple(_rows(leaf, 3) for leaf in exported.inputs.values())
    if exported.linked:  # as many as there are, so that each class has one
        arguments = tuple(exported.inputs.values())
    shapes = ({(0): dims[name]} for name in exported.inputs)
    try:
        with values_unread(exported.way):
            return torch.export.export(exported.module, arguments, dynamic_shapes=(tuple(shapes),), strict=False)
    except Exception as error:  # torch names no narrower kind
        raise InputError(_cannot(exported.name, error)) from error


def _cannot(name: str, error: BaseException) -> str:
    while error.__cause__ is not None:  # what was wrong, and not in which of its steps PyTorch met it
        error = error.__cause__
    said = _COLOURS.sub("", next((line.strip() for line in str(error).splitlines() if line.strip()), ""))
    said = said.split(". ")[0].rstrip(".:")[:200]  # what follows is advice to whoever wrote the network
    return (
        f"Cannot export {name}: some of what it computes cannot be written down as a graph of tensors "
        f"({type(error).__name__}{said and f': {said}'}). Use it through quickstudy, or export another learner."
    )


def _as_torch(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"quickstudy.json": json.dumps(about)})
    return buffer.getvalue()


def _as_onnx(program: torch.export.ExportedProgram, exported: Exported, about: Mapping[str, Any]) -> bytes:
    import onnx

    names: dict[str, Any] = {"input_names": list(exported.inputs), "output_names": list(exported.outputs)}
    with TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        path = Path(folder) / "model.onnx"
        try:
            with redirect_stdout(nowhere):
                made: Any = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False, **names)
                made.save(path)
        except Exception as error:  # likewise
            raise InputError(_cannot(exported.name, error)) from error
        model = onnx.load(str(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = "quickstudy", json.dumps(about)
    content: bytes = model.SerializeToString()
    return content


_Run: TypeAlias = Callable[[Parts], list[np.ndarray]]


def _runs_program(program: torch.export.ExportedProgram, exported: Exported) -> _Run:
    module = program.module()

    def run(inputs: Parts) -> list[np.ndarray]:
        return _arrays(module(*inputs.values()))

    return run


def _runs_onnx(content: bytes, exported: Exported) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's are of many kinds
        raise InputError(_cannot(exported.name, error)) from error
    wanted = {one.name for one in session.get_inputs()}  # one that has no say is left out of the graph

    def run(inputs: Parts) -> list[np.ndarray]:
        given = {name: leaf.numpy() for name, leaf in inputs.items() if name in wanted}
        found: list[np.ndarray] = session.run(list(exported.outputs), given)
        return found

    return run


def _arrays(out: Tensor | tuple[Tensor, ...]) -> list[np.ndarray]:
    return [leaf.detach().numpy() for leaf in (out if isinstance(out, tuple) else (out,))]


def _trials(exported: Exported) -> Iterator[Parts]:
    """Random inputs of several numbers of examples, then the real ones."""
    draw = np.random.default_rng(0)
    for n in _BATCHES:
        yield {name: _random(leaf, n, draw, name, exported) for name, leaf in exported.inputs.items()}
    yield from exported.real


def _random(leaf: Tensor, n: int, draw: np.random.Generator, name: str, exported: Exported) -> Tensor:
    if exported.linked and name in exported.linked[0]:  # a support: of each class n
        way = int(exported.about["way"])
        n = n * way
        if name == "labels":
            return torch.arange(n) % way
    shape = (n, *leaf.shape[1:])
    if leaf.dtype == torch.uint8:
        return torch.from_numpy(draw.integers(0, 256, shape).astype(np.uint8))
    if not leaf.is_floating_point():  # tokens, and where they are: those of an example
        return _rows(leaf, n)
    centre, spread = leaf.double().mean().item(), max(leaf.double().std(unbiased=False).item(), 0.1)
    return torch.from_numpy(draw.normal(centre, spread, shape).astype(np.float32))


def _rows(leaf: Tensor, n: int) -> Tensor:
    """So many rows of it, again from the first where there are not as many."""
    return leaf[torch.arange(n) % len(leaf)]


def _compared(exported: Exported, inputs: Parts, run: _Run) -> float:
    """The largest difference, in parts of 1 or of the largest number."""
    ours = _arrays(exported.module(*inputs.values()))
    far = 0.0
    for mine, theirs in zip(ours, run(inputs), strict=True):
        if mine.shape != theirs.shape or not np.isfinite(theirs).all() or not np.isfinite(mine).all():
            return float("inf")
        size = max(1.0, float(np.abs(mine).max(initial=0.0)))
        far = max(far, float(np.abs(mine.astype(np.float64) - theirs).max(initial=0.0)) / size)
    return far
