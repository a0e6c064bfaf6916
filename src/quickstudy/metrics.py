"""Floor 0: figures of merit by name: which way is better, and how they are called."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quickstudy.errors import UnknownName

__all__ = ["METRICS", "Metric", "metric"]


@dataclass(frozen=True)
class Metric:
    """A figure that a task has.

    Args:
        name: in results and files, such as ``"mse"``; ``"ndcg@10"`` is the metric ``"ndcg"`` of the first ten.
        title: what people read.
        smaller_is_better: it is an error.
        percent: it is a fraction, shown in percent.
        at: what a number behind ``@`` means.
        digits: behind the point, where it is not in percent.
    """

    name: str
    title: str
    smaller_is_better: bool = False
    percent: bool = False
    at: str = "of the first {}"
    digits: int = 3


METRICS: dict[str, Metric] = {
    known.name: known
    for known in (
        Metric("accuracy", "accuracy", percent=True),
        Metric("balanced-accuracy", "balanced accuracy", percent=True),
        Metric("direction", "accuracy of the direction", percent=True),
        Metric("auroc", "area under the ROC curve"),
        Metric("sensitivity", "sensitivity", percent=True),
        Metric("mse", "mean squared error", smaller_is_better=True),
        Metric("rmse", "root-mean-square error", smaller_is_better=True),
        Metric("mae", "mean absolute error", smaller_is_better=True),
        Metric("mae-unseen", "mean absolute error on items never seen in training", smaller_is_better=True),
        Metric("nll", "negative log-likelihood", smaller_is_better=True),
        Metric("brier", "Brier score", smaller_is_better=True),
        Metric("ece", "expected calibration error", smaller_is_better=True, percent=True),
        Metric("qlike", "QLIKE", smaller_is_better=True),
        Metric("variance-mse", "squared error of the variance, %^4 a day", smaller_is_better=True),
        Metric("ndcg", "nDCG"),
        Metric("recall", "recall", percent=True),
        Metric("return", "return", at="after {} steps of adaptation", digits=1),
        Metric("env-steps", "environment steps of adaptation", smaller_is_better=True, digits=0),
    )
}
"""Those that are known, without a number of first answers behind ``@``."""


def metric(name: str) -> Metric:
    """What is known of a metric.

    Raises:
        UnknownName: there is none of this name.

    >>> metric("mae").smaller_is_better, metric("ndcg@10").title
    (True, 'nDCG of the first 10')
    """
    base, _, first = name.partition("@")
    if base not in METRICS or (first and not first.isdigit()):
        raise UnknownName.among("metric", name, METRICS)
    known = METRICS[base]
    return replace(known, name=name, title=f"{known.title} {known.at.format(first)}") if first else known
