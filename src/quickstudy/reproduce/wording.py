"""Floor 6: claims and verdicts in words, for the terminal and for pages alike."""

from __future__ import annotations

from collections.abc import Sequence

from quickstudy.metrics import metric
from quickstudy.reproduce.published import Claim, Published, Rerun
from quickstudy.reproduce.record import Record
from quickstudy.reproduce.verdict import ALLOWANCE, LEAST_SEEDS, RELATIVE, Verdict

__all__ = ["curve_line", "ours", "printed", "reruns", "rule", "sentence", "steps_of"]


def _number(value: float, name: str, *, sign: bool = False) -> str:
    """One digit more than elsewhere: published figures have two."""
    known = metric(name)
    if value != value or abs(value) == float("inf"):
        return "undefined" if value != value else "∞"
    scaled, digits = (100 * value, 2) if known.percent else (value, known.digits)
    text = f"{abs(scaled):.{digits}f}"
    return ("−" if scaled < 0 and float(text) else "+" if sign else "") + text


def _unit(name: str) -> str:
    return " %" if metric(name).percent else ""


def printed(figure: Published | Rerun | None, claim: Claim) -> str:
    """A figure as its paper prints it."""
    if figure is None:
        return "none verified"
    interval = "" if figure.ci95 is None else f" ± {_as_printed(figure.ci95, claim)}"
    return f"{_as_printed(figure.mean, claim)}{interval}{_unit(claim.metric)}"


def _as_printed(value: float, claim: Claim) -> str:
    """With all digits that it has, and at least those that papers print."""
    least = 1 if metric(claim.metric).percent else 2
    return max(f"{value:.{least}f}", f"{value:.6g}", key=len)


def reruns(claim: Claim) -> str:
    """The band of independent re-runs, or the only one; empty where there is none."""
    if claim.band is not None:
        low, high = (one * claim.unit for one in claim.band)
        return f"{_as_printed(low, claim)} to {_as_printed(high, claim)}{_unit(claim.metric)}"
    return printed(claim.reruns[0], claim) if claim.reruns else ""


def ours(verdict: Verdict, claim: Claim, records: Sequence[Record] = ()) -> str:
    """The mean over seeds, with the interval over them (of one seed over its episodes); empty where nothing was run."""
    if verdict.mean is None:
        return ""
    n, half, of = len(verdict.seeds), verdict.ci95, ""
    if n == 1:
        half = next((record.result.ci95 for record in records if record.about.seed in verdict.seeds), None)
        of = " over episodes"
    interval = "" if half is None else f" ± {_number(half, claim.metric)}"
    unit = _unit(claim.metric)
    return f"{_number(verdict.mean, claim.metric)}{interval}{unit}{of * bool(interval)} ({n} seed{'s' * (n != 1)})"


def steps_of(record: Record) -> str:
    """How far a training came."""
    return f"{record.about.step:,} of {record.about.steps:,} steps" if record.about.steps else "nothing to train"


def rule(claim: Claim) -> str:
    """How the verdict is found, in a sentence."""
    allowance = f"{100 * ALLOWANCE:g} points" if metric(claim.metric).percent else f"{100 * RELATIVE:g} % of the figure"
    exact = claim.published is not None and claim.published.ci95 is None
    paper = " (the paper prints no interval, so that its standard error counts as 0)" if exact else ""
    return (
        f"Reproduced: at most 1.96 standard errors of both and {allowance} apart{paper}, or within the band of "
        f"independent re-runs; over at least {LEAST_SEEDS} finished seeds."
    )


def sentence(verdict: Verdict, claim: Claim, records: Sequence[Record] = ()) -> str:
    """The verdict with its reason, and the seeds that are not in it as they were cut short or diverged."""
    if verdict.kind == "not run":
        return "not run"
    said = _said(verdict, claim)
    cut = [
        f"seed {record.about.seed} {'diverged ' * record.about.diverged}after {steps_of(record)}"
        for record in records
        if not record.figure.finished
    ]
    return f"{said}; cut: {', '.join(cut)}" if cut else said


def _said(verdict: Verdict, claim: Claim) -> str:
    apart = _apart(verdict, claim)
    if verdict.kind == "reproduced":
        return f"reproduced: {apart}" + ("; within the band of re-runs" if verdict.in_band else "")
    if verdict.kind in ("above", "below"):
        return f"{verdict.kind} ({'better' if verdict.better else 'worse'}): {apart}"
    said: str = verdict.kind
    if verdict.kind == "too few seeds":
        said += f": {len(verdict.seeds)} of at least {LEAST_SEEDS}; so far {apart}"
    if verdict.kind in ("budget-limited", "diverged") and apart:
        said += f": so far {apart}"
    return said


def _apart(verdict: Verdict, claim: Claim) -> str:
    if verdict.difference is None or verdict.allowed is None:
        return ""
    percent = metric(claim.metric).percent
    unit = " points" if percent else ""
    difference = _number(verdict.difference, claim.metric, sign=True)
    return f"{difference}{unit} from the paper, {_number(verdict.allowed, claim.metric)} allowed"


def curve_line(record: Record, points: int = 6) -> str:
    """A learning curve in a line, thinned; empty of what was not trained."""
    curve = record.about.curve
    if curve is None:
        return ""
    every = max(1, -(-len(curve.points) // points))
    shown = [*curve.points[::every]]
    if shown[-1] != curve.points[-1]:
        shown.append(curve.points[-1])
    known = curve.metric != "loss"
    values = [
        f"{step:,}: {_number(float(value), curve.metric) if known else f'{float(value):.3g}'}" for step, value in shown
    ]
    return f"{curve.metric}{_unit(curve.metric) if known else ''} of {curve.of}, by step: {'; '.join(values)}"
