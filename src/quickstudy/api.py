"""Floor 6: what users call: ``quickstudy.train``, ``.evaluate``, ``.load`` and ``.doctor``.

    recipe -> train -> runs/<recipe>-s<seed>-<NNN>/ -> evaluate -> evaluations/<id>.json, report.html
                                                    -> load     -> a learner to adapt and predict with

Training stands in ``training.py``, testing and loading in ``testing.py``, the self-test in the room ``doctor``.
"""

from quickstudy.doctor.examine import doctor
from quickstudy.testing import evaluate, load
from quickstudy.training import Run, train

__all__ = ["Run", "doctor", "evaluate", "load", "train"]
