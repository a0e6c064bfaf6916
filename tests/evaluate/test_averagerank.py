"""Ranks as the leaderboards of Meta-Dataset report them, against those that its notebook prints."""

import pytest

from quickstudy.errors import InputError
from quickstudy.evaluate.averagerank import average_ranks, ranks

# Leaderboard.ipynb of google-research/meta-dataset, trained on ImageNet only: mean, 95 % interval and rank, as printed.
PRINTED: dict[str, dict[str, tuple[float, float, float]]] = {
    "Fungi": {
        "ALFA+fo-Proto-MAML": (41.49, 1.17, 3.5),
        "BOHB": (41.38, 1.12, 3.5),
        "CTX": (51.58, 1.11, 1.0),
        "Finetune": (38.2, 1.02, 7.0),
        "MatchingNet": (33.97, 1.0, 9.0),
        "ProtoNet": (39.71, 1.11, 6.0),
        "ProtoNet (large)": (40.73, 1.15, 3.5),
        "RelationNet": (30.55, 1.04, 11.0),
        "fo-MAML": (32.1, 1.1, 10.0),
        "fo-Proto-MAML": (39.96, 1.14, 3.5),
        "k-NN": (36.16, 1.02, 8.0),
    },
    "VGG Flower": {
        "ALFA+fo-Proto-MAML": (85.96, 0.77, 6.0),
        "BOHB": (87.34, 0.59, 3.0),
        "CTX": (95.34, 0.37, 1.0),
        "Finetune": (85.51, 0.68, 6.0),
        "MatchingNet": (80.13, 0.71, 10.0),
        "ProtoNet": (85.27, 0.77, 6.0),
        "ProtoNet (large)": (86.96, 0.73, 3.0),
        "RelationNet": (68.76, 0.83, 11.0),
        "fo-MAML": (81.74, 0.83, 9.0),
        "fo-Proto-MAML": (87.15, 0.69, 3.0),
        "k-NN": (83.1, 0.68, 8.0),
    },
    "Traffic signs": {
        "ALFA+fo-Proto-MAML": (60.78, 1.29, 3.0),
        "BOHB": (51.8, 1.04, 5.5),
        "CTX": (82.65, 0.76, 1.0),
        "Finetune": (66.79, 1.31, 2.0),
        "MatchingNet": (47.8, 1.14, 7.5),
        "ProtoNet": (47.12, 1.1, 9.0),
        "ProtoNet (large)": (58.11, 1.05, 4.0),
        "RelationNet": (33.67, 1.05, 11.0),
        "fo-MAML": (50.93, 1.51, 5.5),
        "fo-Proto-MAML": (48.83, 1.09, 7.5),
        "k-NN": (44.59, 1.19, 10.0),
    },
    "MSCOCO": {
        "ALFA+fo-Proto-MAML": (48.11, 1.14, 2.5),
        "BOHB": (48.03, 0.99, 2.5),
        "CTX": (59.9, 1.02, 1.0),
        "Finetune": (34.86, 0.97, 8.0),
        "MatchingNet": (34.99, 1.0, 8.0),
        "ProtoNet": (41.0, 1.1, 5.5),
        "ProtoNet (large)": (41.7, 1.08, 5.5),
        "RelationNet": (29.15, 1.01, 10.5),
        "fo-MAML": (35.3, 1.23, 8.0),
        "fo-Proto-MAML": (43.74, 1.12, 4.0),
        "k-NN": (30.38, 0.99, 10.5),
    },
}


@pytest.mark.parametrize("data", PRINTED)
def test_the_printed_ranks(data: str) -> None:
    rows = PRINTED[data]
    found = ranks({name: (mean, interval) for name, (mean, interval, _) in rows.items()})
    assert found == {name: rank for name, (_, _, rank) in rows.items()}
    assert list(found) == list(rows)


def test_the_average() -> None:
    learners = next(iter(PRINTED.values()))
    table = {name: {data: rows[name][:2] for data, rows in PRINTED.items()} for name in learners}
    found = average_ranks(table)
    assert found["CTX"] == 1.0 and found["k-NN"] == pytest.approx((8 + 8 + 10 + 10.5) / 4)
    assert sum(found.values()) == pytest.approx(66)


def test_ties_are_with_the_best_alone() -> None:
    found = ranks({"low": (78.2, 1.0), "middle": (79.0, 1.0), "high": (80.0, 1.0)})
    assert found == {"low": 3.0, "middle": 1.5, "high": 1.5}
    assert ranks({"a": (0.5, 0.0), "b": (0.5, 0.0), "c": (0.4, 0.0)}) == {"a": 1.5, "b": 1.5, "c": 3.0}
    assert ranks({}) == {}


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(InputError, match=r"Cannot rank a: its figure nan ± 1.0 is not a mean with an interval"):
        ranks({"a": (float("nan"), 1.0)})
    with pytest.raises(InputError, match=r"Cannot rank b: its figure 1.0 ± -1.0"):
        ranks({"a": (1.0, 1.0), "b": (1.0, -1.0)})
    with pytest.raises(InputError, match=r"Cannot average the ranks of b: it has no figure on birds. Measure it there"):
        average_ranks({"a": {"fungi": (1.0, 0.1), "birds": (1.0, 0.1)}, "b": {"fungi": (1.0, 0.1)}})
