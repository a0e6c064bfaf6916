"""Floor 6: a saved learner's README: what it is, what was measured, how it is used."""

from __future__ import annotations

from collections.abc import Sequence

from quickstudy.evaluate import Result
from quickstudy.evaluate.modelindex import model_index
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import Recipe
from quickstudy.recipes.write import to_toml

__all__ = ["model_card"]


def model_card(recipe: Recipe, learner: AbstractLearner, results: Sequence[Result], licence: str | None) -> str:
    """Markdown, with the header that the Hugging Face hub reads.

    Args:
        recipe: that it was trained by.
        learner: trained.
        results: what was measured; all are listed, in the header, too (``model-index``).
        licence: of the weights, None where nobody said.
    """
    head = ["---", "library_name: quickstudy", "tags:", "- meta-learning", "- few-shot-learning"]
    head += [f"- {recipe.learner.name}", *([] if licence is None else [f"license: {licence.lower()}"])]
    head += [model_index(recipe.name, results).rstrip()] if results else []
    head.append("---")
    traits = learner.traits
    weights = sum(parameter.numel() for parameter in learner.parameters())
    said = (learner.__class__.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    body = [
        f"# {recipe.name}",
        f"{said} A `{recipe.learner.name}` of quickstudy with {weights:,} weights, meta-trained on "
        f"{recipe.data.name} ({recipe.train.role}), seed {recipe.seed}.",
        "Predictions are transductive: each depends on the other queries beside it."
        if traits.transductive
        else "Predictions are inductive: each depends on the labelled examples and its own query alone.",
        *(["It assumes as many queries of each class."] if traits.balanced_prior else []),
        "## Measured",
        *([f"- {result} (source {result.source_hash[:12]})" for result in results] or ["Nothing was measured."]),
        "## Use",
        f"```python\n{_USE.format('Classifier' if 'classes' in traits.targets else 'Regressor')}\n```",
        "## Licence",
        "Nobody said; ask whoever gave it to you." if licence is None else f"{licence}.",
        "## Recipe",
        f"```toml\n{to_toml(recipe).rstrip()}\n```",
    ]
    return "\n\n".join(["\n".join(head), *body]) + "\n"


_USE = """from quickstudy import FewShot{0}

model = FewShot{0}(learner="this/folder").fit(X, y)
model.predict(new)"""
