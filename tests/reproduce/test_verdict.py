"""When a published figure counts as reproduced."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickstudy.reproduce import SeedFigure, Target, judge

fractions = st.floats(0.01, 1.0)
widths = st.floats(0.0, 0.05)


def seed(number: int, mean: float = 0.95, ci95: float = 0.0, *, step: int = 10) -> SeedFigure:
    return SeedFigure(number, mean, ci95, step, 10)


figures = st.lists(st.tuples(fractions, widths, st.sampled_from([3, 10])), max_size=6).map(
    lambda drawn: [seed(number, mean, ci95, step=step) for number, (mean, ci95, step) in enumerate(drawn)]
)
targets = st.none() | st.builds(
    Target,
    mean=fractions,
    se=st.floats(0.0, 0.02),
    band=st.none() | st.tuples(fractions, fractions).map(lambda two: (min(two), max(two))),
)


def test_within_the_allowance() -> None:
    three = [seed(number) for number in range(3)]
    assert judge(Target(0.9529), three, "accuracy").kind == "reproduced"
    assert judge(Target(0.9531), three, "accuracy").kind == "below"
    assert judge(Target(0.9469), three, "accuracy").kind == "above"


def test_both_standard_errors_count() -> None:
    """Seeds 0.94, 0.95, 0.96: s.d. 0.01, se 0.01/sqrt(3); episodes 0.0196/1.96 = 0.01; the paper 0.01."""
    three = [seed(0, 0.94, 0.0196), seed(1, 0.95, 0.0196), seed(2, 0.96, 0.0196)]
    found = judge(Target(0.90, se=0.01), three, "accuracy")
    assert found.allowed == pytest.approx(1.96 * math.sqrt(0.01**2 / 3 + 0.01**2 + 0.01**2) + 0.003)
    assert found.difference == pytest.approx(0.05) and found.kind == "above" and found.better
    assert found.ci95 == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-5)  # Student's t of 2 degrees


def test_errors_have_a_relative_allowance_and_smaller_is_better() -> None:
    three = [seed(number, 0.60) for number in range(3)]
    assert judge(Target(0.66), three, "mse").kind == "reproduced"
    found = judge(Target(0.67), three, "mse")
    assert found.kind == "below" and found.better and found.allowed == pytest.approx(0.067)
    assert not judge(Target(0.50), three, "mse").better


def test_the_band_of_reruns_is_enough() -> None:
    three = [seed(number) for number in range(3)]
    found = judge(Target(0.99, band=(0.94, 0.96)), three, "accuracy")
    assert found.kind == "reproduced" and found.in_band
    assert judge(Target(0.99, band=(0.96, 0.97)), three, "accuracy").kind == "below"


def test_what_was_cut_does_not_count() -> None:
    three, poor = [seed(number) for number in range(3)], seed(3, 0.2, step=3)
    found = judge(Target(0.95), [*three, poor], "accuracy")
    assert (found.kind, found.seeds, found.cut) == ("reproduced", (0, 1, 2), (3,))
    found = judge(Target(0.95), [*three[:2], poor], "accuracy")
    assert (found.kind, found.seeds, found.cut) == ("budget-limited", (0, 1), (3,))
    assert judge(Target(0.95), three[:2], "accuracy").kind == "too few seeds"
    assert judge(Target(0.95), [], "accuracy").kind == "not run"
    assert judge(None, three, "accuracy").kind == "no published figure verified"


def test_a_training_that_diverged_is_not_called_limited_by_its_budget() -> None:
    lost = replace(seed(2, 0.2, step=10), diverged=True)
    found = judge(Target(0.95), [seed(0), seed(1), lost], "accuracy")
    assert (found.kind, found.seeds, found.cut) == ("diverged", (0, 1), (2,))
    found = judge(Target(0.95), [seed(0), seed(1), seed(3), lost], "accuracy")
    assert (found.kind, found.seeds, found.cut) == ("reproduced", (0, 1, 3), (2,))


def test_a_diverged_seed_is_no_reproduction() -> None:
    figures = [seed(0, math.inf, math.inf), seed(1, 0.6), seed(2, 0.6)]
    found = judge(Target(0.6), figures, "mse")
    assert found.kind == "above" and not found.better and found.ci95 is None


@given(target=targets, figures=figures)
def test_laws(target: Target | None, figures: list[SeedFigure]) -> None:
    found = judge(target, figures, "accuracy")
    finished = [one for one in figures if one.finished]
    if found.kind in ("reproduced", "above", "below"):
        assert target is not None and len(finished) >= 3
        assert found.seeds == tuple(one.seed for one in finished)
    if found.kind == "reproduced":
        assert found.difference is not None and found.allowed is not None
        assert found.in_band or abs(found.difference) <= found.allowed
    if found.kind in ("above", "below"):
        assert found.difference is not None and found.allowed is not None
        assert not found.in_band and abs(found.difference) > found.allowed
        assert (found.difference > 0) == (found.kind == "above")
    if found.kind == "budget-limited":
        assert found.cut
    for order in itertools.islice(itertools.permutations(figures), 5):
        other = judge(target, order, "accuracy")
        assert (other.kind, other.seeds, other.cut) == (found.kind, found.seeds, found.cut)


@given(target=targets.filter(lambda one: one is not None), figures=figures, more=st.floats(0.0, 0.1))
def test_a_wider_interval_of_the_paper_loses_no_reproduction(
    target: Target, figures: list[SeedFigure], more: float
) -> None:
    if judge(target, figures, "accuracy").kind == "reproduced":
        assert judge(replace(target, se=target.se + more), figures, "accuracy").kind == "reproduced"
