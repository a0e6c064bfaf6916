"""Floor 4: how figures are said, in the terminal and in the report alike."""

from __future__ import annotations

import math

from quickstudy.evaluate.comparison import Cell, cell_name
from quickstudy.evaluate.paired import Paired
from quickstudy.evaluate.result import Result
from quickstudy.metrics import metric

__all__ = ["count", "data_name", "figure", "marks", "metric_name", "number", "sentence", "verdict", "wider"]


def metric_name(name: str) -> str:
    """What the figures of a table are.

    >>> metric_name("accuracy"), metric_name("mse")
    ('accuracy in %', 'mean squared error')
    """
    known = metric(name)
    return f"{known.title} in %" if known.percent else known.title


def number(value: float, name: str, *, sign: bool = False) -> str:
    """A fraction in percent with one decimal, any other figure with as many digits as suit its metric, mostly three.

    >>> number(0.7971, "accuracy"), number(0.3512, "mse", sign=True), number(-33.621, "return")
    ('79.7', '+0.351', '−33.6')
    """
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return ("−" if value < 0 else "+" if sign else "") + "∞"
    percent = metric(name).percent
    scaled, digits = (100 * value, 1) if percent else (value, metric(name).digits)
    text = f"{abs(scaled):.{digits}f}"
    if abs(scaled) >= 1e5 or (not percent and float(text) == 0 != scaled):
        text = f"{abs(scaled):.1e}"
    negative = scaled < 0 and float(text) != 0
    return ("−" if negative else "+" if sign else "") + text


def figure(result: Result) -> str:
    """Mean and interval, as in "79.7 ± 0.8"."""
    return f"{number(result.mean, result.metric)} ± {number(result.ci95, result.metric)}"


def count(many: int) -> str:
    """A whole number with its thousands apart.

    >>> count(4000)
    '4,000'
    """
    return f"{many:,}"


def data_name(result: Result) -> str:
    """The data set; of one that is made of several with those that were drawn from: "meta-dataset (omniglot)"."""
    parts = result.source.get("data-sets")
    return f"{result.data} ({', '.join(map(str, parts))})" if isinstance(parts, list | tuple) else result.data


def marks(result: Result) -> tuple[str, ...]:
    """What must stand beside a figure so that it is not misread."""
    said = []
    if result.transductive:
        said.append("transductive")
    if result.balanced_prior:
        said.append("balanced prior")
    if result.diverged:
        said.append(f"{count(result.diverged)} of {count(result.episodes)} diverged")
        said.append(f"median {number(result.median, result.metric)}")
        if result.mean_converged is not None and result.ci95_converged is not None:
            rest = f"{number(result.mean_converged, result.metric)} ± {number(result.ci95_converged, result.metric)}"
            said.append(f"{rest} without those")
    return tuple(said)


def sentence(result: Result) -> str:
    """The figure with both intervals, and what must stand beside it."""
    unit = " %" if metric(result.metric).percent else ""
    said = [f"{result.metric} {figure(result)}{unit} over {count(result.episodes)} episodes"]
    said += wider(result)
    for name, other in result.others.items():
        unit = " %" if metric(name).percent else ""
        said.append(f"{name} {number(other.mean, name)} ± {number(other.ci95, name)}{unit}")
        said[-1] += "".join(f", {one}" for one in wider(result, name))
    said += [f"{result.learner} on {data_name(result)}, {result.split}, {cell_name(result)}", *marks(result)]
    return "; ".join(said)


def wider(result: Result, name: str | None = None) -> tuple[str, ...]:
    """The intervals that know that tasks share what they are made of, such as "± 1.2 % over classes".

    Args:
        result: of a test.
        name: of another of its figures; None: the main one.
    """
    shown, of = name or result.metric, result if name is None else result.others[name]
    unit = " %" if metric(shown).percent else ""
    # Tasks made of users or patients are numbered like classes.
    what = "groups" if result.way is None or "groups" in result.source else "classes"
    each = ((what, of.ci95_classes), ("rows", of.ci95_rows))
    return tuple(f"± {number(half, shown)}{unit} over {what}" for what, half in each if half is not None)


def verdict(cell: Cell) -> str:
    """How a learner's cell stands to the best baseline, in words; empty where it is compared with nothing."""
    versus, name = cell.versus, cell.result.metric
    if versus is None:
        return ""
    interval = f"{number(abs(versus.difference), name)} ± {number(versus.ci95, name)}"
    if cell.beats_baseline:
        said = f"beats {cell.baseline} by {interval}"
    elif versus.excludes_zero:
        said = f"does not beat {cell.baseline}: worse by {interval}"
    else:
        said = f"does not clearly beat {cell.baseline}: {_unclear(versus, name)}"
    return said if versus.episodes == cell.result.episodes else f"{said} (first {count(versus.episodes)} episodes)"


def _unclear(versus: Paired, name: str) -> str:
    if math.isnan(versus.difference):
        return f"infinite errors; better in {versus.a_better}, worse in {versus.b_better} of {versus.episodes} episodes"
    return f"{number(versus.difference, name, sign=True)} ± {number(versus.ci95, name)} includes 0"
