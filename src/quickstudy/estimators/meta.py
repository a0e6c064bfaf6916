"""Floor 6: meta-training from arrays in memory, with no file and no recipe of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr

from quickstudy.errors import InputError
from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.fewshot import device_of
from quickstudy.estimators.gathering import Meaning, gather, kind_in, meaning_of
from quickstudy.estimators.metarecipe import check_trainable, recipe_for
from quickstudy.estimators.metatasks import MetaTasks, prepare
from quickstudy.estimators.regressor import FewShotRegressor
from quickstudy.estimators.showing import paragraph
from quickstudy.evaluate import Result, meta_test
from quickstudy.learners.learner import AbstractLearner
from quickstudy.progress import TrainingProgress
from quickstudy.recipes import recipe_hash
from quickstudy.recipes.building import Built, build_learner
from quickstudy.recipes.fitting import fit_built
from quickstudy.saved import SavedLearner

__all__ = ["MetaLearner"]


class MetaLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Meta-trains a learner on tasks that are arrays or groups of a table's rows; then it learns a new one from a few.

    A task is some labelled examples. Its labels are its own: what ``"a"`` is in one it need not be in another. In
    training each task is divided again and again into a support, from which the learner adapts, and a query, by which
    it is judged. A share of the tasks is set aside before anything is measured; on those alone ``result_`` is measured,
    and nothing is chosen by it.

    Args:
        learner: of ``quickstudy list learners``; ``"auto"``: ``"protonet"`` for classes, ``"acnp"`` for numbers.
        net: of ``quickstudy list nets``; ``"auto"``: an MLP for rows and arrays, Conv-4 for pictures, Conv-4 on
            spectrograms for sounds; where the learner wants one.
        target: what labels are, ``"classes"`` or ``"real"``; ``"auto"``: floating numbers that are not all whole are
            real, all else are classes.
        way: classes an episode, a number or a range (low, high); None: all that a task has.
        shot: support examples, a class or in all of numbers; None: from 1 to half of what a usual task has, at most 5
            a class, or 20.
        query: query examples, at most, likewise.
        steps: of meta-training.
        tasks_per_step: tasks whose losses are averaged in one.
        lr: the learning rate at first; it falls along a cosine.
        learner_options: of the learner, such as ``{"inner_lr": 0.1}``.
        net_options: of the network, such as ``{"hidden": [64, 64]}``.
        size: pixels along a side, to which pictures are brought; None: their own, if it is 28 to 84, else the nearest.
        rate: samples a second, where examples are waveforms.
        validation: the share of tasks that are set aside; 0: none.
        episodes: of the validation.
        seed: of everything that is random.
        device: where it computes; no GPU is taken unless it is named here.
        progress: show progress on stderr.

    Attributes:
        learner_: trained, in eval mode, on the CPU.
        saved_: the same with all that is needed elsewhere.
        result_: what it was worth on tasks set aside; None where there are none.
        tasks_: names of the tasks that were trained on, and of those set aside (``"train"``, ``"validation"``).
        left_out_: names of tasks that are too small, and why.
        kind_: of the examples: ``"rows"``, ``"pictures"``, ``"sounds"`` or ``"arrays"``.
        target_: ``"classes"`` or ``"real"``.
        columns_: what a table's columns are called.

    >>> import numpy as np
    >>> draw = np.random.default_rng(0)
    >>> tasks = [(draw.normal(size=(20, 3)), np.arange(20) % 2) for _ in range(5)]
    >>> meta = MetaLearner(steps=2, episodes=2).meta_fit(tasks)
    >>> X, y = tasks[0]
    >>> meta.adapt(X[:6], y[:6]).predict(X[6:]).shape
    (14,)
    """

    def __init__(
        self,
        learner: str = "auto",
        *,
        net: str | None = "auto",
        target: str = "auto",
        way: int | Sequence[int] | None = None,
        shot: int | Sequence[int] | None = None,
        query: int = 10,
        steps: int = 1000,
        tasks_per_step: int = 8,
        lr: float = 1e-3,
        learner_options: Mapping[str, Any] | None = None,
        net_options: Mapping[str, Any] | None = None,
        size: int | None = None,
        rate: int | None = None,
        validation: float = 0.2,
        episodes: int = 200,
        seed: int = 0,
        device: str = "cpu",
        progress: bool = False,
    ) -> None:
        self.learner = learner
        self.net = net
        self.target = target
        self.way = way
        self.shot = shot
        self.query = query
        self.steps = steps
        self.tasks_per_step = tasks_per_step
        self.lr = lr
        self.learner_options = learner_options
        self.net_options = net_options
        self.size = size
        self.rate = rate
        self.validation = validation
        self.episodes = episodes
        self.seed = seed
        self.device = device
        self.progress = progress

    saved_: SavedLearner
    result_: Result | None
    tasks_: dict[str, list[str]]
    left_out_: dict[str, str]
    kind_: str
    target_: Meaning
    columns_: tuple[str, ...]

    def meta_fit(self, tasks: Any, *, task: str | None = None, target: str | None = None) -> MetaLearner:
        """Train on these tasks, and forget others.

        Args:
            tasks: a list of pairs (X, y), of dicts with the keys ``X`` and ``y`` (and ``name``), a dict name -> pair,
                or a DataFrame. X is ``[n, ...]``, of the same shape in all tasks, n is each task's own.
            task: of a DataFrame, the column that says which task a row belongs to.
            target: likewise, the column of what is to be said; all others are features.

        Raises:
            InputError: tasks that cannot be used, or options that do not fit them.
            RunError: training diverged.
        """
        self._check_numbers()
        given, columns = gather(tasks, task, target)
        kind = kind_in(given, self.rate)
        meaning = meaning_of(given, self.target)
        divided = prepare(self, given, kind, meaning)
        divided.about.columns = columns
        built, result = self._trained(divided)
        self.kind_, self.target_, self.columns_ = kind, meaning, columns
        self.tasks_ = {role: [one.name for one in held] for role, held in divided.about.held.items()}
        self.left_out_, self.result_ = divided.left_out, result
        learner = built.learner.cpu().eval()
        self.saved_ = SavedLearner(learner, built.recipe, built.train.shape, () if result is None else (result,))
        return self

    @property
    def learner_(self) -> AbstractLearner:
        """See the class."""
        self._check_fitted()
        return self.saved_.learner

    def adapt(self, X: Any, y: Any) -> FewShotClassifier | FewShotRegressor:
        """An estimator that has learned a new task from these examples.

        Args:
            X: examples like those of the tasks; of a table, by the same columns in any order.
            y: their labels.
        """
        self._check_fitted()
        cls = FewShotClassifier if self.target_ == "classes" else FewShotRegressor
        found: FewShotClassifier | FewShotRegressor = cls(learner=self.saved_, rate=self.rate, device=self.device)
        return found.fit(self._in_order(X), y)

    def save(self, folder: str | Path) -> None:
        """Write the learner to a folder, from which ``FewShotClassifier(learner=folder)`` takes it, anywhere.

        Raises:
            NotFittedError: nothing was learned yet.
            InputError: the folder holds something else.
            StorageError: the disk refused.
        """
        self._check_fitted()
        self.saved_.save(folder)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The parameters, and of a fitted one what it was trained on and what it is worth."""
        return f"{super().__repr__(N_CHAR_MAX)}{self._told('  # ')}"

    def _repr_html_inner(self) -> str:
        page: str = estimator_html_repr(self)
        return page + (paragraph("Learner", self._told("")) if hasattr(self, "saved_") else "")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        found: dict[str, str] = super()._repr_mimebundle_(**options)
        return found | ({"text/html": self._repr_html_inner()} if "text/html" in found else {})

    def _told(self, before: str) -> str:
        if not hasattr(self, "saved_"):
            return ""
        n, result = len(self.tasks_["train"]), self.result_
        on = f"{self.saved_.recipe.learner.name}, trained on {n:,} {'task' if n == 1 else 'tasks'} of {self.kind_}"
        return f"{before}{on}; " + ("not validated" if result is None else f"tasks set aside: {result}")

    def _check_fitted(self) -> None:
        if not hasattr(self, "saved_"):
            raise NotFittedError("This MetaLearner has not learned anything yet. Call meta_fit(tasks) first.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "saved_")

    def _in_order(self, X: Any) -> Any:
        """Of a table, the columns of the tasks, in their order."""
        if not self.columns_ or not hasattr(X, "iloc") or X.ndim != 2:
            return X
        names = {str(column): column for column in X.columns}
        missing = [column for column in self.columns_ if column not in names]
        if missing:
            raise InputError(f"The table has no column {missing[0]!r}, which the tasks had. Give all of their columns.")
        return X[[names[column] for column in self.columns_]]

    def _check_numbers(self) -> None:
        for name, least in (("steps", 0), ("query", 1), ("tasks_per_step", 1), ("episodes", 2), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, received {value!r}.")
        share = self.validation
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise InputError(f"validation must be a share of the tasks, from 0 to below 1, received {share!r}.")

    def _trained(self, tasks: MetaTasks) -> tuple[Built, Result | None]:
        recipe = recipe_for(self, tasks)
        sizes: dict[str, Any] = {"shot": tasks.shot, "query": int(self.query), "seed": int(self.seed), "way": tasks.way}
        train = tasks.about.tasks("train", **sizes)
        learner = build_learner(recipe, train.shape)
        check_trainable(learner, recipe.learner.name)
        if tasks.meaning == "classes" and tasks.way is None and not learner.traits.any_way:
            sizes["way"] = tasks.fewest_classes  # it has room for one number of classes, which all tasks must have
            train = tasks.about.tasks("train", **sizes)
            learner = build_learner(recipe, train.shape)
        built = Built(recipe, tasks.about, train, None, learner.to(device_of(self.device)))
        fit_built(built, callbacks=[TrainingProgress()] if self.progress else [])
        if not tasks.about.held.get("validation"):
            return built, None
        result = meta_test(learner, tasks.about.tasks("validation", **sizes), episodes=int(self.episodes))
        return built, replace(result, learner=recipe.learner.name, recipe_hash=recipe_hash(recipe))
