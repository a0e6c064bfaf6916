"""quickstudy: meta-learning in PyTorch.

    quickstudy.train("omniglot-protonet-fast")     meta-train a learner from a recipe
    quickstudy.evaluate(run, way=20, shot=1)       meta-test it on classes that it has never seen
    quickstudy.load(run)                           the learner itself: adapt(support), predict(state, query)
    quickstudy.doctor(learner, source)             is it right? a table of checks, each with what to do
    quickstudy.FewShotClassifier().fit(X, y)       an estimator of scikit-learn, from a few examples
    quickstudy.MetaLearner().meta_fit(tasks)       meta-train on arrays or a DataFrame of one's own
    quickstudy.load_task(folder)                   one that was saved
    quickstudy.keep_large_blocks()                 faster on Linux, for the whole process; the command line does it

The rest stands in ``quickstudy.learners``, ``.inner``, ``.nets``, ``.data``, ``.train``, ``.evaluate`` and
``.recipes``. Importing this package imports neither torch nor any of those: each comes with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quickstudy.allocator import keep_large_blocks
    from quickstudy.api import evaluate, load, train
    from quickstudy.doctor.suite import Doctor
    from quickstudy.episode import Episode, Examples
    from quickstudy.errors import QuickstudyError
    from quickstudy.estimators import FewShotClassifier, FewShotRegressor, MetaLearner, load_task
    from quickstudy.saved import SavedLearner

    doctor: Doctor

__version__ = "0.1.0"
__all__ = [
    "Episode",
    "Examples",
    "FewShotClassifier",
    "FewShotRegressor",
    "MetaLearner",
    "QuickstudyError",
    "SavedLearner",
    "doctor",
    "evaluate",
    "keep_large_blocks",
    "load",
    "load_task",
    "train",
]

# Where each public name stands. `doctor`, `evaluate` and `train` are packages that can be called: callable_module.py.
_HOME = {
    "Episode": "quickstudy.episode",
    "Examples": "quickstudy.episode",
    "FewShotClassifier": "quickstudy.estimators",
    "FewShotRegressor": "quickstudy.estimators",
    "MetaLearner": "quickstudy.estimators",
    "QuickstudyError": "quickstudy.errors",
    "SavedLearner": "quickstudy.saved",
    "doctor": "quickstudy",
    "evaluate": "quickstudy",
    "keep_large_blocks": "quickstudy.allocator",
    "load": "quickstudy.api",
    "load_task": "quickstudy.estimators",
    "train": "quickstudy",
}
_ROOMS = ("data", "inner", "learners", "nets", "recipes")


def __getattr__(name: str) -> object:
    """A public name or a room, imported when it is first asked for (PEP 562)."""
    home = _HOME.get(name)
    if name in _ROOMS or home == "quickstudy":
        return importlib.import_module(f"quickstudy.{name}")
    if home is None:
        raise AttributeError(f"module 'quickstudy' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
