"""Floor 6: what the estimators share: from examples to a learner that has adapted to them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from quickstudy.episode import Examples, first_leaf, map_leaves
from quickstudy.errors import InputError
from quickstudy.estimators.choosing import Chosen, Task, choose, reader_for
from quickstudy.estimators.doubt import embedded, has_features
from quickstudy.estimators.familiar import MOST, unlike
from quickstudy.estimators.inputs import AbstractReader, Kind, kind_of
from quickstudy.estimators.joining import joined
from quickstudy.estimators.labelling import as_scikit_learn_knows, joined_labels, plain_labels
from quickstudy.estimators.refusals import alone, refuse_names_of_files, refuse_none, refuse_ragged
from quickstudy.estimators.scaling import moments
from quickstudy.estimators.showing import beside_html, beside_text
from quickstudy.estimators.tablereader import TableReader
from quickstudy.estimators.tables import Table, table_of
from quickstudy.evaluate.metatest import evaluating
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.innerloop import InnerLoop
from quickstudy.targets import Inputs, Target

__all__ = ["AbstractFewShot", "device_of", "place_learner"]

_AT_ONCE = 256
"""Queries that go through a learner together: what is said of one does not depend on the others."""


class AbstractFewShot(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A learner that was meta-trained, as scikit-learn knows estimators.

    Attributes:
        chosen_: the learner, what it is called and why it was taken.
        kind_: of the examples: ``"rows"``, ``"pictures"``, ``"texts"`` or ``"sounds"``.
        reader_: brings examples to what the learner reads.
        support_: the labelled examples, as the learner reads them, ``[n, ...]``.
        labels_: their labels.
        state_: what they taught the learner.
        scale_: of rows, mean and deviation of each column over the labelled ones; None of others.
        names_: what the labelled examples are called, where somebody said it (:meth:`name_examples`).
        columns_: of rows, likewise.
        warning_: a sentence where the labelled examples look unlike what the learner was trained on, else None.
    """

    learner: Any
    rate: int | None
    device: str
    chosen_: Chosen
    kind_: Kind
    reader_: AbstractReader
    support_: Inputs
    labels_: Any
    state_: Any
    target_: Target
    scale_: tuple[Tensor, Tensor] | None
    names_: list[str]
    columns_: tuple[str, ...]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "state_")

    @property
    def warning_(self) -> str | None:
        """A sentence where the labelled examples look unlike what the learner was trained on; see ``familiar.py``.

        None where they do not, and where it was not measured: of learners that do not come with the package.
        """
        self._check_fitted()
        chosen, n = self.chosen_, len(self.labels_)
        if not (chosen.calibration or {}).get("familiar"):
            return None
        some = map_leaves(lambda leaf: leaf[:MOST], self.support_)
        learner = chosen.learner
        with evaluating(learner), torch.no_grad():
            found = embedded(learner, Examples(self._on_device(some), None, self.target_)).cpu()
        return unlike(
            chosen.calibration, chosen.name, found, n / (len(self.classes_) if hasattr(self, "classes_") else 1)
        )

    def __sklearn_clone__(self) -> AbstractFewShot:
        """A copy that learned nothing; a trained ``MetaLearner`` is a parameter like others, and stays trained."""
        params = self.get_params(deep=False)
        learner = params.pop("learner")
        kept = copy.deepcopy(learner) if hasattr(learner, "meta_fit") else clone(learner, safe=False)
        return type(self)(learner=kept, **{name: clone(value, safe=False) for name, value in params.items()})

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The parameters, and of a fitted one which learner was taken, and why."""
        return f"{super().__repr__(N_CHAR_MAX)}{beside_text(self)}"

    def _repr_html_inner(self) -> str:
        """What scikit-learn shows, likewise."""
        return f"{estimator_html_repr(self)}{beside_html(self)}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        """What a notebook shows, as scikit-learn hands it over."""
        found: dict[str, str] = super()._repr_mimebundle_(**options)
        return found | ({"text/html": self._repr_html_inner()} if "text/html" in found else {})

    def save(self, folder: str | Path) -> None:
        """Write what was learned to a folder: examples, labels, state, and the learner where it is not shipped.

        Raises:
            NotFittedError: nothing was learned yet.
            InputError: it cannot be written: labels that no file can keep, or a learner that no recipe names.
            StorageError: the disk refused; what was there before is still there.
        """
        from quickstudy.estimators.savedtask import write_task

        self._check_fitted()
        write_task(Path(folder), self)

    def export_onnx(self, path: str | Path) -> float:
        """Write what was learned as ONNX: examples in, as ``reader_`` reads them; probabilities, or numbers, out.

        The number of examples is free. Labels, and how examples are read, stand in the file's metadata, as JSON under
        ``quickstudy``. The file is compared before it is written, by onnxruntime.

        Args:
            path: of the file; one that is there is replaced.

        Returns:
            By how much it was off at most, in parts of 1 or of the largest number.

        Raises:
            InputError: a package is missing, or what was learned is no graph of tensors.
            RunError: the file says something else.
        """
        from quickstudy.estimators.taskexport import export_task

        self._check_fitted()
        return export_task(self, path, "onnx")

    def export_torch(self, path: str | Path) -> float:
        """The same for ``torch.export.load``; the metadata is its extra file ``quickstudy.json``.

        Args:
            path: of the file, which usually ends in ``.pt2``.
        """
        from quickstudy.estimators.taskexport import export_task

        self._check_fitted()
        return export_task(self, path, "torch")

    @abstractmethod
    def _understood(self, y: Any) -> tuple[Tensor, Target, int]:
        """Labels as a learner is given them, ``[n]`` or ``[n, D]``; what they mean; how many outputs that takes."""

    def _fit(self, X: Any, y: Any) -> None:
        self._as_one(self._learn, X, y)

    def _fit_more(self, X: Any, y: Any) -> None:
        self._as_one(self._learn_more, X, y)

    def _as_one(self, learn: Callable[[Any, Any], None], X: Any, y: Any) -> None:
        """All or nothing: where ``learn`` fails, what was learned before is there as it was."""
        before = self.__dict__.copy()
        try:
            learn(X, y)
        except BaseException:  # Ctrl-C, too
            self.__dict__ = before
            raise

    def _learn(self, X: Any, y: Any) -> None:
        X, y = self._checked(X, y, first=True)
        labels, target, outputs = self._understood(y)
        table = TableReader.of(X) if isinstance(X, Table) else None
        columns = table.width if table is not None else X.shape[1] if self.kind_ == "rows" else 0
        task = self._task(columns, labels, outputs)
        self.chosen_ = choose(self.learner, task, X)
        self.reader_ = reader_for(self.chosen_, task, X, self.rate)
        self.reader_ = table or self.reader_
        self._adapt(self.reader_.read(X), labels, target)
        self.labels_ = y
        self.names_, self.columns_ = [str(number) for number in range(len(labels))], ()

    def _learn_more(self, X: Any, y: Any) -> None:
        """Examples are read as the first ones were; of rows the learner is chosen anew, by how many there are now."""
        X, y = self._checked(X, y, first=False)
        every = joined_labels(self.labels_, y)
        labels, target, outputs = self._understood(every)
        if isinstance(X, Table):  # words and deviations are measured anew, on all labelled rows
            assert isinstance(self.reader_, TableReader)
            self.reader_ = self.reader_.followed_by(X)
            inputs: Inputs = self.reader_.read(self.reader_.table)
        else:
            inputs = joined(self.support_, self.reader_.read(X))
        if self.kind_ == "rows":
            assert isinstance(inputs, Tensor)
            self.chosen_ = choose(self.learner, self._task(inputs.shape[1], labels, outputs), X)
        self._adapt(inputs, labels, target)
        self.names_ = [*self.names_, *(str(number) for number in range(len(self.names_), len(labels)))]
        self.labels_ = every

    def name_examples(self, names: Sequence[str], columns: Sequence[str] = ()) -> None:
        """Say what the last labelled examples are called, so that they can be shown beside a new one.

        Args:
            names: of as many of the last ones as there are names.
            columns: of rows, what each number is called.
        """
        self._check_fitted()
        self.names_[len(self.names_) - len(names) :] = names
        self.columns_ = tuple(columns) or self.columns_

    def nearest_examples(self, X: Any, n: int = 3) -> list[list[tuple[str, Any, float]]]:
        """The labelled examples that are most like each of ``X``: name, label and distance, the nearest first."""
        asked, known = self._embedded(self._read(X)).double(), self._embedded(self.support_).double()
        apart = torch.cdist(asked, known)
        order = apart.argsort(dim=1, stable=True)[:, :n].tolist()
        return [
            [(self.names_[place], _plain(self.labels_[place]), float(apart[row, place])) for place in places]
            for row, places in enumerate(order)
        ]

    def support_losses(self) -> list[float] | None:
        """The loss on the labelled examples before each step of a learner that takes steps, and after the last.

        Returns:
            One number a step and one more (of more than ten steps, of ten of them); None where nothing is descended.
        """
        self._check_fitted()
        learner = copy.copy(self.chosen_.learner)  # shares the weights; the loop is its own
        loop = getattr(learner, "loop", None)
        if not isinstance(loop, InnerLoop):
            return None
        labels = self._understood(self.labels_)[0]
        support = Examples(self._on_device(self.support_), labels[None].to(self._device()), self.target_)
        found = []
        with evaluating(learner), torch.no_grad():
            for steps in sorted(
                {round(step) for step in np.linspace(0, loop.test_steps, min(loop.test_steps, 10) + 1)}
            ):
                learner.loop = replace(loop, test_steps=steps)  # type: ignore[assignment]
                outputs = learner.predict(learner.adapt(support, key=_keys()), support.unlabelled(), key=_keys())
                found.append(float(learner.loss(outputs, support)[0]))
        return found

    def _task(self, columns: int, labels: Tensor, outputs: int) -> Task:
        return Task(self.kind_, "real" if labels.is_floating_point() else "classes", outputs, len(labels), columns)

    def _adapt(self, inputs: Inputs, labels: Tensor, target: Target) -> None:
        learner = place_learner(self.chosen_, self.kind_, self.device)
        self.scale_ = moments(inputs) if self.kind_ == "rows" and isinstance(inputs, Tensor) else None
        support = Examples(self._on_device(inputs), self._in_units(labels)[None].to(self._device()), target)
        with evaluating(learner), torch.no_grad():
            state = learner.adapt(support, key=_keys())
        self.support_, self.state_, self.target_ = inputs, state, target

    def _in_units(self, labels: Tensor) -> Tensor:
        """Numbers ``[n, D]`` as the learner knows them, and as precise as it is; classes as they are."""
        units = self.chosen_.units if labels.is_floating_point() else None
        return labels if units is None else ((labels - units[0]) / units[1]).to(self._dtype())

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """``[n, W]`` logits or ``[n, D]`` values."""
        inputs = self._read(X)
        return self._said(self.state_, inputs, self.target_)

    def _read(self, X: Any) -> Inputs:
        """Examples as the learner reads them, ``[n, ...]``."""
        self._check_fitted()
        return self.reader_.read(self._checked(X, None, first=False)[0])

    def _said(self, state: Any, inputs: Inputs, target: Target) -> NDArray[np.float64]:
        learner, found = self.chosen_.learner, []
        given = self._on_device(inputs)
        with evaluating(learner), torch.no_grad():
            for first in range(0, first_leaf(given).shape[1], _AT_ONCE):
                query = Examples(map_leaves(_columns(first, first + _AT_ONCE), given), None, target)
                found.append(learner.predict(state, query, key=_keys().fold("predict"))[0].cpu().double())
        return torch.cat(found).numpy()

    def _answer_of(self, support: Inputs, labels: Tensor, query: Inputs) -> NDArray[np.float64]:
        """What the learner says of ``query`` when it is shown ``support`` alone; what it was taught stays."""
        learner = self.chosen_.learner
        shown = Examples(self._on_device(support), labels[None].to(self._device()), self.target_)
        with evaluating(learner), torch.no_grad():
            state = learner.adapt(shown, key=_keys())
        return self._said(state, query, self.target_)

    def _embedded(self, inputs: Inputs) -> Tensor:
        """Features ``[n, D]`` on the CPU; numbers of rows in deviations of the labelled ones."""
        learner = self.chosen_.learner
        with evaluating(learner), torch.no_grad():
            out = embedded(learner, Examples(self._on_device(inputs), None, self.target_)).cpu()
        if self.scale_ is None or has_features(learner) or self.chosen_.made is not None:
            return out
        mean, deviation = self.scale_
        return (out.double() - mean) / deviation

    def _checked(self, X: Any, y: Any, *, first: bool) -> tuple[Any, Any]:
        """Examples, of the kind that was learned unless they are the first, and as many labels.

        Raises:
            InputError: they are of another kind, or there are none, or not as many labels.
            ValueError: as scikit-learn says it, of rows.
        """
        kind = kind_of(X, self.rate)
        y = None if y is None else plain_labels(y)
        if not first and kind != self.kind_:
            raise InputError(f"Cannot use {kind}: this {type(self).__name__} learned {self.kind_}.{alone(X)}")
        self.kind_ = kind
        refuse_none(X)
        if kind == "rows":
            X, y, done = self._checked_rows(X, y, first)
            if done:
                return X, y
        if hasattr(X, "iloc"):  # a column of texts or of paths, by place and not by its index
            X = list(X)
        if kind == "texts" and first:
            refuse_names_of_files(X)
        if y is not None and len(y) != len(X):
            raise InputError(f"There are {len(X)} examples and {len(y)} labels. Give each example its label.")
        return X, y

    def _checked_rows(self, X: Any, y: Any, first: bool) -> tuple[Any, Any, bool]:
        """Rows and labels, and whether scikit-learn has looked at both."""
        refuse_ragged(X, type(self).__name__)
        known = y is not None and as_scikit_learn_knows(y)
        words = None if first or not isinstance(self.reader_, TableReader) else self.reader_.is_words
        table = table_of(X) if first else None if words is None else table_of(X, words)
        if table is not None:
            if first:  # later ones are found by the names of their columns
                validate_data(self, X, skip_check_array=True)
            return table, check_array(y, ensure_2d=False, dtype=None, input_name="y") if known else y, False
        options: dict[str, Any] = {"dtype": np.float64, "reset": first}
        if known:
            return *validate_data(self, X, y, multi_output=True, **options), True
        return validate_data(self, X, **options), y, False

    def _on_device(self, inputs: Inputs) -> Inputs:
        """``[n, ...]`` to ``[1, n, ...]``, floating parts as the learner computes."""
        dtype = self._dtype()
        if self.scale_ is not None and self.chosen_.made is not None and isinstance(inputs, Tensor):
            # A plain learner takes columns as they are: one in grams would outweigh one in tonnes.
            mean, deviation = self.scale_
            inputs = (inputs.double() - mean) / deviation

        def moved(leaf: Tensor) -> Tensor:
            leaf = leaf[None].to(self._device())
            return leaf.to(dtype) if leaf.is_floating_point() else leaf

        return map_leaves(moved, inputs)

    def _dtype(self) -> torch.dtype:
        of_learner = (parameter.dtype for parameter in self.chosen_.learner.parameters())
        return next((found for found in of_learner if found.is_floating_point), torch.float64)

    def _device(self) -> torch.device:
        return device_of(self.device)

    def _check_fitted(self) -> None:
        if not hasattr(self, "state_"):
            raise NotFittedError(
                f"This {type(self).__name__} has not learned anything yet. Call fit(X, y) with labelled examples first."
            )


def place_learner(chosen: Chosen, kind: Kind, device: str) -> AbstractLearner:
    """The learner on its device; of rows in float64, so that an answer does not depend on the rows beside it.

    In float32 it does in the eighth digit, by the order in which products of matrices are added up, and scikit-learn
    asks for more. A network for rows is small.
    """
    learner = chosen.learner.to(device_of(device))
    return learner.double() if kind == "rows" else learner


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        InputError: it is not here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:  # as torch says it, by what it was compiled with
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"Cannot compute on the device {name!r} here: {said}. Take 'cpu'.") from error


def _plain(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def _keys() -> Keys:
    return Keys(Key.of(0, "estimator"), np.zeros(1, dtype=np.int64))


def _columns(first: int, last: int) -> Callable[[Tensor], Tensor]:
    return lambda leaf: leaf[:, first:last]
