"""Floor 2: problems with an exact solution, solved for every task at once and differentiable, first and second order.

    ridge       least squares with a penalty, through whichever of the two systems is smaller
    logistic    multinomial logistic regression at its optimum
    irls        one logistic regression a column, a fixed number of Newton steps
    svm         the dual of Crammer and Singer's multiclass support vector machine
    gp_*        Gaussian process regression: posterior and log marginal likelihood

Each takes ``[T, ...]`` tensors and a mask; rows where it is False have no weight, whatever stands in them. The systems
are small and may be close to singular, so all of them are solved in float64; results come back in the dtype of ``x``.
"""

from quickstudy.inner.solvers.gp import GaussianProcess, gp_fit, gp_log_marginal, gp_predict
from quickstudy.inner.solvers.logistic import irls, logistic
from quickstudy.inner.solvers.ridge import Form, ridge
from quickstudy.inner.solvers.svm import svm

__all__ = [
    "Form",
    "GaussianProcess",
    "gp_fit",
    "gp_log_marginal",
    "gp_predict",
    "irls",
    "logistic",
    "ridge",
    "svm",
]
