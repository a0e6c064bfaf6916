"""Floor 6: what users call: ``quickstudy.train``, ``quickstudy.evaluate``, ``quickstudy.load``.

    recipe -> train -> runs/<recipe>-s<seed>-<NNN>/ -> evaluate -> evaluations/<id>.json, report.html
                                                    -> load     -> a learner to adapt and predict with

Training stands in ``training.py``, testing and loading in ``testing.py``.
"""

from quickstudy.testing import evaluate, load
from quickstudy.training import Run, train

__all__ = ["Run", "evaluate", "load", "train"]
