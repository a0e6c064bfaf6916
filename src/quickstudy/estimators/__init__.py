"""Floor 6: scikit-learn estimators."""

from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.regressor import FewShotRegressor

__all__ = ["FewShotClassifier", "FewShotRegressor"]
