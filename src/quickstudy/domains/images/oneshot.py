"""Floor 5: what is compared in the one-shot challenge: 20 runs within an alphabet, trained on other alphabets."""

from __future__ import annotations

from quickstudy.domains.images.hausdorff import Hausdorff
from quickstudy.domains.study import Column, Published, Rival, Study
from quickstudy.learners.knn import KNN

__all__ = ["one_shot"]

_LAKE = "Lake et al. 2015"


def one_shot() -> Study:
    """Trained on the 30 background alphabets; tested on Lake's 20 runs, which are of ten others."""
    return Study(
        name="one-shot",
        recipe="omniglot-runs-protonet-fast",
        plain="omniglot-runs-baseline-fast",
        also=("omniglot-runs-maml-fast", "omniglot-runs-in-context-fast"),
        rivals=(
            Rival("pixels + k-NN", lambda shape, training: KNN()),
            # As it was published, on drawings that are not shrunk.
            Rival("modified Hausdorff distance", lambda shape, training: Hausdorff(), data={"data.size": 105}),
        ),
        columns=(Column("20 runs, 20-way 1-shot, within an alphabet"),),
        episodes=20,
        published=(
            Published("people", 0.955, _LAKE),
            Published("Bayesian program learning", 0.967, f"{_LAKE}; it reads strokes of the background set, too"),
            Published("Siamese network", 0.920, "Koch, Zemel, Salakhutdinov 2015; it trained on 40 alphabets"),
            Published("modified Hausdorff distance", 0.612, "the demonstration beside the published runs"),
        ),
        notes=(
            "There are 20 runs, two of each of ten alphabets, and 400 queries: intervals are over the runs. Two runs "
            "of an alphabet have the same 20 characters, drawn by others.",
            "Trained on the background alphabets alone. Steps and rates are those of the omniglot-...-fast recipes, "
            "which were chosen on other classes; nothing was chosen on the runs.",
        ),
    )
