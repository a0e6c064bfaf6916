"""Floor 6: what a sweep says: its space, each trial as it ends, how many ended how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quickstudy.evaluate.wording import number
from quickstudy.metrics import metric
from quickstudy.sweeps.space import Dimension
from quickstudy.sweeps.study import Trial
from quickstudy.sweeps.trial import Reached

__all__ = ["counts", "figure_of", "said_of", "space_table", "values_of"]


def space_table(space: Sequence[Dimension]) -> str:
    """A line for each key, with its range."""
    longest = max(len(one.key) for one in space)
    return "\n".join(f"  {one.key.ljust(longest)}  {one}" for one in space)


def figure_of(value: float | None, measured: str) -> str:
    """A validation figure with its unit; "none" where there is none."""
    if value is None:
        return "none"
    return f"{number(value, measured)}{' %' if metric(measured).percent else ''}"


def values_of(values: Mapping[str, Any]) -> str:
    """``inner-lr 0.0213, inner-steps 4``: the last parts of the keys will do."""
    return ", ".join(f"{key.rpartition('.')[2]} {shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A value with as many digits as one reads."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def said_of(trial: int, reached: Reached, measured: str, *, best: bool) -> str:
    """How a trial ended, in a line."""
    if reached.outcome == "finished":
        return f"trial {trial}: {measured} {figure_of(reached.value, measured)}{' (best so far)' if best else ''}"
    return f"trial {trial}: {reached.outcome}, {reached.why}"


def counts(trials: Sequence[Trial]) -> str:
    """``18 finished, 2 diverged``."""
    found = Counter(trial.outcome or "unfinished" for trial in trials)
    return ", ".join(f"{many} {outcome}" for outcome, many in found.most_common())
