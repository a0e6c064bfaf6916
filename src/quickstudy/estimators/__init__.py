"""Floor 6: scikit-learn estimators.

FewShotClassifier().fit(X, y).predict(new)      a class from a few examples of each
FewShotRegressor().fit(X, y).predict(new)       a number from a few examples
model.save("task"); load_task("task")           what was learned, in a folder
MetaLearner().meta_fit(tasks).adapt(X, y)       trained on one's own tasks first
"""

from __future__ import annotations

from pathlib import Path

from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.estimators.meta import MetaLearner
from quickstudy.estimators.regressor import FewShotRegressor
from quickstudy.estimators.savedtask import read_task

__all__ = ["FewShotClassifier", "FewShotRegressor", "MetaLearner", "load_task"]


def load_task(folder: str | Path, *, device: str = "cpu") -> AbstractFewShot:
    """The estimator that was saved to a folder.

    Raises:
        InputError: no task is there.
        CheckpointError: a file is missing, cut off or was changed.
    """
    known = {cls.__name__: cls for cls in (FewShotClassifier, FewShotRegressor)}
    return read_task(Path(folder), known, device)
