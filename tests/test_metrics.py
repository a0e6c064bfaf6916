"""Metrics by name."""

import pytest

from quickstudy.errors import UnknownName
from quickstudy.evaluate.wording import metric_name, number
from quickstudy.metrics import METRICS, metric


def test_names_are_keys() -> None:
    assert all(known.name == name for name, known in METRICS.items())


@pytest.mark.parametrize(("name", "title"), [("ndcg@10", "nDCG of the first 10"), ("mae", "mean absolute error")])
def test_titles(name: str, title: str) -> None:
    assert metric(name).title == title and metric(name).name == name


@pytest.mark.parametrize("name", ["acuracy", "ndcg@ten", "@5", ""])
def test_unknown_ones_are_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="There is no metric called"):
        metric(name)


def test_fractions_are_said_in_percent() -> None:
    assert metric_name("recall@5") == "recall of the first 5 in %" and number(0.25, "recall@5") == "25.0"
    assert metric_name("qlike") == "QLIKE" and number(0.25, "qlike") == "0.250"
