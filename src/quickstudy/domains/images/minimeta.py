"""Floor 5: Meta-Dataset's comparison on what is at hand: train on four data sets, test on these and three others."""

from __future__ import annotations

from collections.abc import Sequence

from quickstudy.data.metadataset.mini import MINI
from quickstudy.domains.study import Column, Found, Rival, Study
from quickstudy.evaluate import Section, average_ranks
from quickstudy.learners.knn import KNN

__all__ = ["mini_meta_dataset", "rank_section"]

_CALLED = {
    "omniglot": "Omniglot",
    "glyphs": "glyphs",
    "caltech101": "Caltech-101",
    "arabic-commands": "Arabic commands",
    "mednist": "MedNIST (not trained on)",
    "digits": "scikit-learn's digits (not trained on)",
    "spoken-digits": "spoken digits (not trained on)",
}


def mini_meta_dataset() -> Study:
    """One network for seven data sets, by Meta-Dataset's rules of ways and shots, with average ranks."""
    return Study(
        name="mini-meta-dataset",
        recipe="mini-meta-dataset-protonet-fast",
        plain="mini-meta-dataset-fine-tune-fast",
        also=("mini-meta-dataset-fo-protomaml-fast",),
        rivals=(Rival("pixels + k-NN", lambda shape, training: KNN()),),
        columns=[Column(_CALLED[name], data={"data.test": name}) for name in MINI],
        episodes=50,
        sections=rank_section,
        notes=(
            "Classes that are tested on were not trained on; of the last three data sets none was.",
            "Nothing was published on these tasks: the figures compare learners with each other alone.",
        ),
    )


def rank_section(found: Found) -> Sequence[Section]:
    """The average rank of each row, ties counted as on Meta-Dataset's leaderboards."""
    table = {
        row: {column: (result.mean, result.ci95) for column, result in results.items()}
        for row, results in found.results.items()
    }
    ranks = sorted(average_ranks(table).items(), key=lambda pair: pair[1])
    return [
        Section(
            "Average rank",
            ["Over the data sets, 1 being the best. Those that the best is not significantly ahead of share its rank."],
            head=("learner", "average rank"),
            rows=[(name, f"{rank:.2f}") for name, rank in ranks],
        )
    ]
